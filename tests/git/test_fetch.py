from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from livecfg.errors import FetchError, MissingObjectError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource, Limits
from livecfg.git.store import Store
from tests.simulator import ConfigRepo, GitDaemon, GitHttpServer

if TYPE_CHECKING:
    from livecfg.git.pack import Content

TRANSPORTS = ("http", "daemon", "path", "file", "ssh")


@pytest.fixture(params=TRANSPORTS)
def source(request: pytest.FixtureRequest, repo: ConfigRepo, http: GitHttpServer, daemon: GitDaemon, tmp_path: Path) -> GitSource:
    """The same remote over each transport; ssh with a stand-in for the program that runs the command here."""
    kind = request.param
    if kind == "http":
        return GitSource(http.url(repo.remote_path))
    if kind == "daemon":
        return GitSource(daemon.url(repo.remote_path))
    if kind == "ssh":
        script = tmp_path / "ssh.sh"
        script.write_text('for last in "$@"; do :; done; exec sh -c "$last"\n')
        return GitSource(f"ssh://git@example.test{repo.remote_path}", ssh_command=("sh", str(script)))
    return GitSource(f"file://{repo.remote_path}" if kind == "file" else str(repo.remote_path))


def fsck(path: Path) -> None:
    done = subprocess.run(["git", "-C", str(path), "fsck", "--strict", "--full"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_first_fetch_brings_the_tip_and_everything_below_it(repo: ConfigRepo, home: Path, source: GitSource) -> None:
    with Mirror(home, source) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == repo.remote_tip()
        assert candidate.ref == "main"
        raw = candidate.objects.read(candidate.tip, "commit")
        assert raw == repo.raw(candidate.tip)
        for line in repo.git("ls-tree", "-r", "-t", candidate.tip).splitlines():
            _, kind, rest = line.split(" ", 2)
            name = rest.partition("\t")[0]
            assert candidate.objects.read(name, kind) == repo.raw(name, kind)  # type: ignore[arg-type]
        mirror.promote()
        fsck(mirror.folder / "mirror.git")
        assert mirror.fetch(candidate.tip) is None


def test_a_new_commit_is_fetched_and_found_again_after_a_restart(repo: ConfigRepo, home: Path, source: GitSource) -> None:
    with Mirror(home, source) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        second = mirror.fetch(first.tip)
        assert second is not None
        assert second.tip == tip
        mirror.promote()
    with Mirror(home, source) as mirror:
        again = mirror.candidate(None)
        assert again is not None
        assert again.tip == tip
        assert again.objects.read(tip, "commit") == repo.raw(tip)
        fsck(mirror.folder / "mirror.git")


def test_a_force_push_is_taken_as_it_is_and_deletes_nothing(repo: ConfigRepo, home: Path, source: GitSource) -> None:
    root = repo.tip()
    good = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    with Mirror(home, source) as mirror:
        mirror.fetch(None)
        mirror.promote()
        repo.reset(root)
        forced = repo.commit({"config/checkout/base.yaml": "payment_timeout_s: 9.0\n"})
        repo.push(force=True)
        candidate = mirror.fetch(good)
        assert candidate is not None
        assert candidate.tip == forced
        repo.force_push(root)
        back = mirror.fetch(good)
        assert back is not None
        assert back.tip == root
        mirror.promote()
        assert mirror.objects.read(good, "commit") == repo.raw(good)


def test_many_commits_and_a_merge_arrive_in_one_fetch(repo: ConfigRepo, home: Path, source: GitSource) -> None:
    with Mirror(home, source) as mirror:
        mirror.fetch(None)
        mirror.promote()
        repo.branch("side")
        for number in range(3):
            repo.commit({f"config/checkout/{number}.yaml": f"a: {number}\n"})
        repo.switch("main")
        repo.commit({"config/checkout/base.yaml": "payment_timeout_s: 4.0\n"})
        tip = repo.merge("side")
        repo.push()
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == tip
        mirror.promote()
        fsck(mirror.folder / "mirror.git")


def test_a_branch_the_remote_does_not_have_is_a_clear_error(home: Path, source: GitSource) -> None:
    other = GitSource(source.url, "nowhere", ssh_command=source.ssh_command)
    with Mirror(home, other) as mirror, pytest.raises(FetchError, match="has no branch nowhere"):
        mirror.fetch(None)


def test_a_sha256_repository_is_mirrored_as_one(tmp_path: Path, home: Path) -> None:
    repo = ConfigRepo(tmp_path / "up256", object_format="sha256")
    repo.found({"a.yaml": "a: 1\n"})
    with GitHttpServer(repo.path) as server, Mirror(home, GitSource(server.url(repo.remote_path))) as mirror:
        mirror.fetch(None)
        tip = repo.publish({"a.yaml": "a: 2\n"})
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == tip
        assert len(tip) == 64
        mirror.promote()
        fsck(mirror.folder / "mirror.git")


def test_a_server_of_an_old_protocol_version_is_spoken_to_all_the_same(repo: ConfigRepo, home: Path) -> None:
    with GitHttpServer(repo.path, old_protocol=True) as server, Mirror(home, GitSource(server.url(repo.remote_path))) as mirror:
        mirror.fetch(None)
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 5.0\n"})
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == tip
        mirror.promote()
        fsck(mirror.folder / "mirror.git")


def test_what_an_old_server_tells_of_other_branches_is_counted(repo: ConfigRepo, home: Path) -> None:
    repo.crowd(5000)
    with GitHttpServer(repo.path, old_protocol=True) as server:
        url = server.url(repo.remote_path)
        with Mirror(home / "a", GitSource(url)) as mirror:
            assert mirror.fetch(None) is not None
        small = GitSource(url, limits=Limits(refs_bytes=5000))
        with Mirror(home / "b", small) as mirror, pytest.raises(FetchError, match=r"LC102.*refs_bytes"):
            mirror.fetch(None)


def test_a_poll_that_finds_nothing_is_one_request(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    with Mirror(home, GitSource(http.url(repo.remote_path))) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        http.requests.clear()
        assert mirror.fetch(first.tip) is None
        assert [(method, protocol) for method, _, protocol in http.requests] == [("POST", "version=2")]
        repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        http.requests.clear()
        assert mirror.fetch(first.tip) is not None
        assert len(http.requests) == 2


def connections_to(port: int) -> int:
    """How many open connections this process has to a port."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():  # that of the listing itself is gone when it is looked at
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as seen:
            found += seen.getpeername()[1] == port
    return found


def test_a_forked_child_keeps_no_connection_of_its_parent_and_leaves_it_whole(
    repo: ConfigRepo, http: GitHttpServer, home: Path
) -> None:
    source = GitSource(http.url(repo.remote_path))
    port = urlsplit(source.url).port
    assert port is not None
    with Mirror(home, source) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        mine = connections_to(port)
        assert mine > 0
        child = os.fork()
        if child == 0:
            os._exit(connections_to(port))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert connections_to(port) == mine
        before = len(http.requests)
        assert mirror.fetch(candidate.tip) is None
        assert len(http.requests) == before + 1


def test_a_kept_connection_the_server_has_closed_is_opened_anew(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    with Mirror(home, GitSource(http.url(repo.remote_path))) as mirror:
        for number in range(3):
            tip = repo.publish({"config/checkout/base.yaml": f"payment_timeout_s: {number}.5\n"})
            candidate = mirror.fetch(None)
            assert candidate is not None
            assert candidate.tip == tip
            http.drop_connections()


def test_only_the_wanted_ref_is_asked_for(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    for number in range(300):
        repo.git("update-ref", f"refs/tags/t{number:04}", repo.tip(), at=repo.remote_path)
    small = Limits(refs_bytes=1000)
    with Mirror(home, GitSource(http.url(repo.remote_path), limits=small)) as mirror:
        assert mirror.fetch(None) is not None


def test_branches_whose_names_begin_like_the_followed_one_stop_nobody(repo: ConfigRepo, home: Path, source: GitSource) -> None:
    repo.crowd(65_000)
    with Mirror(home, source) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        assert mirror.fetch(first.tip) is None
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        second = mirror.fetch(first.tip)
        assert second is not None
        assert second.tip == tip


def test_a_poll_reads_no_further_than_the_followed_branch(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    repo.crowd(2000)
    with Mirror(home, GitSource(http.url(repo.remote_path), limits=Limits(refs_bytes=1000))) as mirror:
        assert mirror.fetch(None) is not None
        with pytest.raises(FetchError, match=r"LC102: the list of refs is too long.*refs_bytes"):
            Mirror(home / "b", GitSource(http.url(repo.remote_path), "main-", limits=Limits(refs_bytes=1000))).fetch(None)


def test_credentials_are_sent_and_wrong_ones_are_named(repo: ConfigRepo, tmp_path: Path) -> None:
    with GitHttpServer(repo.path, auth="hub:s3cret") as server:
        url = server.url(repo.remote_path)
        with Mirror(tmp_path / "a", GitSource(url, auth="hub:s3cret")) as mirror:
            assert mirror.fetch(None) is not None
        token = tmp_path / "token"
        token.write_text("hub:wrong\n")
        source = GitSource(url, auth_file=str(token))
        with Mirror(tmp_path / "b", source) as mirror:
            with pytest.raises(FetchError, match="other credentials") as caught:
                mirror.fetch(None)
            assert "wrong" not in str(caught.value)
            token.write_text("hub:s3cret\n")
            assert mirror.fetch(None) is not None
            token.write_text("Bearer s3cret\nX-Evil: 1")
            with pytest.raises(FetchError, match="control character") as caught:
                mirror.fetch(None)
            assert "s3cret" not in str(caught.value)
            token.unlink()
            with pytest.raises(FetchError, match=r"No such file or directory: .*token"):
                mirror.fetch(None)
        assert "s3cret" not in repr(GitSource(url, auth="hub:s3cret"))


def test_a_bearer_token_is_sent_as_it_is(repo: ConfigRepo, tmp_path: Path) -> None:
    with (
        GitHttpServer(repo.path) as server,
        Mirror(tmp_path / "a", GitSource(server.url(repo.remote_path), auth="Bearer a:b")) as mirror,
    ):
        mirror.fetch(None)
        assert set(server.authorizations) == {"Bearer a:b"}


def test_what_is_not_there_is_missing_not_corrupt(home: Path, repo: ConfigRepo) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        for name in ("0" * 40, "f" * 64, "../../etc/passwd", ""):
            with pytest.raises(MissingObjectError):
                mirror.objects.read(name, "blob")
        assert not (mirror.folder / "damaged").exists()


def test_a_folder_of_this_host_is_asked_for_the_new_objects_alone(
    repo: ConfigRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = Store.read, list[str]()

    def counted(store: Store, name: str) -> Content:
        if store.path == repo.remote_path:
            asked.append(name)
        return read(store, name)

    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        for line in repo.git("rev-list", "--objects", "-1", "HEAD").split("\n"):  # as whoever judges it does
            mirror.objects.content(line.partition(" ")[0])
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        monkeypatch.setattr(Store, "read", counted)
        mirror.fetch(None)
    new = repo.git("rev-list", "--objects", f"{tip}~..{tip}").split("\n")
    assert sorted(asked) == sorted(line.partition(" ")[0] for line in new)


def test_an_offer_is_no_reason_to_ask_the_remote_also_when_it_brought_nothing_new(
    repo: ConfigRepo, http: GitHttpServer, home: Path
) -> None:
    have, tip = repo.remote_tip(), repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    with (
        Mirror(home / "hub", GitSource(str(repo.remote_path))) as hub,
        Mirror(home, GitSource(http.url(repo.remote_path))) as mirror,
    ):
        hub.fetch(None)
        mirror.fetch(None)
        asked = len(http.requests)
        mirror.accept_pack(hub.build_pack(have, tip), tip)
        assert mirror.fetch(since=tip) is None
        assert len(http.requests) == asked
        mirror.fetch(since=tip)
        assert len(http.requests) > asked
