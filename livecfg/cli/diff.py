"""`livecfg diff`: what a change means for each service and env: values, flags and splits, not lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, output_option, style
from livecfg.refusal import printable

if TYPE_CHECKING:
    from livecfg.layers import Process
    from livecfg.revision import Objects

_ABSENT = object()


@click.command("diff")
@click.argument("revisions", default="HEAD", metavar="[A..B]")
@click.option("--service", default="", help="Only this service.")
@click.option("--env", default="", help="Only this environment.")
@output_option("json")
def diff(revisions: str, service: str, env: str, output: str) -> None:
    """Show the effective difference A..B per service and env (A alone: against the files here). Exit 1: there is one."""
    from livecfg.cli.files import files_here

    clone = Clone()
    before, dots, after = revisions.partition("..")
    old = Side(clone, clone.commit(clone.resolve(before or "HEAD")).tree)
    new = Side(clone, clone.commit(clone.resolve(after or "HEAD")).tree) if dots else Side(*files_here(clone.root))
    _check_scope(old, new, service, env)
    changes = changes_between(old, new, service, env)
    if output == "json":
        envelope("diff", changes, ok=not changes)
    else:
        show_changes(changes)
    raise SystemExit(int(Exit.FINDINGS if changes else Exit.OK))


def _check_scope(old: Side, new: Side, service: str, env: str) -> None:
    """End the command where neither side has a file for what is asked for; a change may add or remove all of them."""
    from livecfg.cli.effective import check_scope, scope_fault

    if not (service or env) or not all(scope_fault(side.objects, side.tree, service, env) for side in (old, new)):
        return
    check_scope(new.objects, new.tree, service, env)


class Side(NamedTuple):
    """One of the two trees."""

    objects: Objects
    tree: str

    def meaning(self, process: Process) -> dict[str, Any]:
        """Everything the process gets, by dotted key; what is no value stands under `flag`, `split`, `experiment` or `file`."""
        from livecfg.cli.effective import flat, plain, snapshot_of

        snapshot = snapshot_of(self.objects, self.tree, process)
        parts = snapshot.parts
        found = flat(plain(snapshot.config))
        for path, (blob, _, _) in parts.flags.items():
            for key, flag in self._document(path, blob)["flags"].items():
                found |= flat(flag, f"flag {key}")
        for path, (blob, (split, _), _) in parts.splits.items():
            found |= flat(self._document(path, blob), f"split {split.name}")
        for path, (blob, _, _) in parts.experiments.items():
            found |= flat(self._document(path, blob), f"experiment {path}")
        return found | {f"file {path}": blob for path, (blob, _) in parts.files.items()}

    def _document(self, path: str, blob: str) -> Any:
        from livecfg.document import read

        return read(self.objects.read(blob, "blob"), path).value


def changes_between(old: Side, new: Side, service: str = "", env: str = "") -> list[dict[str, Any]]:
    """Give every difference for every service and env that either side knows."""
    from livecfg.cli.effective import processes_in

    known = {(p.service, p.env): p for side in (old, new) for p in processes_in(side.objects, side.tree, service, env)}
    processes = [process for _, process in sorted(known.items())]
    return [row for process in processes for row in _changes(process, old.meaning(process), new.meaning(process))]


def show_changes(changes: list[dict[str, Any]], *, err: bool = False) -> None:
    """Print differences, one a line."""
    for c in changes:
        was, now = (_shown(c, side) for side in ("old", "new"))
        text = f"{c['service']}/{c['env']}  {printable(c['key'])}: {style(was, fg='red')} → {style(now, fg='green')}"
        click.echo(text, err=err)


def _changes(process: Process, old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    from livecfg.cli.effective import same

    rows = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if same(was, now):
            continue
        change = "added" if was is _ABSENT else "removed" if now is _ABSENT else "changed"
        values = {"old": old.get(key), "new": new.get(key)}
        rows.append({"service": process.service, "env": process.env, "key": key, "change": change} | values)
    return rows


def _shown(row: dict[str, Any], side: str) -> str:
    absent = row["change"] == {"old": "added", "new": "removed"}[side]
    return "(not set)" if absent else json.dumps(row[side])
