"""`livecfg set|commit|adopt`: every change is checked, signed and judged before HEAD moves to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.draft import Draft
from livecfg.cli.later import later
from livecfg.cli.output import CommandError, Exit, asked_of, envelope, fail, output_option, talk
from livecfg.cli.signing import key_option, signing_key
from livecfg.errors import RefusedError
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from livecfg.cli.signing import Signer
    from livecfg.layers import Process
    from livecfg.refusal import Refusal

_MESSAGE = click.option("-m", "--message", default="", help="Why; the first line is the subject.")
_MODEL = click.option("--model", default="", help="The application's model, module:Model, to check against.")


@click.command("set")
@click.argument("name", metavar="KEY")
@click.argument("value", default="")
@click.option("--unset", is_flag=True, help="Remove KEY from the layer instead of setting it.")
@click.option("--service", default="", help="Service; needed when there are several.")
@click.option("--env", default="", help="Environment; needed when there are several.")
@click.option(
    "--file",
    "path",
    default="",
    help="The layer to edit, by its path from here, or else from the repository's root; "
    "default: with --env that environment's, else the one that sets KEY now.",
)
@_MODEL
@_MESSAGE
@key_option
@output_option("json")
@click.pass_context
def set_(  # one parameter per option
    context: click.Context,
    name: str,
    value: str,
    unset: bool,
    service: str,
    env: str,
    path: str,
    model: str,
    message: str,
    key: Path | None,
    output: str,
) -> None:
    """Set KEY to VALUE (a YAML value) in its layer, comments kept; check the result, commit and sign it."""
    from livecfg.cli.edit import set_in_text, unset_in_text
    from livecfg.cli.effective import processes_in, scope_fault

    given = context.get_parameter_source("value") is click.core.ParameterSource.COMMANDLINE
    if given == unset:
        raise click.UsageError("give either a VALUE or --unset")
    clone = Clone()
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    layer = _layer(clone, draft.tree(), name, (service, env, path))
    before = _text(draft.current(layer), layer)
    after = unset_in_text(before, name, layer) if unset else set_in_text(before, name, value, layer)
    if not unset:
        _keep_secret(clone, draft.tree(), layer, (name, value), processes_in(clone, draft.tree(), service, env))
    new = scope_fault(clone, draft.tree(), service) if service else ""
    did = f"{name} removed" if unset else f"{name} = {value}"
    if after == before:
        _show(output, "set", "", (), f"{did}: it is so already; nothing was changed")
        return
    draft.put(layer, after.encode())
    check(clone, draft, model)
    subject = message or (f"Remove {name} from {layer}" if unset else f"Set {name} to {value} in {layer}")
    record(draft, subject, signer, f"{layer}: {did}" + (f" ({service} is a new service: {new})" if new else ""))


def _keep_secret(clone: Clone, tree: str, layer: str, change: tuple[str, str], asked: Iterable[Process]) -> None:
    """Refuse to write in plain text what another layer of the same applications keeps encrypted: Git never forgets it."""
    from livecfg.cli.sops.whole import holder_of
    from livecfg.document import read
    from livecfg.layers import TAGS

    name, value = change
    wanted = read(value.encode(), "value", tags=TAGS).value
    for part in reversed(name.split(".")):
        wanted = {part: wanted}
    if holder := holder_of(clone, tree, layer, wanted, asked):
        fail(
            f"{name} is encrypted with SOPS in {holder}, and would stand in plain text in {layer}; nothing was changed: "
            f"`livecfg secrets edit {holder}`, or put it into a layer that is encrypted, too (`livecfg secrets encrypt FILE`)",
            Exit.REFUSED,
        )


def _text(data: bytes, path: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8 (byte {error.start})", Exit.FINDINGS)


def _layer(clone: Clone, tree: str, name: str, asked: tuple[str, str, str]) -> str:
    """The path of the layer to edit, inside the repository."""
    from livecfg.cli.effective import one_process

    service, env, path = asked
    if path:
        return _layer_named(clone, tree, asked)
    found = _layer_for(clone, tree, one_process(clone, tree, service, env, new=True), name, env)
    return _inside(clone, clone.root, found) or fail(f"{found} leads out of the repository {clone.root}")


def _layer_named(clone: Clone, tree: str, asked: tuple[str, str, str]) -> str:
    """The layer that --file names, of one of the processes that are asked for: nobody would read another file.

    As git has it the path begins in the current folder; where that is no layer, at the root, as messages write paths.
    """
    from livecfg.cli.effective import is_one_of, layers_of, listed, names_of, one_process, processes_in

    service, env, path = asked
    processes = processes_in(clone, tree, service, env) or [one_process(clone, tree, service, env)]
    layers = list(dict.fromkeys(layer for process in processes for layer in layers_of(clone, tree, process)))
    inside = [found for folder in (Path.cwd(), clone.root) if (found := _inside(clone, folder, path))]
    for found in inside:
        if is_one_of(found, layers):
            return found
    if not inside:
        fail(f"--file {path}: outside of the repository {clone.root}")
    names = names_of(processes)
    advice = "" if service and env else "; for a new service or environment give --service and --env"
    return fail(f"--file {path}: no layer of {names}, so that no application would read it; its layers: {listed(layers)}{advice}")


def _inside(clone: Clone, folder: Path, path: str) -> str:
    """The path of a file from the repository's root on; empty where it is none of the repository's."""
    root = clone.root.resolve()
    found = (folder / path).resolve()
    inside = found.is_relative_to(root) and not found.is_relative_to(root / ".git")
    return found.relative_to(root).as_posix() if inside else ""


def _layer_for(objects: Any, tree: str, process: Any, name: str, env: str) -> str:
    """The layer that sets the key for this process now, else the last one that has a file.

    With an environment asked for, that environment's own layer, even where there is no such file yet: a change that names one
    environment must not reach the others. Only a layer that comes later still goes before it, since it would win.
    """
    from livecfg.cli.effective import manifest_of, snapshot_of
    from livecfg.trust.tree import lookup

    try:
        origin = snapshot_of(objects, tree, process).explain(name)
    except KeyError:
        origin = None
    templates = manifest_of(objects, tree).layers
    layers = [(path, "{env}" in template) for template in templates if (path := process.expand(template))]
    paths: list[str] = [path for path, _ in layers]
    now = paths.index(origin.path) if origin is not None and origin.path in paths else -1
    own = max((i for i, (_, of_env) in enumerate(layers) if of_env), default=-1) if env else -1
    if own > now:
        return paths[own]
    if now >= 0:
        return paths[now]
    present = [path for path in paths if lookup(objects, tree, path) is not None]
    return (present or paths)[-1]


@click.command("commit")
@_MESSAGE
@_MODEL
@key_option
@output_option("json")
def commit(message: str, model: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Check the working tree; when it is good, commit all of it, signed."""
    clone = Clone()
    if not message.strip():
        fail("say why: -m MESSAGE")
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.add_everything()
    if draft.parent and draft.tree() == clone.commit(draft.parent).tree:
        fail("nothing to commit: the working tree is what HEAD has", Exit.FINDINGS)
    check(clone, draft, model)
    record(draft, message, signer, message.strip().splitlines()[0])


@click.command("adopt")
@click.argument("revision", metavar="COMMIT")
@_MESSAGE
@key_option
@output_option("json")
def adopt(revision: str, message: str, key: Path | None, output: str) -> None:
    """Vouch for COMMIT, landed or skipped, with an empty signed commit that names it."""
    from livecfg.cli.judge import judge_adoption

    clone = Clone()
    adopted = clone.resolve(revision)
    if adopted not in {c.id for c in clone.chain(clone.tip())}:
        fail(f"{adopted[:10]} is not on this branch's first-parent chain: only what has landed can be adopted")
    signer = signing_key(clone, key)
    draft = Draft(clone, empty=True)
    subject = message or f"Adopt {adopted[:10]}: {printable(clone.commit(adopted).subject)}"
    made = draft.commit(with_trailers(draft, subject, f"Livecfg-Adopt: {adopted}"), signer)
    waits = judge_adoption(clone, made, adopted)
    draft.land(made)
    _show(output, "adopt", made.id, waits, f"adopts {adopted[:10]}")


def check(clone: Clone, draft: Draft, model: str = "") -> None:
    """Check the tree of a draft as applications would load it.

    Raises:
        CommandError: with every fault.

    """
    from livecfg.cli.check import find_faults
    from livecfg.cli.effective import model_named

    findings, _ = find_faults(clone, draft.tree(), model_named(model))
    if findings:
        raise CommandError("nothing was changed", Exit.FINDINGS, findings)


def record(draft: Draft, message: str, signer: Signer, did: str) -> None:
    """Sign, judge and land a draft, and say so."""
    from livecfg.cli.judge import followed, judge

    clone = draft.clone
    made = draft.commit(with_trailers(draft, message), signer)
    waits = judge(clone, made, draft.branch)
    draft.land(made)
    asked, held = asked_of(), later(clone, made.id) if draft.branch == followed(clone) else []
    _show(asked.output, asked.command, made.id, waits, did, held)


def _show(output: str, command: str, commit_id: str, waits: tuple[Refusal, ...], did: str, held: Sequence[str] = ()) -> None:
    from livecfg.cli.judge import tell_waiting

    if output == "json":
        data = {"commit": commit_id, "did": did, "waits": [r.as_dict() for r in waits], "later": list(held)}
        envelope(command, data)
        return
    click.echo(f"{commit_id[:10]}  {printable(did)}" if commit_id else printable(did))
    tell_waiting(waits)
    for why in held:
        talk(f"not at once: {printable(why)}")
    if commit_id:
        talk("push it: git push")


def with_trailers(draft: Draft, message: str, *trailers: str) -> str:
    """Add the trailers, and the one that names repository and branch, so that the signature counts only here."""
    from livecfg.trust.approvals import BIND
    from livecfg.trust.policy import load_policy

    try:
        repo_id = load_policy(draft.clone, draft.tree()).file.repo_id
    except RefusedError:  # a tree without a policy that holds: the checks say so
        return joined(message, *trailers)
    return joined(message, *trailers, f"{BIND}: {repo_id} {draft.branch}")


def joined(message: str, *trailers: str) -> str:
    """Add trailers to a message, in the last paragraph when that has nothing else."""
    from livecfg.trust.commits import trailers as trailers_of

    message = message.rstrip("\n")
    last = message.rpartition("\n\n")[2]
    own = "\n\n" in message and len(trailers_of(message)) == last.count("\n") + 1
    return message + ("\n" if own else "\n\n") + "\n".join(trailers) if trailers else message
