"""The hub over real gRPC on loopback: offers, reports, the fleet, and all the ways in which it can be gone or lie."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pydantic import BaseModel

from livecfg import Condition, GitSource, LiveConfig, Snapshot
from livecfg.hub import fleet as fleet_module
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import ANYBODY, Credential
from livecfg.hub.fleet import Fleet, Host
from livecfg.hub.link import HubLink
from livecfg.hub.offers import Offers
from livecfg.hub.places import Places
from livecfg.hub.report import as_data, clean
from livecfg.hub.stores import open_store
from livecfg.trust.root import Good
from tests.simulator import ConfigRepo, GitHttpServer, make_tls
from tests.simulator.memory import MemoryRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

BASE = "config/checkout/base.yaml"


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


def wait_until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        pause.wait(0.01)


class Hub:
    """A `livecfg hub serve` process."""

    more: Sequence[str] = ()

    def __init__(self, repo: ConfigRepo, folder: Path, listen: str = "127.0.0.1:0") -> None:
        self.repo = repo
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "root.yaml").write_bytes(repo.trusted_root)
        self.ready = folder / "ready"
        self.start(listen)

    def start(self, listen: str) -> None:
        self.ready.unlink(missing_ok=True)
        words = ["--source", str(self.repo.remote_path), "--trusted-root", str(self.folder / "root.yaml"), "--listen", listen]
        words += ["--home", str(self.folder / "home"), "--ready-file", str(self.ready), *self.more]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "livecfg", "hub", "serve", *words], stderr=log, stdout=log)
        wait_until(lambda: self.ready.exists() or self.process.poll() is not None)
        assert self.ready.exists(), (self.folder / "log").read_text()
        self.address = self.ready.read_text().strip()

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(15)

    def fleet(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "livecfg", "fleet", *words, "--hub", self.address]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any]:
        done = self.fleet("status", "-o", "json")
        assert done.returncode in {0, 1}, done.stderr
        found = json.loads(done.stdout)
        assert found["ok"] is (done.returncode == 0)
        data: dict[str, Any] = found["data"]
        return data


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.person("ana@acme")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"})
    repo.push()
    return repo


@pytest.fixture
def hub(repo: ConfigRepo, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(repo, tmp_path / "hub")
    yield hub
    hub.stop()


def live_config(repo: ConfigRepo, url: str, home: Path, hub: str, poll_s: float = 600) -> LiveConfig[Config]:
    return LiveConfig(
        Config,
        source=GitSource(url=url),
        trusted_root=repo.trusted_root,
        service="checkout",
        env="prod",
        home=home,
        hub=hub,
        poll_interval_s=poll_s,
    )


def set_timeout(repo: ConfigRepo, value: object) -> str:
    return repo.publish({BASE: f"timeout_ms: {value}\n"})


def test_an_offer_brings_the_objects_so_that_git_is_not_asked(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(GitHttpServer(repo.path))
        with live_config(repo, server.url(repo.remote_path), tmp_path / "home", hub.address) as live:
            wait_until(lambda: live.status.hub == "streaming")
            stack.close()  # from here on only the hub can bring anything
            assert live.wait_for(set_timeout(repo, 5), 15).config.timeout_ms == 5
            assert live.wait_for(set_timeout(repo, 6), 15).config.timeout_ms == 6


def test_fleet_status_names_every_process_and_wait_returns_when_all_have_switched(
    repo: ConfigRepo, hub: Hub, tmp_path: Path
) -> None:
    url = str(repo.remote_path)
    with live_config(repo, url, tmp_path / "a", hub.address) as a, live_config(repo, url, tmp_path / "b", hub.address):
        a.wait_for(repo.tip())
        wait_until(lambda: len(hub.status()["processes"]) == 2)
        wanted = set_timeout(repo, 5)
        done = hub.fleet("wait", "--rev", wanted, "--timeout", "20")
        assert done.returncode == 0, done.stderr
        assert "2 processes serve" in done.stdout
        processes = hub.status()["processes"]
        assert {p["applied"] for p in processes} == {wanted}
        assert {p["service"] for p in processes} == {"checkout"}
        assert {p["pid"] for p in processes} == {os.getpid()}


def test_fleet_wait_for_what_is_behind_every_process_by_now_succeeds(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    older, newer = set_timeout(repo, 5), set_timeout(repo, 6)
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as a:
        a.wait_for(newer)
        for rev in (older, older[:8].upper(), repo.tip("HEAD~2")):
            done = hub.fleet("wait", "--rev", rev, "--timeout", "20")
            assert done.returncode == 0, done.stderr
        unknown = hub.fleet("wait", "--rev", "deadbeef", "--timeout", "2")
        assert unknown.returncode == 6
        assert "timed out after 2 s; the hub knows no such commit (yet); not there yet: checkout/prod pid" in unknown.stderr
        soon = repo.commit({BASE: "timeout_ms: 7\n"})  # the hub does not know it yet
        waiting = subprocess.Popen([sys.executable, "-m", "livecfg", "fleet", "wait", "--rev", soon, "--hub", hub.address])
        newest = repo.publish({BASE: "timeout_ms: 8\n"})
        a.wait_for(newest)
        assert waiting.wait(30) == 0


def test_places_are_found_again_after_a_force_push_and_above_the_end_of_a_shallow_mirror() -> None:
    repo = MemoryRepo()
    first = repo.found(["ana@acme"], [], {})
    second = repo.commit({BASE: b"a: 2\n"}, on=[first], by="ana@acme")
    places, good = Places("main"), Good(second, "", 41, 0, "")

    def place(tip: str, rev: str) -> tuple[str, int]:
        found = places.find(repo, tip, good, rev)
        return found.commit, found.position

    third = repo.commit({BASE: b"a: 3\n"}, on=[second], by="ana@acme")
    assert place(second, third[:7]) == ("", 0)
    assert place(third, third[:7]) == (third, 42)
    other = repo.commit({BASE: b"a: 4\n"}, on=[second], by="ana@acme")
    assert place(other, other) == (other, 42)
    assert place(other, third) == ("", 0)
    del repo.objects[first]
    assert place(third, second[:9]) == (second, 41)
    assert places.find(repo, third, None, third).position == -1


def test_fleet_wait_times_out_with_the_names_of_the_stragglers(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address):
        wait_until(lambda: hub.status()["processes"])
        refused = set_timeout(repo, "fast")
        done = hub.fleet("wait", "--rev", refused, "--timeout", "3")
        assert done.returncode == 6
        assert f"checkout/prod pid {os.getpid()}" in done.stderr
        assert f"refused it: {BASE}:1:13 LC202 " in done.stderr
        wait_until(lambda: hub.status()["processes"][0]["condition"] == "REFUSED")
        shown = hub.fleet("status")
        assert (shown.returncode, "0 of 1 processes serve it" in shown.stdout) == (1, True)
        (refusal,) = hub.status()["processes"][0]["refusals"]
        assert (refusal["code"], refusal["path"], refusal["line"], refusal["commit"]) == ("LC202", BASE, 1, refused)


def test_without_a_hub_the_command_says_so_and_exits_4() -> None:
    command = [sys.executable, "-m", "livecfg", "fleet", "status", "--hub", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr


def test_a_hub_that_is_down_changes_nothing_and_is_followed_again_when_it_is_back(
    repo: ConfigRepo, hub: Hub, tmp_path: Path
) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as live:
        wait_until(lambda: live.status.hub == "streaming")
        hub.stop(signal.SIGKILL)
        assert live.wait_for(set_timeout(repo, 5), 15).config.timeout_ms == 5
        wait_until(lambda: live.status.hub == "connecting")
        hub.start(hub.address)
        wait_until(lambda: live.status.hub == "streaming")
        wait_until(lambda: [p["applied"] for p in hub.status()["processes"]] == [repo.tip()])


def test_an_unsigned_commit_that_the_hub_offers_is_refused_by_everybody(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as live:
        wait_until(lambda: live.status.hub == "streaming")
        repo.commit({BASE: "timeout_ms: 666\n"}, signed=False)
        repo.push()
        wait_until(lambda: live.status.condition is Condition.REFUSED)
        assert live.current.config.timeout_ms == 1
        wait_until(lambda: "LC301" in hub.fleet("status").stdout)  # the hub offers first, and judges then


def test_a_pack_of_garbage_from_a_hub_is_dropped(repo: ConfigRepo, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", "") as live:
        link = live._follower()._link
        link._offer("f" * 40, b"PACK\0\0\0\2garbage")  # type: ignore[attr-defined]
        assert "cannot be used" in caplog.text
        assert live.wait_for(set_timeout(repo, 5), 15).config.timeout_ms == 5


def test_a_hub_that_goes_on_offering_what_nobody_signed_does_not_put_off_the_next_question_to_git(
    repo: ConfigRepo, tmp_path: Path
) -> None:
    good = repo.tip()
    forged = [repo.commit({BASE: f"timeout_ms: {n}\n"}, signed=False) for n in range(2)]
    packs = {tip: git_pack(repo, tip, good) for tip in forged}
    repo.reset(good)
    with GitHttpServer(repo.path) as server, live_config(repo, server.url(repo.remote_path), tmp_path / "a", "", 1.5) as live:
        wanted, applied, stop = set_timeout(repo, 77), threading.Event(), threading.Event()

        def lie() -> None:
            """One offer at a time, more often than the host would ask Git."""
            for tip in itertools.cycle(forged):
                live._follower()._link._offer(tip, packs[tip])  # type: ignore[attr-defined]
                if stop.wait(0.3):
                    return

        @live.on_change()
        def switched(_old: object, new: Snapshot[Config]) -> None:
            if new.config.timeout_ms == 77:
                applied.set()

        liar = threading.Thread(target=lie)
        liar.start()
        try:
            assert applied.wait(20), live.status
        finally:
            stop.set()
            liar.join()
        assert live.wait_for(wanted, 10).config.timeout_ms == 77


def test_what_the_hub_brings_costs_no_question_to_git(repo: ConfigRepo, tmp_path: Path) -> None:
    with GitHttpServer(repo.path) as server, live_config(repo, server.url(repo.remote_path), tmp_path / "a", "") as live:
        link = live._follower()._link
        before = len(server.requests)

        def stored() -> list[str]:
            """The mirror's tip, once the disk is written, behind the swap."""
            return [p.read_text().strip() for p in (tmp_path / "a").glob("*/mirror.git/refs/livecfg/tip")]

        for number in range(5):
            have, tip = repo.remote_tip(), set_timeout(repo, 10 + number)
            link._offer(tip, git_pack(repo, tip, have))  # type: ignore[attr-defined]
            live.wait_for(tip)
            wait_until(lambda wanted=tip: stored() == [wanted])  # type: ignore[misc]
        threading.Event().wait(0.5)  # time to notice the last change of the mirror
        assert server.requests[before:] == []


def test_what_is_too_large_for_an_offer_is_had_from_the_hub_and_not_from_git(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with (
        GitHttpServer(repo.path) as server,
        live_config(repo, server.url(repo.remote_path), tmp_path / "a", hub.address) as live,
    ):
        assert live.current.config.timeout_ms == 1
        wait_until(lambda: live.status.hub == "streaming")
        live.wait_for(set_timeout(repo, 4), 30)  # all that a start asks of Git has been asked
        before = len(server.requests)
        large = os.urandom(wire.INLINE_PACK_BYTES * 5 // 4).hex()  # half of it when it is packed
        commit = repo.publish({BASE: "timeout_ms: 5\n", "models/large.txt": large})
        assert live.wait_for(commit, 30).config.timeout_ms == 5
        assert server.requests[before:] == []
        wait_until(lambda: len(repo.git("rev-parse", commit, at=next((tmp_path / "a").glob("*/mirror.git")))) > 0)


def git_pack(repo: ConfigRepo, tip: str, have: str) -> bytes:
    """The objects of `tip` that `have` lacks, packed by git."""
    command = ["git", "-C", str(repo.work), "pack-objects", "--revs", "--stdout", "-q"]
    return subprocess.run(command, input=f"{tip}\n^{have}\n".encode(), capture_output=True, check=True).stdout


def test_a_hub_of_another_repository_is_not_followed(hub: Hub) -> None:
    offers: list[str] = []
    link = HubLink(hub.address, repo_id="0" * 32, ref="main", have=str, offer=lambda tip, _: offers.append(tip))
    try:
        pause = threading.Event()
        pause.wait(1.0)
        assert link.state == "connecting"
        assert offers == []
    finally:
        link.close()


def test_closing_a_link_is_quick_even_when_nobody_answers() -> None:
    link = HubLink("127.0.0.1:1", repo_id="0" * 32, ref="main", have=str, offer=lambda *_: None)
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 1.5


def test_a_hub_that_floods_its_hosts_is_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livecfg.hub.link._MESSAGES_PER_S", 20.0)
    monkeypatch.setattr("livecfg.hub.link._BURST_S", 1.0)
    flood = hub_pb2.Offer(heartbeat=True, tip="a" * 40, statement=b"signed").SerializeToString()
    handler = grpc.stream_stream_rpc_method_handler(lambda _requests, _context: itertools.repeat(flood))
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, {"Follow": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    heard: list[float] = []
    address = f"127.0.0.1:{port}"
    began = time.monotonic()
    link = HubLink(
        address, repo_id="0" * 32, ref="main", have=str, offer=lambda *_: None, attest=lambda _: heard.append(time.monotonic())
    )
    try:
        wait_until(lambda: len(heard) > 40)
        assert len(heard) <= 20 * (time.monotonic() - began + 1.0) + 2
    finally:
        link.close()
        server.stop(0).wait()


def test_a_hub_drains_on_sigterm_and_keeps_what_it_knew(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address):
        wait_until(lambda: hub.status()["processes"])
    began = time.monotonic()
    assert hub.stop() == 0
    assert time.monotonic() - began < 10


def test_with_a_token_only_those_who_have_it_are_served(
    repo: ConfigRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECFG_HUB_TOKEN", "s3cret")
    hub = Hub(repo, tmp_path / "hub")
    try:
        with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as live:
            wait_until(lambda: live.status.hub == "streaming")
            wait_until(lambda: hub.status()["processes"])
        monkeypatch.setenv("LIVECFG_HUB_TOKEN", "wrong")
        refused = hub.fleet("status")
        assert (refused.returncode, "unauthenticated" in refused.stderr) == (4, True)
    finally:
        hub.stop()


def test_tls_is_checked_against_the_given_authority(repo: ConfigRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_tls(tmp_path / "tls")
    (tmp_path / "hub").mkdir()
    hub = Hub.__new__(Hub)
    hub.repo, hub.folder, hub.ready = repo, tmp_path / "hub", tmp_path / "hub/ready"
    hub.more = ["--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
    (hub.folder / "root.yaml").write_bytes(repo.trusted_root)
    hub.start("127.0.0.1:0")
    monkeypatch.setenv("LIVECFG_HUB_CA", str(made.authority))
    try:
        with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as live:
            wait_until(lambda: live.status.hub == "streaming")
            wait_until(lambda: hub.status()["tip"] == repo.tip())  # it takes streams before it has asked its remote
    finally:
        hub.stop()


def test_a_process_that_stopped_is_not_waited_for(repo: ConfigRepo, hub: Hub, tmp_path: Path) -> None:
    with live_config(repo, str(repo.remote_path), tmp_path / "a", hub.address) as live:
        with live_config(repo, str(repo.remote_path), tmp_path / "b", hub.address):
            wait_until(lambda: len(hub.status()["processes"]) == 2)
        wait_until(lambda: len(hub.status()["processes"]) == 1)
        wanted = set_timeout(repo, 9)
        live.wait_for(wanted)
        assert hub.fleet("wait", "--rev", wanted, "--timeout", "20").returncode == 0


class OnePack:
    """A packer that can be held."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def build_pack(self, have: str, tip: str) -> bytes:
        self.go.wait(10)
        return have.encode() + tip.encode()


def test_a_stream_that_ends_while_an_offer_is_made_takes_it_from_nobody() -> None:
    async def main() -> bytes:
        packer = OnePack()
        offers = Offers(packer)
        first = asyncio.create_task(offers.offer("a", "b"))
        second = asyncio.create_task(offers.offer("a", "b"))
        await asyncio.sleep(0)
        first.cancel()
        packer.go.set()
        return await asyncio.wait_for(second, 10)

    assert hub_pb2.Offer.FromString(asyncio.run(main())).pack == b"ab"


def a_report(*boots: str, service: str = "checkout") -> hub_pb2.Report:
    return hub_pb2.Report(processes=[hub_pb2.Process(boot=boot, alive=True, service=service) for boot in boots])


def test_a_store_that_fails_once_is_written_later() -> None:
    async def main() -> list[hub_pb2.Process]:
        store = open_store("sqlite://")
        fleet = Fleet(store)
        fleet.take(a_report("a"), Host(ANYBODY, "h", ""), 1000.0)
        put, store.put = store.put, None  # type: ignore[assignment, method-assign]
        with pytest.raises(TypeError):
            await fleet.flush(1000.0)
        store.put = put  # type: ignore[method-assign]
        await fleet.flush(1000.0)
        return store.all()

    assert [p.boot for p in asyncio.run(main())] == ["a"]


def test_what_changed_is_written_by_parts_and_what_failed_is_written_later() -> None:
    async def main() -> tuple[int, int]:
        store = open_store("sqlite://")
        fleet = Fleet(store)
        for host in range(3):
            fleet.take(a_report(*(f"{host}-{n}" for n in range(500))), Host(ANYBODY, f"{host}", ""), 1000.0)
        put, calls = store.put, itertools.count()

        def fails_in_between(processes: Iterable[hub_pb2.Process]) -> None:
            if next(calls) == 1:
                raise OSError("the disk is full")
            put(processes)

        store.put = fails_in_between  # type: ignore[method-assign]
        with pytest.raises(OSError, match="full"):
            await fleet.flush(1000.0)
        written = len(store.all())
        await fleet.flush(1000.0)
        return written, len(store.all())

    assert asyncio.run(main()) == (500, 1500)


def test_a_report_of_another_hosts_process_is_dropped() -> None:
    async def main() -> tuple[list[tuple[str, str]], int]:
        fleet = Fleet(open_store("sqlite://"))
        mine, thief = Credential("mine", frozenset(("agent",))), Credential("thief", frozenset(("agent",)))
        fleet.take(a_report("a"), Host(mine, "h", ""), 1.0)
        fleet.take(a_report("a", "b"), Host(thief, "h", ""), 2.0)  # another credential, the same name
        fleet.take(a_report("a"), Host(mine, "g", ""), 3.0)  # the same credential, another host
        fleet.take(a_report("a"), Host(mine, "h", ""), 4.0)  # the host itself, on a new stream
        return [(p.boot, p.credential) for p in fleet.find("", "", ANYBODY)], fleet.rejected

    assert asyncio.run(main()) == ([("a", "mine"), ("b", "thief")], 2)


def test_a_credential_has_so_many_processes_and_the_lost_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_OF_ONE_MOST", 3)
    store = open_store("sqlite://")

    async def main() -> tuple[list[str], list[str], int]:
        fleet = Fleet(store)
        one, other = (Credential(name, frozenset(("agent",))) for name in ("one", "other"))
        steady = Host(one, "steady", "")
        fleet.take(a_report("a", "b"), steady, 1.0)
        for number in range(5):  # under ever new names
            passing = Host(one, f"h{number}", "")
            fleet.take(a_report(f"p{number}"), passing, 2.0)
            await fleet.flush(2.0)
            fleet.lost(passing)
        fleet.take(a_report("x", "y", "z"), Host(other, "h", ""), 3.0)
        seen = [p.boot for p in fleet.find("", "", ANYBODY)]
        fleet.take(a_report("a", "b", "c"), steady, 4.0)
        fleet.take(a_report("d"), Host(one, "late", ""), 5.0)  # all of its three are there
        fleet.take(a_report("a", "b"), steady, 6.0)
        fleet.take(a_report("d"), Host(one, "late", ""), 7.0)
        await fleet.flush(7.0)
        return seen, [p.boot for p in fleet.find("", "", ANYBODY)], fleet.rejected

    seen, then, rejected = asyncio.run(main())
    assert sorted(seen) == ["a", "b", "p4", "x", "y", "z"]
    assert sorted(then) == sorted(p.boot for p in store.all()) == ["a", "b", "d", "x", "y", "z"]
    assert rejected == 1


def test_a_credential_with_a_service_reports_and_sees_that_service_only() -> None:
    async def main() -> tuple[list[str], list[str]]:
        fleet = Fleet(open_store("sqlite://"))
        scoped = Credential("c", frozenset(("agent",)), service="checkout")
        host = Host(scoped, "h", "")
        fleet.take(a_report("a"), host, 1.0)
        fleet.take(a_report("b", service="search"), host, 1.0)
        fleet.take(a_report("c", service="search"), Host(ANYBODY, "i", ""), 1.0)
        return [p.boot for p in fleet.find("", "", ANYBODY)], [p.boot for p in fleet.find("", "", scoped)]

    # The second report of the same host replaces its first.
    assert asyncio.run(main()) == (["c"], [])


def test_a_host_that_came_back_on_a_new_stream_is_not_lost_with_the_old_one() -> None:
    async def main() -> dict[str, int]:
        fleet = Fleet(open_store("sqlite://"))
        old, new = Host(ANYBODY, "h", ""), Host(ANYBODY, "h", "")
        report = a_report("a")
        report.processes[0].condition = "READY"
        fleet.take(report, old, 1.0)
        fleet.take(report, new, 2.0)
        fleet.lost(old)
        still = fleet.conditions()
        fleet.lost(new)
        return still | {"then " + name: count for name, count in fleet.conditions().items()}

    assert asyncio.run(main()) == {"READY": 1, "then LOST": 1}


def test_text_of_a_hostile_sender_is_made_printable_on_both_sides() -> None:
    process = hub_pb2.Process(boot="a", reason="\x1b]0;pwned\x07", overrides=["\u202e"], labels={"\x1b": "\x07"})
    process.refusals.add(message="\x1b[2J")
    clean(process)
    assert "\x1b" not in str(as_data(process))
    assert (process.reason, process.refusals[0].message) == ("\\x1b]0;pwned\\x07", "\\x1b[2J")
    assert dict(process.labels) == {"\\x1b": "\\x07"}


def test_a_report_that_is_all_lists_costs_little_and_little_of_it_is_kept() -> None:
    """Of the four MiB that a message may have: two million refusals, half a million labels, one text, fields of the future."""
    fleet = Fleet(open_store("sqlite://"))

    async def taken(process: hub_pb2.Process) -> tuple[float, int]:
        report = hub_pb2.Report.FromString(hub_pb2.Report(processes=[process]).SerializeToString())
        started = time.process_time()
        (kept,) = fleet.take(report, Host(ANYBODY, "h", ""), 1.0)
        return time.process_time() - started, kept.ByteSize()

    refusals = hub_pb2.Process(boot="a", alive=True)
    refusals.MergeFromString(hub_pb2.Process(refusals=[hub_pb2.Refusal()]).SerializeToString() * 1_000_000)
    labels = hub_pb2.Process(boot="b", alive=True, labels={str(i): "" for i in range(200_000)})
    texts = hub_pb2.Process(boot="c", alive=True, reason="\u202e" * 1_300_000)
    unknown = hub_pb2.Process.FromString(b"\x0a\x01d\xfa\x7f\x80\x80\x80\x01" + b"x" * (2 << 20))
    unknown.alive = True
    for process in (refusals, labels, texts, unknown):
        spent_s, kept_bytes = asyncio.run(taken(process))
        assert kept_bytes < 50_000, process.boot
        assert spent_s < 0.2, process.boot


def test_beyond_loopback_a_hub_wants_tls(repo: ConfigRepo, tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_bytes(repo.trusted_root)
    words = ["--source", str(repo.remote_path), "--trusted-root", str(tmp_path / "root.yaml"), "--home", str(tmp_path / "h")]
    command = [sys.executable, "-m", "livecfg", "hub", "serve", *words, "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--tls-cert" in done.stderr
