"""Whatever comes in, the last good revision stays in use, the refusal says what and where, and the next good commit heals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from livecfg import Condition, GitSource, LiveConfig
from tests.e2e.support import ROOT, Site, eventually, numbered
from tests.simulator import Fault
from tests.simulator.tools import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0
    number: int = -1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def live_of(site: Site, home: Path | None = None, **more: Any) -> LiveConfig[Checkout]:
    return LiveConfig(
        Checkout,
        source=GitSource(url=site.url, ref="main"),
        trusted_root=site.trusted_root,
        service="checkout",
        env="prod",
        home=home or site.home,
        poll_interval_s=0.1,
        **more,
    )


@pytest.fixture
def live(site: Site) -> Iterator[LiveConfig[Checkout]]:
    with live_of(site) as made:
        yield made


def number(live: LiveConfig[Checkout]) -> int:
    """The number that configuration and flag agree on; a mixed snapshot fails here."""
    view = live.current.view({})
    assert view.config.number == view.flag("number", -1)
    return view.config.number


def healed(site: Site, live: LiveConfig[Checkout], **how: Any) -> None:
    """A good commit on top is applied, and the status is READY."""
    commit = site.repo.publish(numbered(99), **how)
    eventually(lambda: live.current.revision.commit == commit, 20, lambda: live.status)
    assert number(live) == 99
    eventually(lambda: live.status.condition is Condition.READY, 20, lambda: live.status)


BASE = "config/_shared/base.yaml"
FLAGS = "flags/checkout/flags.yaml"
REFUSED_FILES: dict[str, tuple[dict[str, str | bytes | None], str, str]] = {
    "malformed YAML": ({BASE: "number: [1\n"}, "LC210", BASE),
    "an unknown key": ({BASE: "number: 1\npayment_timout_s: 3\n"}, "LC204", f"{BASE}:2:1"),
    "a wrong type": ({BASE: "number: fast\n"}, "LC202", f"{BASE}:1:9"),
    "a duplicate key": ({BASE: "number: 1\nnumber: 2\n"}, "LC211", f"{BASE}:2:1"),
    "an alias": ({BASE: "number: &n 1\npayment_timeout_s: *n\n"}, "LC212", BASE),
    "bytes that are no text": ({BASE: b"\xff\xfe\x00"}, "LC21", BASE),
    "a missing first layer": ({BASE: None, "config/_shared/other.yaml": "number: 1\n"}, "LC221", BASE),
    "a broken flag": ({FLAGS: "flags:\n  number:\n    state: MAYBE\n    variants: {a: 1}\n"}, "LC4", FLAGS),
    "a missing manifest": ({"livecfg.yaml": None}, "LC220", "livecfg.yaml"),
    "a manifest with an unknown key": (
        {"livecfg.yaml": "version: 1\nlayers: [config/_shared/base.yaml]\nlayer: 1\n"},
        "LC204",
        "livecfg.yaml:3:1",
    ),
}


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_a_signed_commit_with_faulty_files_is_refused_with_its_place_and_the_next_good_one_heals(
    name: str, site: Site, live: LiveConfig[Checkout]
) -> None:
    files, code, where = REFUSED_FILES[name]
    manifest = (site.repo.work / "livecfg.yaml").read_text()
    bad = site.repo.publish(files, message=f"Try {name}")
    status = eventually(lambda: live.status if live.status.condition is Condition.REFUSED else None, 20, lambda: live.status)
    assert number(live) == 0
    refusal = next(r for r in status.refusals if r.commit == bad)
    assert refusal.code.value.startswith(code), refusal
    assert refusal.where.startswith(where), refusal
    assert refusal.advice or refusal.message
    site.repo.commit({"livecfg.yaml": manifest} if "livecfg.yaml" in files else {})
    healed(site, live)


def _unsigned(site: Site) -> str:
    return site.repo.commit(numbered(1), signed=False)


def _unknown(site: Site) -> str:
    return site.repo.commit(numbered(1), by="mallory@evil")


def _tampered(site: Site) -> str:
    """A commit whose signature is somebody's, for other content."""
    commit = site.repo.commit(numbered(1))
    changed = site.repo.raw(commit).replace(b"Change configuration", b"Change configuratiom")
    path = site.path / "tampered"
    path.write_bytes(changed)
    tampered = site.repo.git("hash-object", "-t", "commit", "-w", str(path))
    site.repo.reset(tampered)
    return tampered


@pytest.mark.parametrize(("make", "code"), [(_unsigned, "LC301"), (_unknown, "LC303"), (_tampered, "LC302")])
def test_a_commit_nobody_vouches_for_is_refused_until_somebody_adopts_it(
    make: Callable[[Site], str], code: str, site: Site, live: LiveConfig[Checkout]
) -> None:
    bad = make(site)
    site.repo.push()
    status = eventually(lambda: live.status if live.status.condition is Condition.REFUSED else None, 20, lambda: live.status)
    assert number(live) == 0
    assert code in {r.code.value for r in status.refusals if r.commit == bad}
    healed(site, live, message=f"Replace it\n\nLivecfg-Adopt: {bad}")


def test_a_revert_heals_an_unsigned_commit_without_a_force_push(site: Site, live: LiveConfig[Checkout]) -> None:
    bad = _unsigned(site)
    site.repo.push()
    eventually(lambda: live.status.condition is Condition.REFUSED, 20, lambda: live.status)
    site.repo.revert(bad)
    site.repo.push()
    eventually(lambda: live.status.condition is Condition.READY, 20, lambda: live.status)
    assert number(live) == 0
    healed(site, live)


def test_a_force_push_that_drops_what_is_in_use_is_refused_and_putting_it_back_heals(
    site: Site, live: LiveConfig[Checkout]
) -> None:
    good = site.repo.publish(numbered(1))
    eventually(lambda: number(live) == 1, 20, lambda: live.status)
    site.repo.reset(site.first)
    site.repo.commit(numbered(2))
    site.repo.push(force=True)
    status = eventually(lambda: live.status if live.status.condition is Condition.REFUSED else None, 20, lambda: live.status)
    assert number(live) == 1
    assert {r.code.value for r in status.refusals} == {"LC320"}
    site.repo.reset(good)
    site.repo.push(force=True)
    eventually(lambda: live.status.condition is Condition.READY, 20, lambda: live.status)
    healed(site, live)


@pytest.mark.parametrize("fault", [f for f in Fault if f not in {Fault.HANG, Fault.DRIP}])
def test_a_remote_that_misbehaves_changes_nothing_and_recovers_by_itself(
    fault: Fault, site: Site, live: LiveConfig[Checkout]
) -> None:
    assert site.server is not None
    site.server.fault = fault
    asked = len(site.server.requests)
    commit = site.repo.publish(numbered(1))
    server = site.server
    eventually(lambda: "retrying" in live.status.reason or len(server.requests) > asked + 4, 20, lambda: live.status)
    assert number(live) == 0
    site.server.fault = None
    eventually(lambda: live.current.revision.commit == commit, 30, lambda: live.status)
    assert number(live) == 1


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
def test_a_remote_that_is_too_slow_leaves_readers_and_stop_undisturbed(
    fault: Fault, site: Site, live: LiveConfig[Checkout]
) -> None:
    assert site.server is not None
    site.server.fault = fault
    asked = len(site.server.requests)
    server = site.server
    eventually(lambda: len(server.requests) > asked, 20, lambda: live.status)
    assert number(live) == 0  # at once: the thread waits, readers do not
    live.stop()
    assert number(live) == 0


def test_a_remote_that_goes_away_makes_the_status_stale_with_the_reason(site: Site) -> None:
    with live_of(site, max_staleness_s=0.5) as live:
        site.stop_server()
        status = eventually(lambda: live.status if live.status.condition is Condition.STALE else None, 20, lambda: live.status)
        assert "no answer" in status.reason
        assert number(live) == 0


def test_a_read_only_mirror_folder_is_served_from_memory(site: Site) -> None:
    home = site.path / "read-only-home"
    home.mkdir()
    home.chmod(0o555)
    script = (
        "import json, sys\nfrom tests.e2e.apps.settings import live, seen\nlive.start()\n"
        "print(json.dumps(seen()))\nsys.stdin.readline()\nlive.wait_for(sys.argv[1] if len(sys.argv) > 1 else seen()['commit'])\n"
        "print(json.dumps(seen()))\nlive.stop()\n"
    )
    command = [sys.executable, "-c", script]
    if os.geteuid() == 0:
        setpriv = program("setpriv", "util-linux")  # root may write everywhere
        command = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        _readable(site.path)
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=site.environment(LIVECFG_HOME=str(home), HOME="/nonexistent"),
        input=b"\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    home.chmod(0o700)
    assert process.returncode == 0, process.stderr.decode()
    assert process.stdout.count(site.first.encode()) == 2
    assert b"memory" in process.stderr or list(home.iterdir()) == []


def _readable(path: Path) -> None:
    """Let another user reach the trusted root."""
    for folder in (path, *path.parents):
        if folder.owner() == path.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)


def test_a_mirror_whose_objects_were_overwritten_is_rebuilt_and_goes_on(site: Site) -> None:
    with live_of(site):
        eventually(lambda: [*site.home.rglob("state/*.json")])  # written after the swap; `stop` waits a second for it, no more
    spoilt = [p for p in site.home.rglob("objects/**/*") if p.is_file()]
    assert spoilt
    for path in spoilt:
        path.chmod(0o600)
        path.write_bytes(b"not what it was")
    with live_of(site) as live:
        assert number(live) == 0
        healed(site, live)


def test_a_mirror_that_is_deleted_while_in_use_is_made_anew(site: Site, live: LiveConfig[Checkout]) -> None:
    elsewhere = site.path / "elsewhere"
    site.home.rename(elsewhere)  # at once, as `rm -r` is for whoever looks a moment later
    shutil.rmtree(elsewhere)
    healed(site, live)


def test_a_tip_that_somebody_wrote_into_the_mirror_is_not_served(site: Site) -> None:
    """The local disk is untrusted for integrity: a ref that names an unsigned commit changes nothing."""
    with live_of(site):
        eventually(lambda: [*site.home.rglob("state/*.json")])  # as above
    evil = site.repo.commit(numbered(666), signed=False)
    mirror = next(site.home.rglob("mirror.git"))
    site.repo.git("push", "-q", "--force", str(mirror), f"{evil}:refs/livecfg/tip")
    site.stop_server()
    with live_of(site) as live:
        assert number(live) == 0


def test_two_processes_racing_for_one_home_both_serve_and_both_switch(site: Site) -> None:
    running = [
        site.run(sys.executable, "-m", "tests.e2e.apps.forker", "fork", log=f"racer-{i}.log", E2E_OUT=str(_out(site, i)))
        for i in range(3)
    ]
    commits = [site.repo.publish(numbered(n)) for n in range(1, 6)]

    def all_at_tip() -> bool:
        found = [p.read_text() for i in range(3) for p in _out(site, i).glob("fork-*nt.json")]
        return len(found) == 3 and all(commits[-1] in text for text in found)

    eventually(
        all_at_tip,
        60,
        lambda: (
            [_out(site, i).glob("*.json") and [p.read_text() for p in _out(site, i).glob("*.json")] for i in range(3)],
            commits,
            site.logs(),
        ),
    )
    assert all(process.poll() is None for process in running)
    with live_of(site) as live:
        assert live.wait_for(commits[-1]).revision.commit == commits[-1]  # what is remembered is written after the swap
    assert site.repo.fsck(at=next(site.home.rglob("mirror.git"))) is not None


def _out(site: Site, number: int) -> Path:
    folder = site.path / f"out-{number}"
    folder.mkdir(exist_ok=True)
    return folder
