"""Process: who asks; Manifest: which files count for it; merge(): layers → one document.

Mappings merge deeply, lists and scalars replace, `!unset` removes. A template name without a value (no region) drops its
layer. The first layer must exist, any other may be missing. There is no interpolation language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from livecfg.document import SECRET, Document, Loc, Position, Tagged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
UNSET = "!unset"
TAGS = frozenset({UNSET, SECRET})
"""The tags that layers may use."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLAIN_NAMES = frozenset({"service", "env", "region", "instance"})


@dataclass(frozen=True, slots=True)
class Process:
    """The names of one process: what its layers, flags and splits are chosen by.

    Raises:
        ValueError: a name that is not `[a-z0-9][a-z0-9_-]*` (an instance may also hold dots).

    """

    service: str
    env: str
    region: str = ""
    instance: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, name in (("service", self.service), ("env", self.env), *(("label", v) for v in self.labels.values())):
            if not NAME.fullmatch(name):
                raise ValueError(f"expected a {kind} of the form [a-z0-9][a-z0-9_-]*, got {name!r}")
        if self.region and not NAME.fullmatch(self.region):
            raise ValueError(f"expected a region of the form [a-z0-9][a-z0-9_-]*, got {self.region!r}")

    @property
    def attributes(self) -> dict[str, object]:
        """Static attributes of the evaluation context."""
        named = {"service": self.service, "env": self.env, "region": self.region, "instance": self.instance}
        return {k: v for k, v in named.items() if v} | ({"labels": dict(self.labels)} if self.labels else {})

    def expand(self, template: str) -> str | None:
        """Fill the `{names}` of a path template; None when one of them has no value here."""
        parts = _PLACEHOLDER.split(template)  # text, name, text, …
        for at in range(1, len(parts), 2):
            name = parts[at]
            value = getattr(self, name) if name in _PLAIN_NAMES else self.labels.get(name.removeprefix("label:"))
            if not value:
                return None
            parts[at] = value
        return "".join(parts)


def _check_template(template: str) -> str:
    for name in _PLACEHOLDER.findall(template):
        if name not in _PLAIN_NAMES and not (name.startswith("label:") and NAME.fullmatch(name[6:])):
            raise ValueError(f"{{{name}}} is not one of {{service}}, {{env}}, {{region}}, {{instance}}, {{label:NAME}}")
    bare = _PLACEHOLDER.sub("x", template)
    if not re.fullmatch(r"[A-Za-z0-9._@+*-]+(/[A-Za-z0-9._@+*-]+)*", bare) or any(p in {".", ".."} for p in bare.split("/")):
        raise ValueError("expected a path of the repository with / between its parts")
    return template


def _check_glob(template: str) -> str:
    parts = _check_template(template).split("/")
    if any("*" in part for part in parts[:-1]) or ("*" in parts[-1] and parts[-1] not in {"**", "*"}):
        raise ValueError("a * may stand only as the last part: dir/** (all below) or dir/* (one level)")
    return template


def _check_path(template: str) -> str:
    if "*" in _check_template(template):
        raise ValueError("a layer or file names one path: no *")
    return template


def _check_document(template: str) -> str:
    if not _check_path(template).endswith((".yaml", ".yml", ".json")):
        raise ValueError("expected a .yaml, .yml or .json file")
    return template


_SIZE = re.compile(r"([1-9][0-9]*)(KiB|MiB|GiB)?")


def _size(text: object) -> int:
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise ValueError("expected a size such as 4096, 64KiB or 1MiB")
    return int(match[1]) << {None: 0, "KiB": 10, "MiB": 20, "GiB": 30}[match[2]]


LayerPath = Annotated[str, AfterValidator(_check_document)]
Glob = Annotated[str, AfterValidator(_check_glob)]
FilePath = Annotated[str, AfterValidator(_check_path)]
Size = Annotated[int, BeforeValidator(_size)]


class ScopeLimits(BaseModel, frozen=True, extra="forbid"):
    """What one process may load; a manifest can only lower these numbers."""

    file_bytes: Size = 1 << 20
    scope_files: Annotated[int, Field(gt=0)] = 10_000
    scope_bytes: Size = 64 << 20
    segment_bytes: Size = 16 << 20
    depth: Annotated[int, Field(gt=0, le=32)] = 32

    def lowered_by(self, other: ScopeLimits) -> ScopeLimits:
        """Take the smaller of each."""
        return _lower(self, other)


@lru_cache(maxsize=8)  # the same two at every load
def _lower(one: ScopeLimits, other: ScopeLimits) -> ScopeLimits:
    return ScopeLimits(**{k: min(v, getattr(other, k)) for k, v in one})


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """`livecfg.yaml` at the root of a configuration repository: which of its files count for whom."""

    version: Literal[1]
    layers: Annotated[list[LayerPath], Field(min_length=1, max_length=32)]
    flags: list[Glob] = []
    splits: list[Glob] = []
    experiments: list[Glob] = []
    segments: list[Glob] = []
    files: dict[str, FilePath] = {}
    fractional: Literal["v2", "v3"] = "v2"
    gate: Literal["strict", "flagd"] = "strict"
    limits: ScopeLimits = ScopeLimits()


@dataclass(frozen=True, slots=True)
class Merged:
    """The layers of one process merged into one value, which can still say where each part stands."""

    layers: tuple[Document, ...]
    value: dict[str, Any]

    def locate(self, loc: Loc, at_key: bool = False) -> tuple[str, Position]:  # noqa: FBT001, FBT002 - the shape of Locate
        """File and position of the winner at `loc`, of its nearest ancestor when no layer sets it."""
        while True:
            for document in reversed(self.layers):
                if _sets(document.value, loc):
                    return document.path, document.key_position(loc) if at_key else document.position(loc)
            if not loc:
                return self.layers[0].path, Position(1, 1)
            loc, at_key = loc[:-1], False

    def setters(self, loc: Loc) -> tuple[Document, ...]:
        """Give the layers that set `loc`, the winner first."""
        return tuple(d for d in reversed(self.layers) if _sets(d.value, loc))


def merge(layers: Sequence[Document]) -> Merged:
    """Merge layers, the later one wins.

    Raises:
        TypeError: a layer that is not a mapping (the loader has checked that).

    """
    value: dict[str, Any] = {}
    for document in layers:
        if document.value is not None:
            value = _merge(value, document.value)
    return Merged(tuple(layers), value)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, Tagged) and value.tag == UNSET:
            result.pop(key, None)
        elif isinstance(value, dict):
            under = result.get(key)
            result[key] = _merge(under if isinstance(under, dict) else {}, value)
        else:
            result[key] = value
    return result


def _sets(value: Any, loc: Loc) -> bool:
    for part in loc:
        has_key = isinstance(value, dict) and part in value
        if not has_key and not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            return False
        value = value[part]
    return True
