"""The examples work as they stand, and the README shows code that works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click import Context

from livecfg.cli import group
from livecfg.cli.output import Exit
from livecfg.document import read
from livecfg.flags.experiment import Experiment
from livecfg.flags.flag_tests import FlagTestsFile
from livecfg.refusal import Code
from livecfg.trust.policy_tests import TestsFile
from livecfg.validation import validate
from tests.e2e.support import Site, eventually
from tests.simulator import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def python(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user of the examples would: from the project's folder, without LIVECFG_* of this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIVECFG_", "CONFIG_", "COV_"))}
    env = kept | {"PYTHONPATH": str(ROOT), **more}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=90)


def files_of(folder: Path) -> dict[str, str | bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_example_test_passes_without_git_and_without_a_thread() -> None:
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "examples/test_service.py", PATH="/nonexistent"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_service_serves_the_working_tree_in_development(tmp_path: Path) -> None:
    script = (
        "from fastapi.testclient import TestClient\nfrom examples.service import app\nimport json\n"
        "with TestClient(app) as client:\n"
        "    answer = client.get('/cart/u1')\n"
        "    print(json.dumps([answer.json(), answer.headers['x-config-revision'], client.get('/-/config').json()]))\n"
    )
    done = python("-W", "ignore", "-c", script, LIVECFG_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    cart, revision, status = json.loads(done.stdout)
    assert cart["backend"] == "stable"
    assert cart["ranker"] in {"v8", "v9"}
    assert cart["items"] == [f"s3://models/ranker-{cart['ranker']}-for-u1"]
    assert re.fullmatch("[0-9a-f]{40}", revision)
    assert status["condition"] == "READY"
    assert "without any verification" in done.stderr


def test_the_worker_runs_its_task(tmp_path: Path) -> None:
    script = "from examples.worker import settle; print(settle('o1')); from examples.settings import live; live.stop()"
    done = python("-c", script, LIVECFG_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "o1 settled"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(
        tmp_path, files={"config/_shared/base.yaml": None, "flags/checkout/flags.yaml": None} | files_of(EXAMPLES / "config-repo")
    ) as made:
        yield made


def test_the_service_follows_a_signed_repository_under_uvicorn(site: Site) -> None:
    port = closed_port()
    names = {"CONFIG_URL": site.url, "CONFIG_TRUSTED_ROOT": str(site.trusted_root), "CONFIG_POLL_S": "0.2", "LIVECFG_ENV": "prod"}
    site.run(sys.executable, "-m", "uvicorn", "examples.service:app", "--port", str(port), log="uvicorn.log", **names)
    eventually(lambda: _get(port, "/cart/u1"), 30, site.logs)
    flags = (EXAMPLES / "config-repo/flags/checkout/checkout.yaml").read_text()
    commit = site.repo.publish({"flags/checkout/checkout.yaml": flags.replace("canary, stable]", "canary, canary]")})
    eventually(lambda: (_get(port, "/cart/u1") or {}).get("backend") == "canary", 30, site.logs)
    assert _get(port, "/-/config")["applied"].endswith(commit)


def _get(port: int, path: str) -> dict[str, str]:
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            found: dict[str, str] = json.loads(answer.read())
    except OSError:
        return {}
    return found


def test_the_readme_shows_code_that_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    with Site(
        tmp_path, files={"config/_shared/base.yaml": "timeout_ms: 300\n", "config/checkout/prod.yaml": "timeout_ms: 400\n"}
    ) as site:
        script = (
            blocks[0].replace("https://git.example.com/acme/config.git", site.url)
            + "\nlive.stop()\nprint(view.config.timeout_ms)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=site.path,
            env=site.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "400"


def test_every_command_the_readme_names_exists() -> None:
    said = set(re.findall(r"(?:^|`)\$? ?livecfg ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    for command in sorted(said):
        assert group.get_command(Context(group), command), f"README names `livecfg {command}`"


def test_every_variable_that_is_read_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    sources = [path.read_text() for path in sorted((ROOT / "livecfg").rglob("*.py"))]
    read = {name for text in sources for name in re.findall(r"""["'](LIVECFG_[A-Z_]*)""", text)}
    assert {"LIVECFG_HOME", "LIVECFG_KEY", "LIVECFG_DEBUG"} <= read
    assert [name for name in sorted(read) if name not in readme] == []


def test_the_readme_shows_files_that_are_read_as_they_stand() -> None:
    files: dict[str, type[BaseModel]] = {
        "flag_tests/checkout.yaml": FlagTestsFile,
        ".livecfg/policy_tests.yaml": TestsFile,
        "experiments/checkout/copy.yaml": Experiment,
    }
    blocks = re.findall(r"```yaml\n# ([^:;\n]+)[:;][^\n]*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = {name: text for name, text in blocks if name in files}
    assert shown.keys() == files.keys()
    for name, text in shown.items():
        validate(files[name], read(text.encode(), name), Code.FLAG_TEST)


def test_the_readme_lists_every_exit_code_and_every_extra() -> None:
    readme = (ROOT / "README.md").read_text()
    codes = readme.partition("| exit code |")[2].partition("\n\n")[0]
    listed = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", codes, re.MULTILINE) for code in row.split(",")}
    assert listed == {*Exit, 141}
    extras = readme.partition("| extra |")[2].partition("\n\n")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"livecfg\[([a-z]+)\]", extras)) == set(project["optional-dependencies"])
