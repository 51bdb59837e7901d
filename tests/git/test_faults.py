from __future__ import annotations

import gzip
import importlib
import inspect
import socket
import threading
import time
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError, LivecfgError
from livecfg.git import wire
from livecfg.git.faults import foreign, translating
from livecfg.git.mirror import Mirror
from livecfg.git.pack import Entry, PackReader, object_id, write_pack
from livecfg.git.source import GitSource, Limits
from tests.simulator import ConfigRepo, Fault, GitDaemon, GitHttpServer, closed_port

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Limits(time_s=3.0, idle_s=1.0)  # good answers come in that time too, each from a process of its own
USED = ("client", "errors", "file", "object_store", "objects", "pack", "protocol", "refs", "repo")


def test_every_exception_of_the_dulwich_modules_we_use_is_translated() -> None:
    found = []
    for name in USED:
        module = importlib.import_module(f"dulwich.{name}")
        found += [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if issubclass(c, Exception) and c.__module__.startswith("dulwich")
        ]
    assert len(found) > 30
    unmapped = sorted({c.__name__ for c in found if not issubclass(c, foreign())})
    assert unmapped == []


def test_urllib3_and_the_system_are_translated_with_what_was_being_done() -> None:
    import urllib3.exceptions

    for error in (
        urllib3.exceptions.ReadTimeoutError(None, "u", "m"),
        OSError(28, "No space left"),
        zlib.error("x"),
        KeyError("k"),
    ):  # type: ignore[arg-type]
        with pytest.raises(FetchError, match=r"^reading it: "), translating("reading it"):
            raise error
    with pytest.raises(FetchError, match="the disk is full"), translating("x"):
        raise OSError(28, "No space left")
    with pytest.raises(ZeroDivisionError), translating("x"):
        raise ZeroDivisionError


@pytest.mark.parametrize("fault", list(Fault))
def test_a_bad_http_server_is_a_fetch_error_changes_nothing_and_recovery_needs_no_help(
    fault: Fault, repo: ConfigRepo, http: GitHttpServer, home: Path
) -> None:
    with Mirror(home, GitSource(http.url(repo.remote_path), limits=QUICK)) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        mirror.promote()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 8.0\n"})
        http.fault = fault
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(FetchError) as caught:
                mirror.fetch(first.tip)
            assert "http://127.0.0.1" in str(caught.value)
        assert time.monotonic() - began < 2 * QUICK.time_s + 4
        assert mirror.tip() == first.tip
        assert mirror.candidate(first.tip) is None
        http.fault = None
        second = mirror.fetch(first.tip)
        assert second is not None
        assert second.tip == tip


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.GARBAGE, Fault.HANG])
def test_a_bad_git_daemon_is_a_fetch_error_and_recovery_needs_no_help(
    fault: Fault, repo: ConfigRepo, daemon: GitDaemon, home: Path
) -> None:
    with Mirror(home, GitSource(daemon.url(repo.remote_path), limits=QUICK)) as mirror:
        daemon.fault = fault
        with pytest.raises(FetchError):
            mirror.fetch(None)
        daemon.fault = None
        assert mirror.fetch(None) is not None


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_port_nobody_listens_on_is_a_fetch_error(scheme: str, home: Path) -> None:
    source = GitSource(f"{scheme}://127.0.0.1:{closed_port()}/x.git", limits=QUICK)
    with Mirror(home, source) as mirror, pytest.raises(FetchError, match=r"127\.0\.0\.1.*refused"):
        mirror.fetch(None)


def test_an_ssh_program_that_fails_is_quoted(home: Path) -> None:
    source = GitSource(
        "git@example.test:x.git", ssh_command=("sh", "-c", "echo 'Host key verification failed.\x1b[2J' >&2; exit 255")
    )
    with Mirror(home, source) as mirror, pytest.raises(FetchError, match=r"Host key verification failed\.\\x1b") as caught:
        mirror.fetch(None)
    assert "\x1b" not in str(caught.value)


def test_a_slow_remote_is_cut_off_by_the_time_limit(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    http.fault = Fault.DRIP  # a byte every 50 ms: never idle, never done
    with Mirror(home, GitSource(http.url(repo.remote_path), limits=QUICK)) as mirror:
        began = time.monotonic()
        with pytest.raises(FetchError, match=r"LC102.*takes too long.*time_s"):
            mirror.fetch(None)
        assert time.monotonic() - began < QUICK.time_s + 2


CAPS = {
    "wire_bytes": Limits(wire_bytes=600),
    "objects": Limits(objects=3),
    "inflated_bytes": Limits(inflated_bytes=900),
    "object_bytes": Limits(object_bytes=200),
}


@pytest.mark.parametrize("name", CAPS)
@pytest.mark.parametrize("kind", ["http", "path"])
def test_a_cap_aborts_the_fetch_and_leaves_the_mirror_untouched(
    name: str, kind: str, repo: ConfigRepo, http: GitHttpServer, home: Path
) -> None:
    if kind == "path" and name in {"wire_bytes", "object_bytes"}:
        pytest.skip("no wire; an object over the cap is called corrupt there")
    url = http.url(repo.remote_path) if kind == "http" else str(repo.remote_path)
    with Mirror(home, GitSource(url, limits=CAPS[name])) as mirror:
        with pytest.raises(FetchError, match=f"LC102.*{name}"):
            mirror.fetch(None)
        assert mirror.tip() == ""
        assert not (mirror.folder / "mirror.git" / "objects").exists()


def nothing(name: str) -> tuple[str, bytes]:
    from livecfg.errors import MissingObjectError

    raise MissingObjectError(name)


def raw_pack(*bodies: bytes, count: int | None = None) -> bytes:
    import hashlib

    whole = b"PACK" + (2).to_bytes(4) + (len(bodies) if count is None else count).to_bytes(4) + b"".join(bodies)
    return whole + hashlib.sha1(whole, usedforsecurity=False).digest()


def header(kind: int, size: int) -> bytes:
    from livecfg.git.pack import _packed_header

    return _packed_header(kind, size)


BOMB = b"\0" * (4 << 20)


def deltas(depth: int) -> bytes:
    """A chain of deltas, each on the one before it."""
    bodies, content = [header(3, 100) + zlib.compress(b"x" * 100)], b"x" * 100
    size = len(bodies[0])
    for _ in range(depth):
        delta = b"\x64\x64\x90\x64"  # copy 100 bytes from the start
        body = header(6, len(delta)) + bytes([size]) + zlib.compress(delta)
        size = len(body)
        bodies.append(body)
    assert content
    return raw_pack(*bodies)


HOSTILE = {
    "empty": b"",
    "no pack": b"<html>" * 10,
    "version 9": b"PACK" + (9).to_bytes(4) + bytes(24),
    "count lies high": raw_pack(header(3, 1) + zlib.compress(b"x"), count=2),
    "count lies low": raw_pack(header(3, 1) + zlib.compress(b"x"), header(3, 1) + zlib.compress(b"y"), count=1),
    "absurd count": raw_pack(count=2**32 - 1),
    "size lies low": raw_pack(header(3, 1) + zlib.compress(b"xyz")),
    "size lies high": raw_pack(header(3, 9) + zlib.compress(b"xyz")),
    "inflate bomb": raw_pack(header(3, 10) + zlib.compress(BOMB)),
    "declared bomb": raw_pack(header(3, 1 << 40) + zlib.compress(BOMB)),
    "sum of many": raw_pack(*[header(3, 1 << 20) + zlib.compress(bytes([n]) * (1 << 20)) for n in range(40)]),
    "absurd size": raw_pack(b"\xbf" + b"\xff" * 30 + b"\x01"),
    "unknown type": raw_pack(header(5, 1) + zlib.compress(b"x")),
    "type 0": raw_pack(header(0, 1) + zlib.compress(b"x")),
    "delta on nothing": raw_pack(header(7, 4) + b"\1" * 20 + zlib.compress(b"\1\1\1x")),
    "delta before the pack": raw_pack(header(6, 4) + b"\x7f" + zlib.compress(b"\1\1\1x")),
    "delta on itself": raw_pack(header(6, 4) + b"\x00" + zlib.compress(b"\1\1\1x")),
    "deep deltas": deltas(300),
    "delta makes a bomb": raw_pack(
        header(3, 1) + zlib.compress(b"x"), header(6, 11) + b"\x0a" + zlib.compress(b"\x01\x80\x80\x80\x80\x10\x01x")
    ),
    "not deflate": raw_pack(header(3, 5) + b"hello world"),
    "trailing bytes": raw_pack(header(3, 1) + zlib.compress(b"x"), b"tail", count=1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pack_is_a_fetch_error(case: str) -> None:
    limits = Limits(inflated_bytes=32 << 20, object_bytes=2 << 20)
    with pytest.raises(FetchError):
        PackReader(HOSTILE[case], limits, nothing).read()  # type: ignore[arg-type]


def test_every_truncation_and_every_flipped_byte_of_a_pack_is_a_fetch_error() -> None:
    entries = [Entry(object_id("blob", t), "blob", t) for t in (b"a: 1\n", b"b: 2\n" * 20)]
    good, _ = write_pack(entries)
    assert len(PackReader(good, Limits(), nothing).read()) == 2  # type: ignore[arg-type]
    for cut in range(len(good)):
        with pytest.raises(FetchError):
            PackReader(good[:cut], Limits(), nothing).read()  # type: ignore[arg-type]
        flipped = good[:cut] + bytes([good[cut] ^ 0x41]) + good[cut + 1 :]
        with pytest.raises(FetchError):
            PackReader(flipped, Limits(), nothing).read()  # type: ignore[arg-type]


def test_a_remote_that_leaves_an_object_out_is_found_out_before_anything_is_kept(home: Path, repo: ConfigRepo) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        have = mirror.tip()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 8.0\n"})
        commit = repo.raw(tip)
        pack, _ = write_pack([Entry(tip, "commit", commit)])
        with pytest.raises(FetchError, match="left out tree"):
            mirror.accept_pack(pack, tip)
        assert mirror.tip() == have
        blob = repo.git("rev-parse", f"{tip}:config/checkout/base.yaml")
        pack, _ = write_pack([Entry(tip, "commit", commit), Entry(blob, "blob", repo.raw(blob, "blob"))])
        with pytest.raises(FetchError, match="left out"):
            mirror.accept_pack(pack, tip)
        assert mirror.fetch(have) is not None


REF_LINE = wire.packet(b"a" * 40 + b" refs/heads/main\n")


def ref_in(answer: bytes) -> str:
    return wire.read_ref(wire.packets(wire.Buffer(answer).read), wire.Capabilities(), "refs/heads/main")


def test_a_list_of_refs_that_is_cut_short_anywhere_is_a_fetch_error() -> None:
    whole = wire.packet(b"b" * 40 + b" refs/heads/ma\n") + REF_LINE + wire.FLUSH
    assert ref_in(whole) == "a" * 40
    for cut in range(len(whole) - len(wire.FLUSH)):
        with pytest.raises(FetchError):
            ref_in(whole[:cut])
    for cut in range(len(whole)):
        with pytest.raises(FetchError):
            wire.read_advertised(wire.Buffer(whole[:cut]).read, "refs/heads/main")


@pytest.mark.parametrize(
    "line", [b"", b"x refs/heads/main\n", b"A" * 40 + b" refs/heads/main\n", b"a" * 64 + b" refs/heads/main\n"]
)
def test_a_ref_that_names_no_object_id_is_never_believed(line: bytes) -> None:
    answer = wire.packet(line) + wire.FLUSH if line else b"0003" + wire.FLUSH
    with pytest.raises(FetchError):
        ref_in(answer)


def test_a_ref_of_a_similar_name_is_not_the_wanted_one() -> None:
    answer = wire.packet(b"b" * 40 + b" refs/heads/main2\n") + REF_LINE + wire.FLUSH
    assert ref_in(answer) == "a" * 40


def test_a_list_of_refs_without_ids_is_refused_at_its_first_line() -> None:
    """Lines of a byte would make a list under its cap cost ten times as many steps."""
    for answer in (wire.packet(b"x") * 3 + wire.FLUSH, wire.packet(b"\n") + wire.FLUSH):
        with pytest.raises(FetchError, match="names no object id"):
            ref_in(answer)
        with pytest.raises(FetchError, match="names no object id"):
            wire.read_advertised(wire.Buffer(answer).read, "refs/heads/main")


GOOD_URLS = [
    "https://h/x.git",
    "http://h:8080/x",
    "ssh://git@h:22/x",
    "git@h:org/x.git",
    "git://h/x",
    "file:///srv/x.git",
    "/srv/x.git",
]
BAD_URLS = [
    "",
    "x",
    "./x",
    "ftp://h/x",
    "https://user:pw@h/x",
    "https://token@h/x",
    "ssh://-oProxyCommand=x/y",
    "-oProxyCommand=x:y",
    "https:///x",
    "https://h/x?y",
    "https://h/x\n",
    "ext::sh -c x",
    "https://h:99999/x",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_usable_url_is_accepted(url: str) -> None:
    assert GitSource(url).folder


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_unusable_or_dangerous_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(LivecfgError, match=r"^source: "):
        GitSource(url)


@pytest.mark.parametrize("ref", ["", "a..b", "-x", "a b", "x.lock", "refs/tags/v1", "a//b", "x/", "@{0}", "a\n"])
def test_an_unusable_ref_is_refused_at_once(ref: str) -> None:
    with pytest.raises(LivecfgError, match=r"^source: "):
        GitSource("/srv/x.git", ref)


def test_a_pushed_pack_does_not_wait_for_a_hanging_remote(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    import threading

    with Mirror(home, GitSource(http.url(repo.remote_path), limits=Limits(time_s=60, idle_s=60))) as mirror:
        mirror.fetch(None)
        have = mirror.tip()
        with Mirror(home / "hub", GitSource(str(repo.remote_path))) as hub:
            tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 8.0\n"})
            hub.fetch(None)
            pack = hub.build_pack(have, tip)
        http.fault = Fault.HANG
        seen = len(http.requests)
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(getattr(mirror.fetch(have), "tip", "")))
        thread.start()
        while len(http.requests) == seen:
            socket.create_connection(("127.0.0.1", http.port)).close()
        mirror.accept_pack(pack, tip)
        thread.join(10)
        assert found == [tip]


def test_progress_that_nobody_asked_for_is_cut_short() -> None:
    answer = wire.packet(b"packfile\n") + wire.packet(b"\x02" + b"x" * 65_000) * 100 + wire.FLUSH
    with pytest.raises(FetchError, match="progress"):
        wire.read_pack_answer(wire.Buffer(answer).read, Limits())


def test_an_answer_in_an_encoding_that_was_not_asked_for_is_not_unpacked(home: Path) -> None:
    """64 MiB in 64 KiB: unpacked a chunk at a time, each chunk is a thousand times as large."""
    bomb = gzip.compress(b"0" * (64 << 20))

    class Packing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(bomb)))
            self.end_headers()
            self.wfile.write(bomb)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Packing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/repo.git"
        with Mirror(home, GitSource(url, limits=Limits(time_s=10.0))) as mirror:
            tracemalloc.start()
            try:
                with pytest.raises(FetchError, match="does not speak Git"):
                    mirror.fetch(None)
                assert tracemalloc.get_traced_memory()[1] < 16 << 20
            finally:
                tracemalloc.stop()
        thread.join(10)
