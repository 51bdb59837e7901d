"""`livecfg flags list|eval|simulate|export`: what is declared, what callers would get, the flags as plain flagd."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.look import scope_options
from livecfg.cli.output import Exit, envelope, fail, output_option
from livecfg.refusal import printable


def snapshot_at(service: str, env: str, rev: str) -> Any:
    """Load what a service gets in an env at a revision."""
    from livecfg.cli.effective import one_process, snapshot_of

    clone = Clone()
    tree = clone.commit(clone.resolve(rev)).tree
    return snapshot_of(clone, tree, one_process(clone, tree, service, env))


@click.command("list")
@scope_options
@output_option("json")
def list_(service: str, env: str, rev: str, output: str) -> None:
    """Show every flag and split of a service, with state and variants."""
    snapshot = snapshot_at(service, env, rev)
    rows = [
        {"key": key, "kind": "flag", "state": str(flag.state), "variants": list(flag.variants)}
        | {name: str(flag.metadata.get(name, "")) for name in ("owner", "expires")}
        for key, flag in sorted(snapshot.flags.items())
    ]
    rows += [
        {"key": key, "kind": "split", "state": "ENABLED", "variants": list(s.arms), "owner": "", "expires": ""}
        for key, s in sorted(snapshot.splits.items())
    ]
    if output == "json":
        envelope("flags list", rows)
        return
    width = max((len(str(r["key"])) for r in rows), default=0)
    for r in rows:
        variants = printable(", ".join(r["variants"]))
        about = [printable(r["owner"]), f"until {printable(r['expires'])}" if r["expires"] else ""]
        more = f"  ({', '.join(filter(None, about))})" if any(about) else ""
        click.echo(f"{printable(str(r['key'])).ljust(width)}  {r['kind']:<5}  {r['state']:<8}  {variants}{more}")


@click.command("eval")
@click.argument("key")
@click.option(
    "--ctx",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute (dots nest; VALUE as YAML); targetingKey is the unit.",
)
@click.option("--why", is_flag=True, help="Show the rule's trace.")
@scope_options
@output_option("json")
def eval_(key: str, attributes: tuple[str, ...], why: bool, service: str, env: str, rev: str, output: str) -> None:
    """Evaluate the flag or split KEY for a context."""
    snapshot = snapshot_at(service, env, rev)
    context = _context(attributes)
    asked = snapshot.splits.get(key) or snapshot.flags.get(key)
    if asked is None:
        fail(f"{key} is no flag or split of this service; `livecfg flags list` shows them", Exit.FINDINGS)
    default = None if key in snapshot.splits else next(iter(asked.variants.values()), None)
    trace = asked.explain(context, default, rev)
    result = trace.evaluation
    if output == "json":
        names = ("value", "variant", "reason", "error_code", "rule", "bucket")
        data = {"key": key} | {name: getattr(result, name) for name in names}
        steps = [{"where": s.where, "operator": s.operator, "value": repr(s.value)} for s in trace.steps]
        envelope("flags eval", data | ({"trace": steps} if why else {}))
        return
    error = f", {result.error_code}" if result.error_code else ""
    variant = printable(result.variant or "") or "(the default of the caller)"
    click.echo(f"{printable(key)} = {json.dumps(result.value)}   variant {variant}, {result.reason}{error}")
    if why:
        click.echo("\n".join(map(printable, str(trace).splitlines())))


def _context(attributes: tuple[str, ...]) -> dict[str, Any]:
    from livecfg.document import read

    context: dict[str, Any] = {}
    for pair in attributes:
        name, equals, text = pair.partition("=")
        if not equals:
            fail(f"--ctx: expected NAME=VALUE, got {pair!r}")
        inner = context
        *outer, last = name.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                fail(f"--ctx {name}: {part} has a value of its own already, and cannot hold {last}, too")
        if isinstance(inner.get(last), dict):
            fail(
                f"--ctx {name}: it holds {next(iter(inner[last]), 'a mapping')} already, and cannot have a value of its own, too"
            )
        inner[last] = read(text.encode(), "--ctx").value
    return context


@click.command("simulate")
@click.argument("key")
@click.option("--units", type=click.IntRange(1, 10_000_000), default=10_000, show_default=True, help="How many units to draw.")
@click.option("--ctx", "attributes", multiple=True, metavar="NAME=VALUE", help="An attribute that all units share.")
@click.option("--unit", default="targetingKey", show_default=True, help="The attribute that differs: unit-0, unit-1, ...")
@scope_options
@output_option("json")
def simulate(key: str, units: int, attributes: tuple[str, ...], unit: str, service: str, env: str, rev: str, output: str) -> None:
    """Count which variant of the flag or split KEY many made-up units would get."""
    snapshot = snapshot_at(service, env, rev)
    if key not in snapshot.flags and key not in snapshot.splits:
        fail(f"{key} is no flag or split of this service; `livecfg flags list` shows them", Exit.FINDINGS)
    context = _context((*attributes, f"{unit}=unit"))
    inner = context
    *outer, last = unit.split(".")
    for part in outer:
        inner = inner[part]
    counts: Counter[tuple[str, str]] = Counter()
    for i in range(units):
        inner[last] = f"unit-{i}"
        if key in snapshot.splits:
            made = snapshot.splits[key].evaluate(context, rev)
        else:
            made = snapshot.flags[key].evaluate(context, None, rev)
        counts[made.variant or "", str(made.reason)] += 1
    if output == "json":
        rows = [{"variant": v, "reason": r, "units": n, "share": n / units} for (v, r), n in counts.most_common()]
        envelope("flags simulate", rows)
        return
    for (variant, reason), n in counts.most_common():
        click.echo(f"{n / units:7.2%}  {n:>9,}  {printable(variant) or '(the default of the caller)'}  {reason}")


@click.command("export")
@click.option("--flagd", is_flag=True, required=True, help="As one document that any flagd loads and buckets alike.")
@scope_options
def export(flagd: bool, service: str, env: str, rev: str) -> None:  # noqa: ARG001 - the one format there is
    """Write the flags of a service, with their experiments, to standard output."""
    from livecfg.flags.experiment import exported

    try:
        document = exported(snapshot_at(service, env, rev).flags)
    except ValueError as error:
        fail(str(error), Exit.FINDINGS)
    click.echo(json.dumps(document, indent=2))
