"""`livecfg flags test`: run the flag tests of the files as they are now; `livecfg check` runs them too."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livecfg.cli.output import Exit, envelope, fail, output_option, show_findings, style
from livecfg.refusal import printable

if TYPE_CHECKING:
    from livecfg.document import Document
    from livecfg.flags.flag_tests import FlagTestsFile, Outcome
    from livecfg.refusal import Refusal
    from livecfg.revision import Objects


@dataclass(slots=True)
class Run:
    """How the tests of a tree went; `faults` also holds what kept some from running."""

    files: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[Refusal] = field(default_factory=list)


@click.command("test")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".")
@click.option("--service", default="", help="Only the tests of this service.")
@click.option("--env", default="", help="Only in this environment.")
@output_option("json", "github")
def test(directory: Path, service: str, env: str, output: str) -> None:
    """Run the tests in flag_tests/: what callers must get from the flags and splits as their files are now. Exit 1: one fails."""
    from livecfg.cli.effective import check_scope
    from livecfg.cli.files import files_here
    from livecfg.flags.flag_tests import FOLDER

    began = time.perf_counter()
    objects, tree = files_here(directory)
    check_scope(objects, tree, service, env)
    run = run_tests(objects, tree, service, env)
    if not run.files:
        fail(f"there are no tests: a .yaml file below {FOLDER}/ says what callers must get", Exit.FINDINGS)
    if not (run.outcomes or run.faults):
        fail(f"there are no tests of {service or 'any service'}/{env or 'any env'} below {FOLDER}/", Exit.FINDINGS)
    rows = [{"name": o.name, "env": o.env, "ok": o.fault is None} for o in run.outcomes]
    if output == "json":
        envelope("flags test", rows, ok=not run.faults, findings=run.faults)
    else:
        show_findings(run.faults, output)
    if output == "text":
        passed = sum(o.fault is None for o in run.outcomes)
        state = style(f"{len(run.faults)} failed", fg="red") if run.faults else style("ok", fg="green")
        click.echo(f"{state}: {passed} of {len(run.outcomes)} passed in {time.perf_counter() - began:.2f} s")
    raise SystemExit(int(Exit.FINDINGS if run.faults else Exit.OK))


def run_tests(objects: Objects, tree: str, service: str = "", env: str = "") -> Run:
    """Run every flag test of a tree, of one service or in one env where they are named."""
    from livecfg.errors import RefusedError
    from livecfg.flags.flag_tests import FOLDER, read_flag_tests
    from livecfg.trust.tree import lookup, walk

    run = Run()
    folder = lookup(objects, tree, FOLDER)
    for path, entry in walk(objects, folder.id, f"{FOLDER}/") if folder is not None and folder.is_tree else ():
        if not path.endswith((".yaml", ".yml", ".json")):
            continue
        run.files += 1
        try:
            document, file = read_flag_tests(objects.read(entry.id, "blob"), path)
        except RefusedError as error:
            run.faults += error.refusals
            continue
        for name in file.env if service in {"", file.service} else ():
            if env in {"", name}:
                _run(run, objects, tree, name, (document, file))
    return run


def _run(run: Run, objects: Objects, tree: str, env: str, tests: tuple[Document, FlagTestsFile]) -> None:
    from livecfg.cli.effective import processes_in, snapshot_of
    from livecfg.errors import RefusedError
    from livecfg.flags.flag_tests import run_flag_tests
    from livecfg.refusal import Code

    document, file = tests
    now = int(file.at.timestamp() if file.at is not None else time.time())
    try:
        known = {p.env: p for p in processes_in(objects, tree, file.service)}
        if env not in known:
            names = ", ".join(known) or "none"
            message = f"the layers have no file for {printable(file.service)}/{printable(env)}; envs of the service: {names}"
            run.faults.append(document.refusal(Code.FLAG_TEST, ("env",), message))
            return
        snapshot = snapshot_of(objects, tree, known[env], clock=lambda: now)
    except RefusedError as error:
        run.faults += error.refusals
        return
    made = run_flag_tests(document, file, env, snapshot.flags, snapshot.splits)
    run.outcomes += made
    run.faults += [o.fault for o in made if o.fault is not None]
