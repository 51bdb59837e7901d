"""Faults that need root: a full disk at every write, hosts that are cut off, hosts that share a home without file events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.support import ROOT, Site, eventually, numbered
from tests.faults.support import Host
from tests.simulator.tls import make_tls
from tests.simulator.tools import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PAGE = 4096
HERE, THERE = "10.213.77.1", "10.213.77.2"


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root: it mounts a tmpfs and makes network namespaces")


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(at))
    try:
        yield at
    finally:
        run("umount", "-l", str(at))


def test_a_disk_that_is_full_at_any_write_costs_no_revision_and_heals_by_itself(tmp_path: Path) -> None:
    with Host(tmp_path) as host, small_disk(host.home) as home:
        host.check(host.repo.tip())
        filler, short = home / "filler", 0
        for pages in range(200):
            tip = host.commit()
            free = os.statvfs(home)
            filler.write_bytes(bytes((free.f_bavail - pages) * PAGE))
            before = (next(home.glob("*/mirror.git")) / "refs/livecfg/tip").read_text().strip()
            code, found = host.run("follow", commit=tip)
            assert code == 0, (pages, found)
            host.verify(found)
            assert found["commit"] == tip, "served from memory"
            after = (next(home.glob("*/mirror.git")) / "refs/livecfg/tip").read_text().strip()
            host.fsck()
            filler.unlink()
            if after == tip != before and len(list(home.glob("*/state/incoming-*"))) == 0 and short > 5:
                break
            short += after != tip
            host.check(tip)
        assert short > 5, "the disk was never full"


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them; gives their names."""
    program("ip", "iproute2")
    names = f"lca{os.getpid()}", f"lcb{os.getpid()}"
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run("ip", "-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, (HERE, THERE), strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                run("ip", "-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_host_cut_off_from_git_and_hub_keeps_serving_and_converges_when_the_partition_heals(tmp_path: Path) -> None:
    with Site(tmp_path) as site, two_hosts() as (server, client):
        site.stop_server()
        tls = make_tls(tmp_path / "tls", HERE)
        daemon = ["git", "daemon", "--export-all", f"--listen={HERE}", f"--base-path={site.repo.path}", "--reuseaddr"]
        safe = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        site.run("ip", "netns", "exec", server, *daemon, log="daemon.log", **safe)
        hub = ["-m", "livecfg", "hub", "serve", "--source", str(site.repo.remote_path), "--trusted-root", str(site.trusted_root)]
        hub += ["--listen", f"{HERE}:7443", "--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
        hub += [
            "--store",
            f"sqlite:///{tmp_path}/hub.db",
            "--home",
            str(tmp_path / "hub-home"),
            "--ready-file",
            str(tmp_path / "ready"),
        ]
        site.run("ip", "netns", "exec", server, sys.executable, *hub, log="hub.log")
        eventually((tmp_path / "ready").exists, state=site.logs)
        url = f"git://{HERE}/{site.repo.remote_path.name}"
        more = {"E2E_URL": url, "E2E_HUB": f"{HERE}:7443", "LIVECFG_HUB_CA": str(tls.authority), "E2E_POLL_S": "1"}
        follow = ["ip", "netns", "exec", client, sys.executable, "-m", "tests.e2e.apps.follow"]
        for _ in range(2):
            site.run(*follow, log="follow.log", **more)

        def serve(number: int) -> bool:
            found = site.reports("follow-*.json")
            assert all(r["number"] == r["flag"] for r in found), "a mixed revision"
            return len(found) == 2 and all(r["number"] == number for r in found)

        eventually(lambda: serve(0), 60, site.logs)
        site.repo.publish(numbered(1))
        eventually(lambda: serve(1), 60, site.logs)
        assert any(r["hub"] == "streaming" for r in site.reports("follow-*.json"))
        for number, length_s in ((2, 0.0), (4, 20.0)):  # shorter than TCP and keepalive notice, and longer
            run("ip", "-n", server, "link", "set", "cable", "down")
            site.repo.publish(numbered(number))
            site.repo.publish(numbered(number + 1))
            threading.Event().wait(length_s)
            assert serve(number - 1), "what it had before the partition"
            run("ip", "-n", server, "link", "set", "cable", "up")
            eventually(lambda number=number: serve(number + 1), 90, site.logs)
        followers = site.processes[-2:]
        assert [p.poll() for p in followers] == [None, None]
        for process in followers:
            site.end(process, signal.SIGTERM)
        for mirror in site.home.glob("*/mirror.git"):
            site.repo.fsck(mirror)


@contextmanager
def shared_home(at: Path) -> Iterator[tuple[Path, Path]]:
    """One folder as two hosts see it over a network: locks are common, nobody is told of what the other changes."""
    bindfs = program("bindfs", "bindfs")
    export, *mounts = at / "export", at / "here", at / "there"
    export.mkdir()
    try:
        for mount in mounts:
            mount.mkdir()
            run(bindfs, "--multithreaded", "--enable-lock-forwarding", str(export), str(mount))
        yield mounts[0], mounts[1]
    finally:
        for mount in mounts:
            subprocess.run(["umount", "-l", str(mount)], capture_output=True, check=False)


def test_hosts_that_share_a_home_without_file_events_follow_each_other_and_take_over(tmp_path: Path) -> None:
    with Site(tmp_path) as site, shared_home(tmp_path) as homes:
        follow = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "tests.e2e.apps.follow"]
        hosts = []
        for name, home in zip(("here", "there"), homes, strict=True):
            out = tmp_path / "out" / name
            out.mkdir()
            hosts.append(site.run(*follow, log=f"{name}.log", LIVECFG_HOME=str(home), E2E_OUT=str(out), E2E_POLL_S="1"))
            eventually(lambda name=name: site.reports(f"{name}/follow-1.json"), 60, site.logs)  # the first one is the fetcher

        def served() -> list[tuple[int, int, bool]]:
            return [(r["number"], r["flag"], r["fetcher"]) for r in site.reports("*/follow-1.json")]

        def living() -> int:
            words = [sys.executable, "-m", "livecfg", "status", "--home", str(homes[1]), "-o", "json"]
            found = subprocess.run(words, capture_output=True, env=site.environment(), cwd=ROOT, check=False)
            return len(json.loads(found.stdout)["data"])

        for number in (1, 2, 3):
            site.repo.publish(numbered(number))
            eventually(lambda n=number: sorted(served()) == [(n, n, False), (n, n, True)], 30, site.logs)
        assert living() == 2, "both have process id 1, each in its own namespace"
        site.end(hosts[0], signal.SIGKILL)
        eventually(lambda: living() == 1, 30, site.logs)
        site.repo.publish(numbered(4))
        there = "there/follow-1.json"
        eventually(lambda: [(r["number"], r["fetcher"]) for r in site.reports(there)] == [(4, True)], 60, site.logs)
        for mirror in (tmp_path / "export").glob("*/mirror.git"):
            site.repo.fsck(mirror)
