"""What a change of one document amounts to: only switching flags off, or raising weights, and by how much.

Whatever cannot be read counts as the most: not of the narrow kind, and a rise without bound.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from livecfg.document import read
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal

if TYPE_CHECKING:
    from livecfg.revision import Objects
    from livecfg.trust.tree import Change, Entry


def is_disable(objects: Objects, path: str, change: Change) -> bool:
    """Whether the whole change of a flag document is that states go from ENABLED to DISABLED."""
    try:
        before, after = _values(objects, path, change)
    except RefusedError:
        return False
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    # as text: Python takes 1, 1.0 and true for equal
    return json.dumps(_off(before)) == json.dumps(_off_where(after, before)) and json.dumps(before) != json.dumps(after)


def weight_rise(objects: Objects, path: str, change: Change) -> float:
    """Give the largest rise of a value under a key `weight` (or in a mapping `weights`), in the unit of the file."""
    try:
        before, after = _values(objects, path, change)
    except RefusedError:
        return math.inf
    old = _weights(before)
    rises = [value - old.get(at, 0.0) for at, value in _weights(after).items()]
    return math.inf if any(map(math.isnan, rises)) else max(rises, default=0.0)  # NaN is under every limit


def _values(objects: Objects, path: str, change: Change) -> tuple[Any, Any]:
    before, after = change
    return _value(objects, path, before), _value(objects, path, after)


def _value(objects: Objects, path: str, entry: Entry | None) -> Any:
    if entry is None:
        return None
    if not entry.is_file:
        raise RefusedError(Refusal(Code.TREE_HYGIENE, "not a plain file", path=path, advice="put a plain file there, or nothing"))
    return read(objects.read(entry.id, "blob"), path).value


def _flags(document: dict[str, Any]) -> dict[str, Any]:
    flags = document.get("flags")
    return flags if isinstance(flags, dict) else {}


def _off(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every flag switched off that is on or off."""
    return document | {"flags": {name: _switched_off(flag) for name, flag in _flags(document).items()}}


def _off_where(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The same of the later document; a flag that went the other way stays as it is, so that the two differ."""
    old = _flags(before)
    flags = {
        name: flag if _state(old.get(name)) == "DISABLED" and _state(flag) != "DISABLED" else _switched_off(flag)
        for name, flag in _flags(after).items()
    }
    return after | {"flags": flags}


def _state(flag: Any) -> Any:
    return flag.get("state") if isinstance(flag, dict) else None


def _switched_off(flag: Any) -> Any:
    return flag | {"state": "DISABLED"} if _state(flag) in ("ENABLED", "DISABLED") else flag


def _weights(value: Any, at: tuple[Any, ...] = (), *, inside: bool = False) -> dict[tuple[Any, ...], float]:
    """Every number under a key `weight`, and every number anywhere below a key `weights`, by its place."""
    if isinstance(value, bool):
        return {}
    if isinstance(value, (int, float)):
        return {at: float(value)} if inside else {}
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[tuple[Any, ...], float] = {}
    for key, part in parts:
        found |= _weights(part, (*at, key), inside=inside or key in ("weight", "weights"))
    return found
