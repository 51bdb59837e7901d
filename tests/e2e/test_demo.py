"""The demo as people run it: without a terminal, without git, interactively; and it fails when its story does not hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.support import ROOT, eventually

pytestmark = pytest.mark.xdist_group("processes")


# A test run in the background ignores SIGINT, and children inherit that; a person's terminal does not.
INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["livecfg", "demo"]
runpy.run_module("livecfg", run_name="__main__")
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIVECFG_", "COV_"))}
    return (
        kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "LIVECFG_HOME": str(tmp_path / "home"), "no_proxy": "*"} | more
    )


def run(tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment(tmp_path, **more), capture_output=True, text=True, check=False, timeout=120)


def test_the_story_holds_without_a_terminal_in_under_a_minute_and_leaves_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(tmp_path, "-m", "livecfg", "demo", "--story")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    assert "Every step held" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.count("   ok ") >= 18
    assert "LC301" in done.stdout
    assert "config/checkout/prod.yaml:1:20 LC202" in done.stdout
    assert list(tmp_path.glob("livecfg-demo-*")) == []


def test_the_story_holds_without_a_git_program(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run(tmp_path, "-m", "livecfg", "demo", "--story", PATH=str(tmp_path / "bin"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(dulwich)" in done.stdout


def test_the_story_fails_when_a_step_does_not_hold(tmp_path: Path) -> None:
    """Were unsigned commits applied, the story would say so and end with 1: here the commit is signed after all."""
    script = (
        "import sys\nfrom livecfg.cli._demo.repository import Repository\n"
        "Repository.publish_unsigned = Repository.publish\n"
        "from livecfg.cli import main\nsys.argv = ['livecfg', 'demo', '--story']\nmain()\n"
    )
    done = run(tmp_path, "-c", script)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout
    assert "Every step held" not in done.stdout
    assert list(tmp_path.glob("livecfg-demo-*")) == []


def test_without_gunicorn_the_demo_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys, livecfg.cli._demo.site as site\nsite.find_spec = lambda name: None if name == 'gunicorn' else name\n"
        "from livecfg.cli import main\nsys.argv = ['livecfg', 'demo']\nmain()\n"
    )
    done = run(tmp_path, "-c", script)
    assert done.returncode == 2
    assert "pip install gunicorn" in done.stderr


def test_a_running_demo_takes_changes_from_another_terminal_and_cleans_up(tmp_path: Path) -> None:
    none = run(tmp_path, "-m", "livecfg", "demo", "set", "max_items", "7")
    assert none.returncode == 2
    assert "no demo is running" in none.stderr
    demo = subprocess.Popen([sys.executable, "-c", INTERRUPTIBLE], env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: (tmp_path / "home" / "demo.json").exists() or demo.poll() is not None, 30)
        changed = run(tmp_path, "-m", "livecfg", "demo", "set", "payment_timeout_s", "1.5")
        assert (changed.returncode, "4/4 workers switched" in changed.stdout) == (0, True), changed
        broken = run(tmp_path, "-m", "livecfg", "demo", "break")
        assert (broken.returncode, "LC202" in broken.stdout) == (1, True), broken
        unknown = run(tmp_path, "-m", "livecfg", "demo", "set", "payment_timout_s", "1.5")
        healed = run(tmp_path, "-m", "livecfg", "demo", "set", "max_items", "7")  # what was mistyped is not in the way
        assert (unknown.returncode, "did you mean 'payment_timeout_s'" in unknown.stdout) == (1, True), unknown
        folder = Path(json.loads((tmp_path / "home" / "demo.json").read_text())["folder"])
        assert ((folder / "key").stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    finally:
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert "livecfg demo set" in output
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert "stopped" in output
    assert list(tmp_path.glob("livecfg-demo-*")) == []
    assert not (tmp_path / "home" / "demo.json").exists()
