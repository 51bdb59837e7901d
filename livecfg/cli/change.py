"""`livecfg set|commit|adopt`: every change is checked first, and is a signed commit after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from livecfg.cli.clone import Clone, signing_key
from livecfg.cli.output import Exit, fail, show_findings, talk

_KEY = click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="SSH private key; default: Git's user.signingkey."
)
_MESSAGE = click.option("-m", "--message", default="", help="Why; the first line is the subject.")


@click.command("set")
@click.argument("name", metavar="KEY")
@click.argument("value")
@click.option("--service", default="", help="Service; needed when there are several.")
@click.option("--env", default="", help="Environment; needed when there are several.")
@click.option(
    "--file", "path", default="", help="The layer to edit; default: the one that sets KEY now, else the last one there is."
)
@click.option("--model", default="", help="The application's model, module:Model, to check against.")
@_MESSAGE
@_KEY
def set_(  # one parameter per option
    name: str, value: str, service: str, env: str, path: str, model: str, message: str, key: Path | None
) -> None:
    """Set KEY to VALUE (a YAML scalar) in its layer, comments kept; check the result; commit and sign it."""
    from livecfg.cli.edit import set_in_text
    from livecfg.cli.effective import one_process, working_tree

    clone = Clone()
    objects, tree_id = working_tree(clone.root)
    process = one_process(objects, tree_id, service, env)
    clone.check_no_merge()
    clone.check_nothing_staged()
    layer = (clone.root / (path or _layer_for(objects, tree_id, process, name))).resolve()
    if not layer.is_relative_to(clone.root.resolve()):
        fail(f"--file {path}: outside of the repository {clone.root}")
    layer = clone.root / layer.relative_to(clone.root.resolve())
    before = layer.read_text() if layer.exists() else ""
    after = set_in_text(before, name, value, str(layer.relative_to(clone.root)))
    if after == before:
        click.echo(f"{name} is {value} already; nothing was changed")
        return
    layer.parent.mkdir(parents=True, exist_ok=True)
    layer.write_text(after)
    try:
        _check(clone, model)
    except SystemExit:
        layer.write_text(before) if before else layer.unlink()
        talk("nothing was changed")
        raise
    private, _ = signing_key(clone, key)
    where = layer.relative_to(clone.root)
    clone.stage([str(where)])
    commit = clone.make_commit(with_trailers(clone, message or f"Set {name} to {value} in {where}"), private)
    click.echo(f"{commit[:10]}  {where}: {name} = {value}")
    talk("push it: git push")


def _layer_for(objects: Any, tree: str, process: Any, name: str) -> str:
    """The layer that sets the key for this process now, else the last layer that has a file."""
    from livecfg.cli.effective import manifest_of, snapshot_of
    from livecfg.trust.tree import lookup

    try:
        origin = snapshot_of(objects, tree, process).explain(name)
    except KeyError:
        origin = None
    if origin is not None and origin.path:
        return str(origin.path)
    paths = [path for template in manifest_of(objects, tree).layers if (path := process.expand(template))]
    present = [path for path in paths if lookup(objects, tree, path) is not None]
    return str((present or paths)[-1])


@click.command("commit")
@_MESSAGE
@click.option("--model", default="", help="The application's model, module:Model, to check against.")
@_KEY
def commit(message: str, model: str, key: Path | None) -> None:
    """Check the working tree; when it is good, commit all of it, signed."""
    clone = Clone()
    if not message:
        fail("say why: -m MESSAGE")
    _check(clone, model)
    private, _ = signing_key(clone, key)
    clone.stage()
    made = clone.make_commit(with_trailers(clone, message), private)
    click.echo(f"{made[:10]}  {message.splitlines()[0]}")
    talk("push it: git push")


@click.command("adopt")
@click.argument("revision", metavar="COMMIT")
@_MESSAGE
@_KEY
def adopt(revision: str, message: str, key: Path | None) -> None:
    """Vouch for COMMIT, landed or skipped, with an empty signed commit that names it."""
    clone = Clone()
    adopted = clone.resolve(revision)
    if adopted not in {c.id for c in clone.chain(clone.head())}:
        fail(f"{adopted[:10]} is not on this branch's first-parent chain: only what has landed can be adopted")
    private, _ = signing_key(clone, key)
    subject = message or f"Adopt {adopted[:10]}: {clone.commit(adopted).subject}"
    made = clone.make_commit(with_trailers(clone, subject, f"Livecfg-Adopt: {adopted}"), private, empty=True)
    click.echo(f"{made[:10]}  adopts {adopted[:10]}")
    talk("push it: git push")


def _check(clone: Clone, model: str) -> None:
    """Show every fault and exit 1, unless there is none."""
    from livecfg.cli.check import find_faults
    from livecfg.cli.effective import model_named, working_tree

    objects, tree_id = working_tree(clone.root)
    findings, _ = find_faults(objects, tree_id, model_named(model))
    if findings:
        show_findings(findings)
        raise SystemExit(int(Exit.FINDINGS))


def with_trailers(clone: Clone, message: str, *trailers: str) -> str:
    """Add the trailers, and the one that names repository and branch, so that the signature counts only here."""
    policy = clone.root / ".livecfg/policy.yaml"
    found = re.search(r'^repo_id: *"?([0-9a-f]{32})', policy.read_text(), re.MULTILINE) if policy.exists() else None
    names, _ = clone.repo.refs.follow(b"HEAD")  # type: ignore[arg-type]  # dulwich's NewType
    lines = [*trailers, *([f"Livecfg-Ref: {found[1]} {names[-1].decode().removeprefix('refs/heads/')}"] if found else [])]
    return message.rstrip("\n") + "\n\n" + "\n".join(lines) if lines else message
