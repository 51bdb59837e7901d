"""The main promise, with real processes: a signed commit reaches every process of a host; an unsigned one reaches none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.support import ROOT, Site, eventually, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def test_gunicorn_preload_workers_and_celery_prefork_children_switch_to_a_signed_commit(site: Site) -> None:
    web = site.web(workers=4)
    _celery(site)
    web.all_workers(lambda a: a["commit"] == site.first)
    _celery_children(site, site.first)

    second = site.repo.publish(numbered(2))
    answers = web.all_workers(lambda a: a["commit"] == second)
    assert {(a["number"], a["flag"], a["condition"]) for a in answers.values()} == {(2, 2, "READY")}
    assert web.process.pid not in answers
    _celery_children(site, second)

    unsigned = site.repo.commit(numbered(3), signed=False)
    site.repo.push()
    answers = web.all_workers(lambda a: a["condition"] == "REFUSED")
    assert {(a["commit"], a["number"]) for a in answers.values()} == {(second, 2)}
    assert all("LC301" in refusal for a in answers.values() for refusal in a["refusals"]), answers
    assert unsigned != second

    healed = site.repo.publish(numbered(4), message=f"Take over\n\nLivecfg-Adopt: {unsigned}")
    web.all_workers(lambda a: a["commit"] == healed and a["number"] == a["flag"] == 4 and a["condition"] == "READY")
    _celery_children(site, healed)


def _celery(site: Site, **more: str) -> subprocess.Popen[bytes]:
    """Start a Celery worker with two prefork children."""
    words = ["-m", "celery", "-A", "tests.e2e.apps.jobs", "worker", "--pool", "prefork", "--concurrency", "2"]
    words += ["--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    return site.run(sys.executable, *words, log="celery.log", **more)


def _celery_children(site: Site, commit: str, condition: str = "") -> None:
    """Send tasks until both prefork children have answered from `commit`, in that condition if one is given."""

    def done() -> bool:
        send = "from tests.e2e.apps.jobs import report; [report.delay() for _ in range(8)]"
        environment = site.environment(LIVECFG_HOME=f"{site.path}/sender")
        # The file-system broker can read a table that a worker is just writing: what was not sent is sent again.
        subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment, check=False)
        found = site.reports("celery-*.json")
        return len(found) == 2 and all(r["commit"] == commit and condition in {"", r["condition"]} for r in found)

    eventually(done, 60, lambda: (site.reports("celery-*.json"), site.logs()))


def test_a_uvloop_process_that_spawns_subprocesses_keeps_switching(site: Site) -> None:
    site.run(sys.executable, "-m", "tests.e2e.apps.spawner", log="uvloop.log")
    commit = site.first
    for number in range(1, 4):
        eventually(lambda c=commit: [r for r in site.reports("uvloop.json") if r["commit"] == c], 30, site.logs)  # type: ignore[misc]
        commit = site.repo.publish(numbered(number))
    eventually(lambda: [r for r in site.reports("uvloop.json") if r["number"] == r["flag"] == 3], 30, site.logs)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_and_its_own_child_keep_switching(method: str, site: Site) -> None:
    site.run(sys.executable, "-m", "tests.e2e.apps.forker", method, log="fork.log")
    names = ("fork-parent.json", "fork-child.json", "fork-grandchild.json")
    eventually(lambda: all(map(site.reports, names)), 90, site.logs)  # spawned ones import everything anew, one after the other
    for number in range(1, 4):
        commit = site.repo.publish(numbered(number))

        def all_there(commit: str = commit) -> bool:
            return all([r["commit"] for r in site.reports(name)] == [commit] for name in names)

        eventually(all_there, 30, lambda: (site.reports("*.json"), site.logs()))
    assert len({r["pid"] for name in names for r in site.reports(name)}) == 3


def test_a_worker_killed_with_sigkill_is_replaced_and_the_others_never_stop(site: Site) -> None:
    web = site.web(workers=4)
    before = web.all_workers(lambda a: a["commit"] == site.first)
    os.kill(next(iter(before)), signal.SIGKILL)  # perhaps the one that fetches for the host
    second = site.repo.publish(numbered(2))
    killed = next(iter(before))
    after = web.all_workers(lambda a: a["commit"] == second and a["pid"] != killed)
    assert killed not in after


def test_with_git_and_hub_gone_every_process_restarts_serves_the_last_verified_revision_and_says_stale(site: Site) -> None:
    hub, address = _hub(site)
    web, jobs = site.web(workers=4, E2E_HUB=address), _celery(site, E2E_HUB=address)
    second = site.repo.publish(numbered(2))
    web.all_workers(lambda a: a["commit"] == second)
    _celery_children(site, second)
    for process in (web.process, jobs, hub):
        site.end(process, signal.SIGKILL)
    site.stop_server()
    for old in site.out.glob("*.json"):
        old.unlink()

    gone = {"E2E_HUB": address, "E2E_MAX_STALENESS_S": "1"}
    again = site.web(workers=4, **gone)
    _celery(site, **gone)
    site.run(sys.executable, "-m", "tests.e2e.apps.spawner", log="uvloop.log", **gone)
    site.run(sys.executable, "-m", "tests.e2e.apps.forker", "fork", log="fork.log", **gone)
    answers = again.all_workers(lambda a: a["condition"] == "STALE")
    assert {(a["commit"], a["number"], a["flag"]) for a in answers.values()} == {(second, 2, 2)}
    assert all("no answer" in a["reason"] for a in answers.values()), answers
    _celery_children(site, second, condition="STALE")
    others = ("uvloop.json", "fork-parent.json", "fork-child.json", "fork-grandchild.json")

    def all_stale() -> bool:
        found = [report for name in others for report in site.reports(name)]
        return [(r["commit"], r["condition"]) for r in found] == [(second, "STALE")] * len(others)

    eventually(all_stale, 40, lambda: (site.reports("*.json"), site.logs()))


def test_with_a_hub_commits_arrive_at_once_and_without_it_the_host_asks_git_again(site: Site) -> None:
    hub, address = _hub(site)
    web = site.web(workers=4, E2E_HUB=address, E2E_POLL_S="600")  # nobody asks Git within this test while the hub streams
    web.all_workers(lambda a: a["commit"] == site.first)
    eventually(lambda: _followings(site) == 1, 30, site.logs)
    second = site.repo.publish(numbered(2))
    web.all_workers(lambda a: a["commit"] == second)
    site.end(web.process)

    again = site.web(workers=4, E2E_HUB=address, E2E_POLL_S="0.5")
    eventually(lambda: _followings(site) == 2, 30, site.logs)
    third = site.repo.publish(numbered(3))
    again.all_workers(lambda a: a["commit"] == third)  # from here on the host trusts the stream and asks Git every five minutes
    site.end(hub, signal.SIGKILL)
    fourth = site.repo.publish(numbered(4))
    again.all_workers(lambda a: a["commit"] == fourth)


def _followings(site: Site) -> int:
    """How often a process (with --preload: the master) has said that it follows the hub."""
    return (site.path / "web.log").read_text().count("following the hub")


def _hub(site: Site) -> tuple[subprocess.Popen[bytes], str]:
    """Start `livecfg hub serve` beside the repository; gives its process and address."""
    ready = site.path / "hub.ready"
    words = ["-m", "livecfg", "hub", "serve", "--source", f"file://{site.repo.remote_path}", "--ready-file", str(ready)]
    words += ["--trusted-root", str(site.trusted_root), "--home", str(site.path / "hub-home"), "--listen", "127.0.0.1:0"]
    process = site.run(sys.executable, *words, log="hub.log")
    return process, eventually(lambda: ready.read_text().strip() if ready.exists() else None, 30, site.logs)


def test_a_first_start_without_git_says_why_and_starts_once_git_is_back(site: Site) -> None:
    site.stop_server()
    script = (
        "import json\nfrom tests.e2e.apps.settings import live\nfrom livecfg import FetchError\n"
        "try:\n    live.start()\nexcept FetchError as error:\n    print(json.dumps(str(error)))\nlive.stop()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=site.environment(), capture_output=True, text=True, check=True, timeout=60
    )
    text: Any = json.loads(done.stdout)
    assert site.url.split("/")[2].split(":")[0] in text
