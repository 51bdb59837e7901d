"""`livecfg flags stale`: flags, splits and experiments that have done their work: finished, past their day, or in no code."""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.output import Exit, envelope, fail, output_option, show_findings, style, talk
from livecfg.refusal import Code, Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from livecfg.document import Document, Loc
    from livecfg.flags.flag import CompiledFlag
    from livecfg.revision import Objects
    from livecfg.snapshot import Snapshot

_LASTING = ("ops", "permission")


@click.command("stale")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".")
@click.option(
    "--code",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Python code that uses them; repeatable.",
)
@click.option("--flags", "declared", default="", help="The application's FlagSet, module:Flags: its days count too.")
@click.option("--service", default="", help="Only what this service uses.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 although something is stale.")
@output_option("json", "github")
def stale(directory: Path, folders: tuple[Path, ...], declared: str, service: str, exit_zero: bool, output: str) -> None:
    """Find flags that can go: one variant is all they give, in every env; their day has passed; no code names them. Exit 1: some.

    The day of a flag is `expires` in its metadata, or in the application's FlagSet. `kind: ops`, `kind: permission` and
    `permanent: true` in the metadata let a flag rest at one variant.
    """
    from livecfg.cli.effective import check_scope, processes_in, snapshot_of
    from livecfg.cli.files import files_here

    objects, tree = files_here(directory)
    check_scope(objects, tree, service, "")
    snapshots = {f"{p.service}/{p.env}": snapshot_of(objects, tree, p) for p in processes_in(objects, tree, service)}
    today = dt.datetime.fromtimestamp(time.time(), dt.UTC).date()
    survey = _Survey(objects, snapshots, today)
    findings = [*survey.finished(), *survey.expired(), *survey.ended()]
    if declared:
        findings += _past(declared, today)
    if folders:
        findings += survey.unused(folders)
    findings = sorted(dict.fromkeys(findings), key=lambda f: (f.path, f.line, f.column, f.message))
    if output == "json":
        envelope("flags stale", {"flags": len(survey.flags), "scopes": list(snapshots)}, ok=not findings, findings=findings)
    else:
        show_findings(findings, output, level="warning")
    if output == "text" and not findings:
        where = ", ".join(snapshots) or "no service"
        click.echo(f"{style('ok', fg='green')}: none of {len(survey.flags)} flags is stale in {where}")
    raise SystemExit(int(Exit.FINDINGS if findings and not exit_zero else Exit.OK))


class _Survey:
    """All flags, splits and experiments of some processes, each with the file it stands in."""

    def __init__(self, objects: Objects, snapshots: Mapping[str, Snapshot[Any]], today: dt.date) -> None:
        self.objects = objects
        self.snapshots = snapshots
        self.today = today
        self.flags: dict[tuple[str, str], dict[str, CompiledFlag]] = defaultdict(dict)  # (path, key) → flag as each scope has it
        self.splits: dict[tuple[str, str], str] = {}
        self.blobs: dict[str, str] = {}
        self.experiments: dict[str, Document] = {}
        for scope, snapshot in snapshots.items():
            for path, (blob, made, _) in snapshot.parts.flags.items():
                self.blobs[path] = blob
                for key in made.flags:
                    self.flags[path, key][scope] = snapshot.flags[key]
            for path, (blob, (split, _), _) in snapshot.parts.splits.items():
                self.blobs[path] = blob
                self.splits[path, split.name] = scope
            self.experiments |= {path: document for path, (_, document, _) in snapshot.parts.experiments.items()}

    def finished(self) -> Iterator[Refusal]:
        """Flags that give one variant only, the same in every env."""
        from livecfg.flags.lifecycle import reachable

        for (path, key), scopes in self.flags.items():
            flag = next(iter(scopes.values()))
            if flag.metadata.get("permanent") is True or flag.metadata.get("kind") in _LASTING:
                continue
            variants = frozenset[str | None]().union(*map(reachable, scopes.values()))
            if len(variants) == 1:
                (name,) = variants
                what = f"everybody gets {name!r}" if name is not None else "everybody gets what the code says"
                advice = "write it into the code, then remove the flag"
                yield self._finding(path, flag.definition.loc, f"{key} is finished: {what}{_owner(flag)}", advice)

    def expired(self) -> Iterator[Refusal]:
        """Flags whose own metadata says a day that has passed."""
        for (path, key), scopes in self.flags.items():
            flag = next(iter(scopes.values()))
            if "expires" not in flag.metadata:
                continue
            text, loc = str(flag.metadata["expires"]), (*flag.definition.loc, "metadata", "expires")
            day = _day(text)
            if day is None:
                yield self._finding(path, loc, f"{key}: expected expires: a day such as 2027-03-01")
            elif day < self.today:
                days = (self.today - day).days
                yield self._finding(
                    path, loc, f"{key} expired on {text}, {days} days ago{_owner(flag)}", "remove it, or set another day"
                )

    def ended(self) -> Iterator[Refusal]:
        """Experiments after their last day."""
        for path, document in self.experiments.items():
            value = document.value if isinstance(document.value, dict) else {}
            day = _day(str(value.get("until", "")))
            if day is not None and day < self.today and "experiment" in value:
                message = f"the experiment {value['experiment']} ended on {day}; nobody takes part any more"
                at = document.position(("until",))
                advice = "`livecfg exp stop` lets the flag give the arm that won"
                yield Refusal(Code.FLAG_STALE, message, path=path, line=at.line, column=at.column, advice=advice)

    def unused(self, folders: tuple[Path, ...]) -> Iterator[Refusal]:
        """Flags and splits that no Python file names."""
        from livecfg.cli.flags.code import keys_in

        keys, unread = keys_in(folders)
        for lost in unread:
            talk(f"{printable(str(lost))} is no Python that can be read: what it names does not count")
        advice = "remove it, unless something else than this code reads it"
        for (path, key), scopes in self.flags.items():
            if key not in keys:
                flag = next(iter(scopes.values()))
                yield self._finding(path, flag.definition.loc, f"{key} is in no code{_owner(flag)}", advice)
        for path, name in self.splits:
            if name not in keys:
                yield self._finding(path, ("split",), f"the split {name} is in no code", advice)

    def _finding(self, path: str, loc: Loc, message: str, advice: str = "") -> Refusal:
        from livecfg.document import read

        document = read(self.objects.read(self.blobs[path], "blob"), path)
        return document.refusal(Code.FLAG_STALE, loc, message, at_key=len(loc) == 2, advice=advice)


def _owner(flag: CompiledFlag) -> str:
    owner = flag.metadata.get("owner")
    return f" (owner: {owner})" if owner else ""


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _past(name: str, today: dt.date) -> Iterator[Refusal]:
    """Declarations of the application's FlagSet whose day has passed."""
    from livecfg.cli.effective import object_named
    from livecfg.flagset import FlagSet, declared

    found = object_named(name, "--flags")
    if not (isinstance(found, type) and issubclass(found, FlagSet)):
        fail(f"--flags {name}: not a FlagSet")
    for key, flag in declared(found).items():
        day = _day(flag.expires)
        if day is not None and day < today:
            message = f"{key} expired on {flag.expires}, {(today - day).days} days ago (owner: {flag.owner})"
            yield Refusal(Code.FLAG_STALE, message, path=name, advice="remove it from the code, or set another day")
