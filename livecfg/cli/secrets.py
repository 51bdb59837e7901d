"""`livecfg secrets`: whether every reference resolves here, and nothing secret is in plain text. `check` never prints a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.output import Exit, envelope, output_option, show_findings, style
from livecfg.cli.sops.verbs import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.document import Loc
    from livecfg.refusal import Refusal
    from livecfg.snapshot import Snapshot


@click.group("secrets")
def secrets() -> None:
    """Secrets that the configuration refers to, or holds encrypted (SOPS with age)."""


for command in commands:
    secrets.add_command(command)


@secrets.command("check")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".")
@click.option("--model", default="", help="The application's model, module:Model: finds secrets in plain text, too.")
@click.option("--service", default="", help="Only this service.")
@click.option("--env", default="", help="Only this environment.")
@click.option("--folder", "folders", type=click.Path(path_type=Path), multiple=True, help="Where secret files may lie.")
@click.option("--plugin", "plugins", multiple=True, help="A scheme that the application resolves itself: not asked here.")
@output_option("json", "github")
def check(
    directory: Path, model: str, service: str, env: str, folders: tuple[Path, ...], plugins: tuple[str, ...], output: str
) -> None:
    """Check that every `!secret` reference and every encrypted file gives its value in this environment, on this machine."""
    from livecfg.cli.effective import check_scope, model_named, processes_in, snapshot_of
    from livecfg.cli.files import files_here
    from livecfg.errors import RefusedError
    from livecfg.resolver import SecretResolver, SecretSources

    known = SecretSources(plugins=dict.fromkeys(plugins, lambda name: name))
    if folders:
        known = SecretSources(folders=folders, plugins=known.plugins)
    objects, tree = files_here(directory)
    check_scope(objects, tree, service, env)
    found: dict[Refusal, None] = {}
    count = 0
    for process in processes_in(objects, tree, service, env):
        try:
            snapshot = snapshot_of(objects, tree, process, model_named(model), SecretResolver(known, os.environ))
        except RefusedError as error:
            found |= dict.fromkeys(error.refusals)
            continue
        count += len(snapshot.parts.secrets)
        found |= dict.fromkeys(_in_plain_text(snapshot))
    if output == "json":
        envelope("secrets check", {"secrets": count}, ok=not found, findings=list(found))
    else:
        show_findings(list(found), output)
    if output == "text" and not found:
        click.echo(f"{style('ok', fg='green')}: {count} secrets resolve here")
    raise SystemExit(int(Exit.FINDINGS if found else Exit.OK))


def _in_plain_text(snapshot: Snapshot[Any]) -> Iterator[Refusal]:
    """Every SecretStr of the model whose value stands in a layer as it is."""
    from livecfg.refusal import Code, Refusal

    merged = snapshot.parts.merged
    for loc in _plain_locs(snapshot.config, merged.value, ()):
        path, at = merged.locate(loc)
        dotted = ".".join(map(str, loc))
        advice = "replace it by a !secret reference or encrypt the file; it is in the history: change the secret itself"
        yield Refusal(Code.SECRET, f"{dotted}: a secret in plain text", path=path, line=at.line, column=at.column, advice=advice)


def _plain_locs(value: Any, written: Any, loc: Loc) -> Iterator[Loc]:
    from pydantic import BaseModel, SecretStr

    if isinstance(value, SecretStr):
        if isinstance(written, str) and written:
            yield loc
    elif isinstance(value, BaseModel) and isinstance(written, dict):
        for name, field in type(value).model_fields.items():
            for key in {name, field.alias or name} & written.keys():
                yield from _plain_locs(getattr(value, name), written[key], (*loc, key))
    elif isinstance(value, dict) and isinstance(written, dict):
        for key in value.keys() & written.keys():
            yield from _plain_locs(value[key], written[key], (*loc, key))
    elif isinstance(value, list | tuple) and isinstance(written, list):
        for index, (inner, text) in enumerate(zip(value, written, strict=False)):
            yield from _plain_locs(inner, text, (*loc, index))
