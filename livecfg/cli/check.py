"""`livecfg check`: the same functions that every process runs over a revision, before it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livecfg.cli.output import Exit, envelope, output_option, show_findings, style
from livecfg.refusal import Refusal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from livecfg.revision import Objects


@click.command("check")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".")
@click.option(
    "--model", default="", help="The application's model, module:Model; without it only the files' own form is checked."
)
@click.option("--service", default="", help="Only this service.")
@click.option("--env", default="", help="Only this environment.")
@output_option("json", "github")
def check(directory: Path, model: str, service: str, env: str, output: str) -> None:
    """Check the files of a configuration repository as they are now: syntax, policy, layers, flags and their tests, model.

    Where files are for one region, instance or label only, each is checked, too: in every combination, up to a hundred for a
    service and env, else each by itself.
    """
    from livecfg.cli.effective import check_scope, listed, model_named
    from livecfg.cli.files import files_here

    began = time.perf_counter()
    objects, tree_id = files_here(directory)
    check_scope(objects, tree_id, service, env)
    findings, scopes = find_faults(objects, tree_id, model_named(model), service, env)
    if output == "json":
        envelope("check", {"scopes": scopes}, ok=not findings, findings=findings)
    else:
        show_findings(findings, output)
    if output == "text":
        took = f"in {time.perf_counter() - began:.2f} s"
        if findings:
            code = findings[0].code.value
            click.echo(f"{len(findings)} error{'s' * (len(findings) > 1)} {took} · `livecfg explain {code}` tells more")
        else:
            click.echo(f"{style('ok', fg='green')}: {listed(scopes) if scopes else 'no service has a file yet'} {took}")
    raise SystemExit(int(Exit.FINDINGS if findings else Exit.OK))


def find_faults(
    objects: Objects, tree: str, model: type[BaseModel], service: str = "", env: str = ""
) -> tuple[list[Refusal], list[str]]:
    """Give every fault of a tree, each once, and what was looked at: `service/env`, and the regions, labels … of files."""
    from livecfg.cli.effective import processes_in, snapshot_of
    from livecfg.cli.flags.tests import run_tests as run_flag_tests
    from livecfg.cli.policy import run_tests, test_faults
    from livecfg.cli.sops.whole import broken_layers
    from livecfg.cli.variants import described, variants_of
    from livecfg.errors import RefusedError
    from livecfg.refusal import Code
    from livecfg.trust.policy import load_policy
    from livecfg.trust.suspension import suspended
    from livecfg.trust.tree import SplitObjects, TreeFaultError
    from livecfg.trust.tree import check as check_tree

    objects = SplitObjects(objects)  # every process looks into the same folders
    found: dict[Refusal, None] = {}
    scopes: list[str] = []
    try:
        check_tree(objects, tree, None)
        found |= dict.fromkeys(test_faults(run_tests(objects, tree, load_policy(objects, tree)) or []))
    except TreeFaultError as error:
        found[Refusal(Code.TREE_HYGIENE, str(error))] = None
    except RefusedError as error:
        found |= dict.fromkeys(error.refusals)
    try:
        processes = variants_of(objects, tree, processes_in(objects, tree, service, env))
    except RefusedError as error:
        return [*found, *error.refusals], scopes
    for process in processes:
        scopes.append(described(process))
        try:
            snapshot_of(objects, tree, process, model)
            suspended(objects, tree, process, 0.0)
        except RefusedError as error:
            found |= dict.fromkeys(error.refusals)
    found |= dict.fromkeys(broken_layers(objects, tree, processes))
    run = run_flag_tests(objects, tree, service, env)
    found |= dict.fromkeys(run.faults)  # a load that is refused was reported above, with the same words
    return list(found), scopes
