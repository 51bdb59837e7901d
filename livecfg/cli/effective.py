"""What a service gets in an env from a tree: the same loader that applications use, over a clone or its working files."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import suppress
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from livecfg.cli.files import MANIFEST
from livecfg.cli.output import fail, talk
from livecfg.document import read
from livecfg.errors import RefusedError
from livecfg.layers import Manifest, Process
from livecfg.loader import load
from livecfg.refusal import Code, Refusal
from livecfg.revision import Objects, Revision
from livecfg.scope import Scope, UnsafeTree
from livecfg.secrets import Sealed, SealedSource
from livecfg.signals import Signals
from livecfg.trust.tree import lookup, walk
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.secrets import SecretSource
    from livecfg.snapshot import Snapshot

_NAMES = 50


class AnyModel(BaseModel):
    """Takes whatever the layers hold: for checks without the application's model."""

    model_config = ConfigDict(extra="allow", frozen=True)


def model_named(name: str) -> type[BaseModel]:
    """Import `module:Model`; the current folder counts as a place for modules."""
    if not name:
        return AnyModel
    found = object_named(name, "--model")
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        fail(f"--model {name}: not a pydantic model")
    return found


def object_named(name: str, option: str) -> Any:
    """Import `module:Name` that an option gives; the current folder counts as a place for modules."""
    module, colon, attribute = name.partition(":")
    if not colon:
        fail(f"{option}: expected module:Name, got {name!r}")
    sys.path.insert(0, "")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - whatever the module raises while it is imported
        fail(f"{option} {name}: {type(error).__name__}: {error}")


def snapshot_of(
    objects: Objects,
    tree: str,
    process: Process,
    model: type[BaseModel] = AnyModel,
    secrets: SecretSource | None = None,
    clock: Callable[[], int] = lambda: int(time.time()),
) -> Snapshot[Any]:
    """Load a tree as `process` would, without judging who made it; secrets stay sealed unless a source is given.

    `clock` is what its rules see.

    Raises:
        RefusedError: every fault, with file, line and column.

    """
    scope: Scope[Any] = Scope(model, process, Signals(), clock, secrets=secrets or SealedSource())
    return load(UnsafeTree(Revision("local", tree), tree), objects, scope)


def manifest_of(objects: Objects, tree: str) -> Manifest:
    """Read the manifest of a tree.

    Raises:
        RefusedError: it is missing or malformed.

    """
    entry = lookup(objects, tree, MANIFEST)
    if entry is None:
        raise RefusedError(
            Refusal(Code.MANIFEST, "the repository has no manifest", path=MANIFEST, advice="`livecfg init` makes one")
        )
    return validate(Manifest, read(objects.read(entry.id, "blob"), MANIFEST), Code.MANIFEST)


def processes_in(objects: Objects, tree: str, service: str = "", env: str = "") -> list[Process]:
    """Give every (service, env) that the layers of the manifest have a file for, narrowed by what is asked for."""
    templates = manifest_of(objects, tree).layers
    pairs: set[tuple[str, str]] = set()
    services: set[str] = set()
    for path, _ in walk(objects, tree):
        named = [found.groupdict() for template in templates if (found := _pattern(template).fullmatch(path))]
        services |= {names["service"] for names in named if "service" in names}
        if named and all("env" in names for names in named):  # base.yaml is no env: another template names it, too
            pairs |= {(names["service"], names["env"]) for names in named if "service" in names}
    envs = {e for _, e in pairs} | ({env} if env else set())
    lonely = services - {s for s, _ in pairs}
    pairs |= {(s, e) for s in lonely for e in (sorted(envs) or ["default"])}
    if service and env:
        pairs.add((service, env))
    wanted = sorted(p for p in pairs if service in {"", p[0]} and env in {"", p[1]})
    return [Process(s, e) for s, e in wanted]


def scope_fault(objects: Objects, tree: str, service: str, env: str = "") -> str:
    """Say that no layer which names services or envs has a file for the one that is asked for, though others have. Else nothing.

    A typo, most likely. Where no file is for one env any env is good: it gets what is for all.
    """
    layers = manifest_of(objects, tree).layers
    known = processes_in(objects, tree)
    if not known:
        return ""
    asked = f"{service}/{env}" if service and env else service or f"the environment {env}"
    of_service = [layer.replace("{service}", service or "{service}") for layer in layers]
    if service and not _has_file(objects, tree, [new for new, layer in zip(of_service, layers, strict=True) if new != layer]):
        return f"the layers have no file for {asked}; services: {listed(dict.fromkeys(p.service for p in known))}"
    envs = sorted({p.env for p in known if service in {"", p.service}})
    if not env or env in envs or envs in ([], ["default"]):
        return ""
    if _has_file(objects, tree, [layer.replace("{env}", env) for layer in of_service if "{env}" in layer]):
        return ""
    return f"the layers have no file for {asked}; envs{' of the service' if service else ''}: {listed(envs)}"


def check_scope(objects: Objects, tree: str, service: str, env: str) -> None:
    """End the command where `scope_fault` says something; a manifest that cannot be read is for the command itself to tell.

    One service in one env may have nothing but what is for all, and is looked at: there it is only said.
    """
    with suppress(RefusedError):
        if service and env and (fault := scope_fault(objects, tree, service)):
            talk(fault)
        elif (service or env) and (fault := scope_fault(objects, tree, service, env)):
            fail(fault)


def _has_file(objects: Objects, tree: str, layers: list[str]) -> bool:
    return not layers or any(is_one_of(path, layers) for path, _ in walk(objects, tree))


def layers_of(objects: Objects, tree: str, process: Process) -> list[str]:
    """Give the paths of a process's layers; what only the running process knows (its region) stays in braces."""
    filled = (template.replace("{service}", process.service) for template in manifest_of(objects, tree).layers)
    return [template.replace("{env}", process.env) for template in filled]


def is_one_of(path: str, layers: list[str]) -> bool:
    """Whether a path is that of a layer, for some region, instance and labels."""
    return any(_pattern(layer).fullmatch(path) for layer in layers)


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()
    text = ""
    for part in re.split(r"(\{[^{}]*\})", template):
        name = part[1:-1]
        if part.startswith("{") and name in {"service", "env"}:
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[a-z0-9][a-z0-9_-]*)"
            seen.add(name)
        else:
            text += "[^/]+" if part.startswith("{") else re.escape(part)
    return re.compile(text)


def names_of(processes: Iterable[Process]) -> str:
    """Name processes in a message."""
    return listed(f"{p.service}/{p.env}" for p in processes)


def listed(names: Iterable[str]) -> str:
    """List names in a message: the first of many, since nobody reads a thousand."""
    some = list(islice(names, _NAMES + 1))
    return ", ".join([*some[:_NAMES], *(["…"] if len(some) > _NAMES else [])]) or "none"


def one_process(objects: Objects, tree: str, service: str, env: str, *, new: bool = False) -> Process:
    """Give the process that is asked for; says so where its service has no file, unless it may be `new`; asks back for others."""
    found = processes_in(objects, tree, service, env)
    if service and env and not new and (fault := scope_fault(objects, tree, service)):
        talk(f"{fault}; it gets what is for all")
    if len(found) == 1:
        return found[0]
    if not found and (service or env):
        what = f"the environment {env}" if env else f"the service {service}"
        there = names_of(processes_in(objects, tree))
        fail(f"the layers have no file for {what}; there are {there}; for a new one give --service and --env")
    return fail(f"which service and env? give --service and --env (there are: {names_of(found)})")


def plain(value: Any) -> Any:
    """Turn a config value into JSON-ready data; secrets stay masked."""
    if not isinstance(value, BaseModel):
        return value
    dumped: dict[str, Any] = _shown(value.model_dump())
    return dumped


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    return value.reference if isinstance(value, Sealed) else value


def value_at(snapshot: Snapshot[Any], key: str) -> Any:
    """Give the value of a dotted key.

    Raises:
        KeyError: there is none.

    """
    value = plain(snapshot.config)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same: 1 is not true, and `.nan`, which equals nothing, is `.nan`."""
    return type(one) is type(other) and (one == other or json.dumps(one) == json.dumps(other))


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()}
