"""`import livecfg` is light: nothing beside pydantic and the standard library is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.support import ROOT

PYDANTIC = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names of every module that is not of the standard library, as a fresh interpreter without site hooks sees it."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "import json; new = set(sys.modules) - before\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in new} - set(sys.stdlib_module_names))))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in json.loads(done.stdout) if not name.startswith("_sysconfigdata")}  # of the standard library


def test_import_livecfg_loads_pydantic_and_nothing_else() -> None:
    assert loaded_by("import livecfg") - PYDANTIC == {"livecfg"}


def test_touching_every_public_name_loads_nothing_more() -> None:
    assert loaded_by("import livecfg; [getattr(livecfg, name) for name in livecfg.__all__]") - PYDANTIC == {"livecfg"}


@pytest.mark.parametrize("module", ["livecfg.testing", "livecfg.contrib.asgi", "livecfg.contrib.wsgi"])
def test_the_adapters_load_no_git_no_grpc_and_no_cryptography(module: str) -> None:
    assert loaded_by(f"import {module}") & {"dulwich", "grpc", "cryptography", "google", "urllib3", "watchdog"} == set()
