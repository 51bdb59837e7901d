"""`livecfg flags codegen`: the flags of a repository as typed accessors: a FlagSet in Python, or OpenFeature's flag manifest."""

from __future__ import annotations

import json
import keyword
import pprint
import re
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.look import scope_options
from livecfg.cli.output import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.flags.flag import CompiledFlag

MANIFEST_SCHEMA = "https://raw.githubusercontent.com/open-feature/cli/main/schema/v0/flag-manifest.json"
_TYPES = ((bool, "boolean"), (str, "string"), (int, "integer"), (int | float, "float"), (dict | list, "object"))
_NOTHING: dict[str, Any] = {"boolean": False, "string": "", "integer": 0, "float": 0.0}


@click.command("codegen")
@click.option(
    "--as",
    "format_",
    type=click.Choice(["python", "manifest"]),
    default="python",
    show_default=True,
    help="A FlagSet, or the JSON that OpenFeature's command line makes accessors of.",
)
@click.option("--class", "name", default="Flags", show_default=True, help="The name of the FlagSet.")
@scope_options
def codegen(format_: str, name: str, service: str, env: str, rev: str) -> None:
    """Write typed accessors for the flags of a service to standard output: a Python module, or OpenFeature's flag manifest."""
    from livecfg.cli.flags.look import snapshot_at

    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        fail(f"--class: expected the name of a class, got {name!r}")
    flags = dict(sorted(snapshot_at(service, env, rev).flags.items()))
    for key, flag in flags.items():
        if not _type_of(flag):
            fail(f"{key}: its variants are of several types, so no accessor can have one", Exit.FINDINGS)
    click.echo(_python(flags, name, service or "nobody") if format_ == "python" else _manifest(flags), nl=False)


def _type_of(flag: CompiledFlag) -> str:
    """Name OpenFeature's type that all variants have; empty when they have none in common."""
    values = list(flag.variants.values())
    booleans = {isinstance(value, bool) for value in values}
    if len(booleans) > 1:
        return ""
    return next((name for kind, name in _TYPES if all(isinstance(value, kind) for value in values)), "")


def _default_of(flag: CompiledFlag) -> Any:
    """Give what the code falls back on: the default variant, else the nothing of its type."""
    kind = _type_of(flag)
    if kind not in _NOTHING:
        first = next(iter(flag.variants.values()))
        return flag.variants.get(flag.definition.default_variant or "", type(first)())
    value = flag.variants.get(flag.definition.default_variant or "", _NOTHING[kind])
    return float(value) if kind == "float" else value


def _manifest(flags: Mapping[str, CompiledFlag]) -> str:
    rows = {
        key: {
            "flagType": _type_of(flag),
            "defaultValue": _default_of(flag),
            "description": str(flag.metadata.get("description", "")),
        }
        for key, flag in flags.items()
    }
    return json.dumps({"$schema": MANIFEST_SCHEMA, "flags": rows}, indent=2) + "\n"


def _python(flags: Mapping[str, CompiledFlag], name: str, service: str) -> str:
    """Write the module; every text of the repository goes in as a Python literal."""
    lines = [
        '"""Written by `livecfg flags codegen`: write it again rather than edit it."""',
        "",
        "from livecfg import Flag, FlagSet",
        "",
        "",
        f"class {name}(FlagSet):",
        '    """The flags of the repository."""',
        "",
    ]
    taken: dict[str, str] = {}
    for key, flag in flags.items():
        attribute = _attribute(key)
        if attribute in taken:
            fail(f"{key!r} and {taken[attribute]!r} would both be the attribute {attribute}; rename one of them", Exit.FINDINGS)
        taken[attribute] = key
        lines.append(f"    {attribute} = Flag({', '.join(_arguments(key, flag, attribute, service))})")
    return "\n".join(lines) + "\n"


def _arguments(key: str, flag: CompiledFlag, attribute: str, service: str) -> list[str]:
    told = {n: str(flag.metadata[n]) for n in ("owner", "expires", "description") if flag.metadata.get(n)}
    kind = str(flag.metadata.get("kind", "release" if "expires" in told else "ops"))
    default = pprint.pformat(_default_of(flag), sort_dicts=False, width=10_000)
    arguments = [f"default={default}", f"kind={kind!a}", f"owner={told.pop('owner', service)!a}"]
    if attribute.replace("_", "-") != key:
        arguments.append(f"key={key!a}")
    return [*arguments, *(f"{n}={text!a}" for n, text in told.items())]


def _attribute(key: str) -> str:
    """Make an attribute's name of a key."""
    text = re.sub(r"[^0-9a-zA-Z]+", "_", key).strip("_").lower() or "flag"
    text = f"flag_{text}" if text[0].isdigit() else text
    return f"{text}_" if keyword.iskeyword(text) else text
