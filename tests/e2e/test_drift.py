"""What somebody did to a mirror or to a followed folder: seen, told as drift, put right, and never served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from livecfg import Condition, GitSource, LiveConfig, UnsafeNoVerification
from tests.e2e.support import ROOT, Site, eventually, numbered
from tests.e2e.test_damage import Checkout, objects_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def live_of(site: Site, **settings: object) -> LiveConfig[Checkout]:
    given = {"home": site.home, "poll_interval_s": 0.1} | settings
    source = GitSource(url=site.url)
    return LiveConfig(Checkout, source=source, trusted_root=site.trusted_root, service="checkout", env="prod", **given)  # type: ignore[arg-type]


def mirror_of(site: Site) -> Path:
    return next(site.home.rglob("mirror.git"))


def alternates(git: Path) -> str:
    (git / "objects/info").mkdir(exist_ok=True)
    (git / "objects/info/alternates").write_text("/nowhere/objects\n")
    return "objects/info/alternates"


def hooks(git: Path) -> str:
    made = git.with_name("hooks")
    made.mkdir()
    (made / "post-checkout").write_text("#!/bin/sh\nexit 1\n")
    made.rename(git / "hooks")  # at once: an empty folder would be taken away before the file is in it
    return "hooks"


def link_for_hooks(git: Path) -> str:
    (git / "hooks").symlink_to("/")
    return "hooks"


def grafts(git: Path) -> str:
    (git / "info").mkdir(exist_ok=True)
    (git / "info/grafts").write_text("0" * 40 + "\n")
    return "info/grafts"


def replacement(git: Path) -> str:
    made = git.with_name("replace")
    made.mkdir()
    (made / ("0" * 40)).write_text("1" * 40 + "\n")
    made.rename(git / "refs/replace")  # as above
    return "refs/replace"


def command_in_config(git: Path) -> str:
    with (git / "config").open("a") as config:
        config.write("\tsshCommand = /bin/false\n[core]\n\tfsmonitor = /bin/false\n")
    return "config"


@pytest.mark.parametrize("tamper", [alternates, hooks, link_for_hooks, grafts, replacement, command_in_config])
def test_what_a_stranger_put_into_the_mirror_is_taken_away_and_told(tamper: Callable[[Path], str], site: Site) -> None:
    with live_of(site) as live:
        git = eventually(lambda: next(site.home.rglob("mirror.git/config"), None)).parent
        config = (git / "config").read_bytes()
        name = tamper(git)
        told = f"the mirror held what livecfg never writes there; put right: {name}"
        eventually(lambda: told in live.status.drift, state=lambda: live.status)
        assert (git / "config").read_bytes() == config
        assert name == "config" or not (git / name).exists()
        assert live.status.condition is Condition.READY
        assert live.wait_for(site.repo.publish(numbered(7))).config.number == 7
        eventually(lambda: any(told in report.read_text() for report in site.home.rglob("processes/*.json")))
    site.repo.fsck(at=git)


def test_a_damaged_mirror_is_told_and_put_right(site: Site) -> None:
    site.repo.publish(numbered(1))
    with live_of(site) as live:
        eventually(lambda: [*site.home.rglob("state/*.json")])
        for path in objects_of(site):
            path.chmod(0o600)
            path.write_bytes(b"not what it was")
        with live_of(site) as newcomer:
            assert newcomer.current.config.number == 1
        eventually(lambda: "the mirror was damaged, and was fetched anew" in live.status.drift, state=lambda: live.status)
        assert live.status.condition is Condition.READY
    site.repo.fsck(at=mirror_of(site))


def test_locks_that_a_killed_program_left_behind_do_not_stop_the_next_revision(site: Site) -> None:
    with live_of(site) as live:
        git = eventually(lambda: next(site.home.rglob("mirror.git/config"), None)).parent
        for name in ("config.lock", "HEAD.lock", "packed-refs.lock", "refs/livecfg/tip.lock", "objects/pack/tmp_pack_x"):
            (git / name).write_bytes(b"")
        second = site.repo.publish(numbered(2))
        assert live.wait_for(second).config.number == 2
        eventually(lambda: any(second in state.read_text() for state in site.home.rglob("state/*.json")))  # after the swap
    with live_of(site) as live:
        assert live.current.config.number == 2
        assert live.wait_for(site.repo.publish(numbered(3))).config.number == 3
        assert list(git.rglob("*.lock")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a file to another user")
def test_what_belongs_to_somebody_else_is_not_believed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with live_of(site) as live:
        assert live.wait_for(site.repo.publish(numbered(1))).config.number == 1
        eventually(lambda: [*site.home.rglob("state/*.json")])
    for path in site.home.rglob("state/*.json"):
        os.chown(path, 12345, 12345)
    with live_of(site) as live:
        assert live.current.config.number == 1
    assert "is not believed" in caplog.text


# root without the right to pass over permissions: what a process is to the files of another user
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown")
APPLICATION = """
import json, sys
from tests.e2e.apps.settings import live
for line in sys.stdin:
    number = live.wait_for(line.strip(), 20).config.number
    print(json.dumps([number, live.status.condition, live.status.drift]), flush=True)
live.stop()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a mirror to another user")
@pytest.mark.parametrize("to_others", ["closed", "readable"])
def test_a_mirror_of_another_user_is_not_believed_and_does_not_stop_anything(to_others: str, site: Site) -> None:
    readable = to_others == "readable"
    with live_of(site) as live:
        live.wait_for(site.repo.publish(numbered(1)))
        eventually(lambda: [*site.home.rglob("state/*.json")])
    for path in (site.home, *site.home.rglob("*")):
        os.chown(path, 12345, 12345)
        if readable:
            path.chmod(0o755 if path.is_dir() else 0o644)
    command = [*UNPRIVILEGED, sys.executable, "-c", APPLICATION]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, env=site.environment(), text=True, **pipes) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        answers = []
        for number in (2, 3):
            run.stdin.write(site.repo.publish(numbered(number)) + "\n")
            run.stdin.flush()
            answers.append(json.loads(run.stdout.readline() or "null"))
        _, stderr = run.communicate(timeout=30)
    assert [answer[:2] for answer in answers] == [[2, "READY"], [3, "READY"]], stderr
    (told,) = answers[1][2]
    expected = "the mirror cannot be written, a restart may not find this revision" if readable else "no mirror on disk"
    assert told.startswith(expected)
    assert "permission denied" in told
    assert "cannot reconcile" not in stderr
    assert ("is not believed" in stderr) == readable


def test_without_a_place_to_write_it_serves_from_memory_and_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with live_of(site, home=tmp_path / "file/home") as live:
        assert live.current.config.number == 0
        (note,) = live.status.drift
        assert note.startswith("no mirror on disk, serving from memory, which grows with the history: ")
        assert live.wait_for(site.repo.publish(numbered(4))).config.number == 4
        assert live.status.condition is Condition.READY
        with live_of(site, home=tmp_path / "file/home") as other:
            assert other.current.config.number == 4


# --- a folder that Kubernetes mounts ----------------------------------------------------------------------------------------


def write_version(mount: Path, number: int) -> None:
    """Write what a ConfigMap holds as Kubernetes does: a folder of its own, and `..data` swapped to it by rename."""
    version = mount / f"..2026_11_26_{number}"
    (version / "config").mkdir(parents=True)
    (version / "livecfg.yaml").write_text("version: 1\nlayers: [config/base.yaml]\n")
    (version / "config/base.yaml").write_text(f"number: {number}\n")
    (mount / "..data_tmp").symlink_to(version.name)
    before = (mount / "..data").resolve() if (mount / "..data").exists() else None
    (mount / "..data_tmp").rename(mount / "..data")
    for name in ("livecfg.yaml", "config"):
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(f"..data/{name}")
    if before is not None:
        for path in sorted(before.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        before.rmdir()


@pytest.mark.parametrize("events", [True, False])
def test_a_mounted_config_map_is_followed_as_it_is_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, events: bool
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    write_version(mount, 1)
    if not events:  # as on a network file system
        monkeypatch.setattr("livecfg.git.treewatch.TreeWatcher.start", lambda self: self)
    source = UnsafeNoVerification(mount)
    with LiveConfig(
        Checkout, source=source, service="checkout", env="dev", home=tmp_path / "home", poll_interval_s=300.0
    ) as live:
        assert live.current.config.number == 1
        for number in (2, 3, 4):
            write_version(mount, number)
            eventually(lambda number=number: live.current.config.number == number, state=lambda: live.status)
        assert live.status.condition is Condition.READY


def test_a_link_that_leads_out_of_a_mounted_folder_is_not_followed(tmp_path: Path) -> None:
    outside, mount = tmp_path / "outside", tmp_path / "mount"
    outside.mkdir()
    mount.mkdir()
    (outside / "livecfg.yaml").write_text("version: 1\nlayers: [config/base.yaml]\n")
    (mount / "..data").symlink_to(outside)
    (mount / "livecfg.yaml").symlink_to("..data/livecfg.yaml")
    live = LiveConfig(Checkout, source=UnsafeNoVerification(mount), service="checkout", env="dev", home=tmp_path / "home")
    with pytest.raises(Exception, match="the repository has no manifest"):
        live.start()
    live.stop()
