"""A statement at a ref of its own: published, replaced, read again, over every kind of remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError, PushConflictError
from livecfg.git.source import GitSource
from livecfg.git.statement import HostStatement, StatementRef
from livecfg.git.writer import Person
from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from pathlib import Path

REF = "refs/livecfg/heartbeat"
CLOCK = Person("clock", "clock@acme")


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_statement_is_published_replaced_and_read_by_others(tmp_path: Path, object_format: str) -> None:
    repo = ConfigRepo(tmp_path / "repo", object_format=object_format)
    repo.found({"a.yaml": "{}\n"})
    source, length = GitSource(url=str(repo.remote_path)), len(repo.tip())
    writer, reader = StatementRef(source, REF), StatementRef(source, REF)
    assert reader.read() is None
    writer.publish(b"one\n", CLOCK, 1_700_000_000, length)
    assert reader.read() == b"one\n"
    writer.publish(b"two\n", CLOCK, 1_700_000_060, length)
    assert reader.read() == b"two\n"
    assert reader.read() == b"two\n", "nothing new is no loss"
    assert "two" in repo.git("show", f"{REF}:statement", at=repo.remote_path)
    assert not repo.fsck(at=repo.remote_path)


def test_two_who_publish_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"a.yaml": "{}\n"})
    source = GitSource(url=str(repo.remote_path))
    one, two = StatementRef(source, REF), StatementRef(source, REF)
    one.publish(b"one\n", CLOCK, 1_700_000_000, 40)
    with pytest.raises(PushConflictError):
        two.publish(b"two\n", CLOCK, 1_700_000_000, 40)
    two.read()
    two.publish(b"two\n", CLOCK, 1_700_000_000, 40)
    assert one.read() == b"two\n"


def test_a_ref_that_holds_something_else_or_too_much_is_an_error(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"a.yaml": "{}\n"})
    repo.git("push", "-q", "origin", f"HEAD:{REF}")
    with pytest.raises(FetchError, match="something else"):
        StatementRef(GitSource(url=str(repo.remote_path)), REF).read()
    repo.commit({"statement": "x" * 100_000})
    repo.git("push", "-q", "origin", f"HEAD:{REF}")
    with pytest.raises(FetchError, match="bytes"):
        StatementRef(GitSource(url=str(repo.remote_path)), REF).read()


def test_what_the_hub_pushes_and_what_the_remote_has_stand_side_by_side_for_the_whole_host(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"a.yaml": "{}\n"})
    source = GitSource(url=str(repo.remote_path))
    fetcher = HostStatement(tmp_path, source, REF, lambda: True)
    other = HostStatement(tmp_path, source, REF, lambda: False)
    assert fetcher.read() == other.read() == ()
    fetcher.put(b"from the hub\n")
    StatementRef(source, REF).publish(b"from the remote\n", CLOCK, 1_700_000_000, 40)
    fetcher = HostStatement(tmp_path, source, REF, lambda: True)
    assert fetcher.read() == (b"from the remote\n", b"from the hub\n")
    assert other.read() == (b"from the remote\n", b"from the hub\n")
    fetcher.put(b"x" * 100_000)
    assert other.read() == (b"from the remote\n", b"from the hub\n"), "too much is not kept"


def test_a_host_without_a_disk_still_has_what_its_fetcher_knows(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"a.yaml": "{}\n"})
    (tmp_path / "statements").write_text("in the way")
    fetcher = HostStatement(tmp_path, GitSource(url=str(repo.remote_path)), REF, lambda: True)
    fetcher.put(b"from the hub\n")
    assert fetcher.read() == (b"from the hub\n",)
