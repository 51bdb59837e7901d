"""`livecfg exp list|show|stop`: experiments of the repository, what the hub counted of them, and their end."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from livecfg.cli.clone import Clone
from livecfg.cli.hubcall import ask, hub_option
from livecfg.cli.look import scope_options
from livecfg.cli.output import Exit, ago, envelope, fail, output_option, style, talk
from livecfg.cli.signing import key_option, signing_key
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from livecfg.flags.experiment import CompiledExperiment, Experiment
    from livecfg.flags.results import Comparison, Results
    from livecfg.flags.statistics import Estimate, Interval, Sums
    from livecfg.hub._pb import hub_pb2
    from livecfg.layers import Process
    from livecfg.snapshot import Snapshot


@click.group("exp")
def exp() -> None:
    """Experiments: list them, show what came out, stop one and ship a variant."""


class _Loaded(NamedTuple):
    """The experiments of one process at one revision, each with the path of its file."""

    clone: Clone
    process: Process
    snapshot: Snapshot[Any]
    experiments: dict[str, tuple[str, CompiledExperiment]]

    def find(self, name: str) -> tuple[str, CompiledExperiment]:
        found = self.experiments.get(name)
        if found is None:
            names = ", ".join(self.experiments) or "none"
            fail(f"{name} is no experiment of {self.process.service}/{self.process.env} (there are: {names})", Exit.FINDINGS)
        return found


def _load(service: str, env: str, rev: str) -> _Loaded:
    from livecfg.cli.effective import one_process, snapshot_of
    from livecfg.flags.experiment import compile_experiments
    from livecfg.flags.segment import PREFIX

    clone = Clone()
    tree = clone.commit(clone.resolve(rev)).tree
    process = one_process(clone, tree, service, env)
    snapshot = snapshot_of(clone, tree, process)
    documents = [document for _, document, _ in snapshot.parts.experiments.values()]
    segments = {PREFIX + segment.name: segment for _, segment, _ in snapshot.parts.segments.values()}
    made, _ = compile_experiments(
        documents, static=process.attributes, clock=lambda: 0, segments=segments
    )  # it loaded: no faults
    return _Loaded(clone, process, snapshot, {e.model.experiment: (document.path, e) for document, e in made})


def _state(model: Experiment) -> str:
    if model.shipped is not None:
        return f"stopped, shipped {model.shipped}"
    return f"running until {model.until}" if time.time() < model.ends_at else f"over since {model.until}"


# --- list -----------------------------------------------------------------------------------------------------------------


@exp.command("list")
@scope_options
@output_option("json")
def list_(service: str, env: str, rev: str, output: str) -> None:
    """Show every experiment of a service: arms, layer, owner, state, file."""
    loaded = _load(service, env, rev)
    rows: list[dict[str, Any]] = [
        {
            "experiment": name,
            "state": _state(e.model),
            "flag": e.model.flag,
            "arms": e.model.weights,
            "unit": e.model.unit,
            "layer": f"{e.model.layer.name} {e.model.layer.slots[0]}-{e.model.layer.slots[1]}" if e.model.layer else "",
            "holdout": e.model.holdout or "",
            "owner": e.model.owner,
            "until": e.model.until,
            "shipped": e.model.shipped,
            "path": path,
        }
        for name, (path, e) in sorted(loaded.experiments.items())
    ]
    if output == "json":
        envelope("exp list", rows)
        return
    if not rows:
        talk(f"{loaded.process.service}/{loaded.process.env} has no experiments")
        return
    table = [("EXPERIMENT", "STATE", "ARMS", "LAYER", "OWNER", "FILE")]
    for row in rows:
        arms = ", ".join(f"{arm} {weight}" for arm, weight in row["arms"].items())
        table.append((row["experiment"], row["state"], arms, row["layer"], row["owner"], row["path"]))
    _print_table(table)


def _print_table(table: Sequence[tuple[str, ...]]) -> None:
    shown = [tuple(map(printable, row)) for row in table]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# --- show -----------------------------------------------------------------------------------------------------------------


@exp.command("show")
@click.argument("name", metavar="EXP")
@hub_option
@scope_options
@output_option("json")
def show(name: str, hub: str, service: str, env: str, rev: str, output: str) -> None:
    """Show what came out of EXP so far, by the hub's counts. Exit 1: units came in wrong shares, or a guardrail is broken.

    Verdicts hold however often you look: intervals are confidence sequences (95 % per metric), the sample ratio is an e-value.
    """
    from livecfg.flags.results import results
    from livecfg.hub._pb import hub_pb2

    loaded = _load(service, env, rev)
    _, experiment = loaded.find(name)
    flag = loaded.snapshot.flags.get(experiment.model.flag)
    if flag is None:
        fail(f"the flag {experiment.model.flag} is gone: look at a revision that has it, with --rev", Exit.FINDINGS)
    phase = experiment.assignment(flag).key.phase
    process = loaded.process
    request = hub_pb2.CountsRequest(kind="experiment", name=name, service=process.service, env=process.env)
    rows = list(ask(hub, "Counts", request, hub_pb2.CountsReply).counts)
    found = results(experiment.model, _sums(row for row in rows if row.phase == phase))
    if output == "json":
        envelope("exp show", _as_data(experiment.model, phase, rows, found), ok=found.well)
    else:
        _print_results(experiment.model, phase, rows, found)
    raise SystemExit(int(Exit.OK if found.well else Exit.FINDINGS))


def _sums(rows: Iterable[hub_pb2.ArmCounts]) -> dict[tuple[str, str], Sums]:
    from livecfg.flags.statistics import Sums

    found: dict[tuple[str, str], Sums] = {}
    for row in rows:
        sums = found.setdefault((row.arm, row.metric), Sums())
        sums += Sums(row.units, row.observations, row.sums)
    return found


def _earlier(phase: str, rows: list[hub_pb2.ArmCounts]) -> dict[str, int]:
    """Units by phase, of those before this one."""
    found: dict[str, int] = {}
    for row in rows:
        if row.phase != phase and row.arm and not row.metric:
            found[row.phase] = found.get(row.phase, 0) + sum(row.units)
    return found


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _as_data(model: Experiment, phase: str, rows: list[hub_pb2.ArmCounts], found: Results) -> dict[str, Any]:
    def estimated(e: Estimate) -> dict[str, Any]:
        return {"mean": _number(e.mean), "standard_error": _number(math.sqrt(e.variance)), "units": e.units, "events": e.events}

    ratio = found.sample_ratio
    return {
        "experiment": model.experiment,
        "state": _state(model),
        "phase": phase,
        "arms": {arm: {"weight": model.weights[arm], "units": units} for arm, units in found.units.items()},
        "sample_ratio": {
            "mismatch": ratio.mismatch(),
            "e_value": _number(ratio.e_value),
            "design_effect": ratio.design_effect,
        },
        "metrics": [
            {
                "metric": c.metric.name,
                "kind": c.metric.kind,
                "role": "guardrail" if c.guardrail else "primary",
                "arm": c.arm,
                "control": estimated(c.control),
                "treatment": estimated(c.treatment),
                "difference": list(c.difference) if c.difference else None,
                "lift": list(c.lift) if c.lift else None,
                "verdict": c.verdict.value,
            }
            for c in found.comparisons
        ],
        "not_counted": found.missed,
        "earlier_phases": _earlier(phase, rows),
        "processes": max((row.processes for row in rows if row.phase == phase), default=0),
        "newest_report_at": max((row.at for row in rows if row.phase == phase), default=None),
    }


def _print_results(model: Experiment, phase: str, rows: list[hub_pb2.ArmCounts], found: Results) -> None:
    mine = [row for row in rows if row.phase == phase]
    heard = (
        f"{max(row.processes for row in mine)} processes, newest report {ago(max(r.at for r in mine))}" if mine else "no reports"
    )
    click.echo(f"{style(printable(model.experiment), bold=True)}  {_state(model)} · flag {printable(model.flag)} · {heard}")
    click.echo(f"{printable(model.hypothesis)}\n")
    total = sum(found.units.values())
    table = [("ARM", "WEIGHT", "UNITS", "SHARE")]
    for arm, units in found.units.items():
        table.append((arm, str(model.weights[arm]), f"{units:,}", f"{units / total:.1%}" if total else "-"))
    _print_table(table)
    ratio = found.sample_ratio
    word = style("WRONG: do not trust the rest", fg="red") if ratio.mismatch() else style("ok", fg="green")
    copies = f"; units are met {ratio.design_effect:.1f} times" if ratio.design_effect > 1.5 else ""
    click.echo(f"sample ratio: {word} (e-value {ratio.e_value:.3g}, wrong from 1,000{copies})\n")
    if found.comparisons:
        _print_table([("METRIC", "ROLE", "ARM", "CONTROL", "VALUE", "LIFT", "VERDICT"), *map(_row, found.comparisons)])
    for metric, number in found.missed.items():
        talk(f"{number:,} outcomes of {printable(metric)} are not counted: their units were shown no arm by the same process")
    for earlier, units in _earlier(phase, rows).items():
        talk(
            f"{units:,} units were counted before an edit changed arms or units (phase {printable(earlier)}); they are not added"
        )


def _row(c: Comparison) -> tuple[str, ...]:
    def value(e: Estimate) -> str:
        if math.isnan(e.mean):
            return "-"
        return f"{e.mean:.2%}" if c.metric.kind == "proportion" else f"{e.mean:.4g}"

    role = "guardrail" if c.guardrail else "primary"
    verdict = c.verdict.value
    allowed = f" (at most {c.metric.max_relative:+.0%})" if c.guardrail and c.metric.max_relative else ""
    return (c.metric.name, role, c.arm, value(c.control), value(c.treatment), _percent(c.lift), f"{verdict}{allowed}")


def _percent(interval: Interval | None) -> str:
    return f"{interval.low:+.1%} to {interval.high:+.1%}" if interval is not None else "-"


# --- stop -----------------------------------------------------------------------------------------------------------------


@exp.command("stop")
@click.argument("name", metavar="EXP")
@click.option("--ship", "variant", required=True, metavar="VARIANT", help="What everybody gets from now on.")
@click.option(
    "--targeting",
    type=click.Choice(["keep", "drop"]),
    help="What becomes of the flag's own rule; needed when it has one: kept, it goes before VARIANT; dropped, all get VARIANT.",
)
@click.option("-m", "--message", default="", help="Why; the first line is the subject.")
@click.option("--service", default="", help="Service; needed when there are several.")
@click.option("--env", default="", help="Environment; needed when there are several.")
@key_option
@output_option("json")
def stop(
    name: str,
    variant: str,
    targeting: str | None,
    message: str,
    service: str,
    env: str,
    key: Path | None,
    output: str,  # noqa: ARG001 - read where it is printed
) -> None:
    """End EXP and ship VARIANT, in one signed commit: the flag's default variant, and the end noted in the experiment's file."""
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft

    loaded = _load(service, env, "HEAD")
    path, experiment = loaded.find(name)
    model = experiment.model
    if model.shipped is not None:
        fail(f"{name} was stopped before, and {model.shipped} was shipped", Exit.FINDINGS)
    flag_path = loaded.snapshot.explain(model.flag).path
    signer = signing_key(loaded.clone, key)
    draft = Draft(loaded.clone)
    draft.check_nothing_staged()
    draft.put(flag_path, _shipped(draft.current(flag_path), flag_path, model, variant, targeting).encode())
    draft.put(path, _noted(draft.current(path), path, variant).encode())
    check(loaded.clone, draft)
    did = f"Stop the experiment {name} and ship {variant}"
    record(draft, message or did, signer, did)


def _shipped(data: bytes, path: str, model: Experiment, variant: str, targeting: str | None) -> str:
    """Give the text of the flag's file with the variant as the flag's default."""
    from livecfg.cli.edit import set_in_text, unset_in_text
    from livecfg.document import read

    flag = read(data, path).value["flags"][model.flag]
    if variant not in flag["variants"]:
        fail(f"{model.flag} has no variant {variant}; it has {', '.join(flag['variants'])}", Exit.FINDINGS)
    text = data.decode()
    if flag.get("targeting"):
        if targeting is None:
            fail(f"{model.flag} has a rule of its own in {path}: --targeting drop, and all get {variant}; or keep")
        if targeting == "drop":
            text = unset_in_text(text, ("flags", model.flag, "targeting"), path)
    return set_in_text(text, ("flags", model.flag, "defaultVariant"), json.dumps(variant), path)


def _noted(data: bytes, path: str, variant: str) -> str:
    from livecfg.cli.edit import set_in_text

    return set_in_text(data.decode(), ("shipped",), json.dumps(variant), path)
