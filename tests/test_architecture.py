"""Promises about the shape of the code that no linter checks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import livecfg

ROOT = Path(__file__).parents[1]
MODULES = [p for p in sorted((ROOT / "livecfg").rglob("*.py")) if "_pb" not in p.parts]
FOREIGN = set("dulwich cryptography yaml watchdog click grpc google mmh3 urllib3 psycopg starlette jinja2".split())  # noqa: SIM905


def test_no_module_is_over_400_lines_without_a_reason_in_the_architecture_page() -> None:
    reasons = (ROOT / "ARCHITECTURE.md").read_text()
    long = [str(p.relative_to(ROOT)) for p in MODULES if len(p.read_text().splitlines()) > 400]
    assert [p for p in long if f"`{p}`" not in reasons] == []


def test_a_verified_commit_is_made_in_one_line_of_verify() -> None:
    makers = [(p.name, line) for p in MODULES for line in p.read_text().splitlines() if re.search(r"\bVerifiedCommit\(", line)]
    assert [name for name, _ in makers] == ["verify.py"], makers


def test_importing_livecfg_loads_only_pydantic_beside_the_standard_library() -> None:
    script = "import sys, json, livecfg; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout))
    assert loaded & FOREIGN == set()
    assert "pydantic" in loaded


def test_importing_livecfg_builds_no_pydantic_model() -> None:
    """Each costs milliseconds; those of the loader are built in the first read."""
    script = "import livecfg, pydantic; print([m.__module__ for m in pydantic.BaseModel.__subclasses__()])"
    models = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    assert "livecfg" not in models


def test_the_public_names_are_the_ones_that_can_be_imported() -> None:
    public = {name for name in vars(livecfg) if name.isidentifier() and not name.startswith("_")}
    modules = {p.stem for p in (ROOT / "livecfg").glob("*.py")} | {p.name for p in (ROOT / "livecfg").iterdir() if p.is_dir()}
    assert list(livecfg.__all__) == sorted(livecfg.__all__)
    assert public - modules - {"annotations"} == set(livecfg.__all__)


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in livecfg.__all__ if not (getattr(livecfg, name).__doc__ or "").strip()] == []
