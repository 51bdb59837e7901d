"""Parts: what one load made, by path, for the next load to share and for `explain` to point into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from livecfg.document import Document, Loc, read
from livecfg.origin import Origin
from livecfg.trust.history import last_change
from livecfg.trust.root import Trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel, SecretStr

    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.file import FlagFile
    from livecfg.flags.segment import Segment
    from livecfg.flags.split import CompiledSplit
    from livecfg.flags.targeting import Dialect
    from livecfg.flags.templates import Templates
    from livecfg.layers import Manifest, Merged
    from livecfg.revision import Objects
    from livecfg.snapshot import Arm
    from livecfg.trust.verify import AuthorisedCommit


V = TypeVar("V")


class Made(NamedTuple, Generic[V]):
    """What was made of a file."""

    blob: str
    product: V
    size_bytes: int
    """Of the file: unchanged ones count against the limits of the scope, too."""


class Listing(NamedTuple):
    """The files that a glob names: blob ids by path, in the order of the tree."""

    tree: str
    """The id of the folder, of the file where the glob names one; empty when there is none."""
    files: Mapping[str, str]
    changed: tuple[str, ...] | None
    """Those that have another blob than in the load before; None when files came or went, or there was none: look at all."""


class Assembled(NamedTuple):
    """The flags of all files by key, without experiments and local settings; and what serves those that were asked for."""

    flags: Mapping[str, CompiledFlag]
    serving: dict[str, Callable[[Mapping[str, Any], Any], Any]]
    size_bytes: int
    """Of the files."""


@dataclass(slots=True)
class Parts:
    """Products by path, each with the blob id it was made from."""

    manifest: tuple[str, Manifest]
    listings: dict[str, Listing] = field(default_factory=dict)
    layers: dict[str, Made[Document]] = field(default_factory=dict)
    dialect: Dialect | None = None
    """What the flags are read by, segments aside."""
    templates: list[Templates] = field(default_factory=list)
    """One, or none: the next load takes it out, so that no other uses it."""
    flags: dict[str, Made[FlagFile]] = field(default_factory=dict)
    assembled: Assembled | None = None
    segments: dict[str, Made[Segment]] = field(default_factory=dict)
    experiments: dict[str, Made[Document]] = field(default_factory=dict)
    splits: dict[str, Made[tuple[CompiledSplit, dict[str, Arm[Any]]]]] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    merged: Merged | None = None
    secrets: tuple[SecretStr, ...] = ()
    secrets_generation: int = 0


def explainer(
    parts: Parts, objects: Objects, history: AuthorisedCommit | None, model: type[BaseModel]
) -> Callable[[str], Origin]:
    """Give the function behind `Snapshot.explain`; `history` is the commit to look back from, where there is one.

    It raises KeyError for what is no key, flag or split.
    """

    def explain(key: str) -> Origin:
        origin = _config_origin(key, parts, model) or _named_origin(key, parts, objects)
        if origin is None:
            raise KeyError(key)
        if not origin.path or history is None:
            return origin
        revision = history.revision
        return last_change(objects, revision.commit, origin, Trusted.start(history.root, revision.ref))

    return explain


def _config_origin(key: str, parts: Parts, model: type[BaseModel]) -> Origin | None:
    loc: Loc = tuple(key.split("."))
    assert parts.merged is not None  # noqa: S101 - a snapshot exists, so its layers were merged
    setters = parts.merged.setters(loc)
    if setters:
        winner, losers = setters[0], tuple(d.path for d in setters[1:])
        if winner.path == "environment":
            return Origin(key, "environment", losers=losers)
        at = winner.position(loc)
        return Origin(key, winner.path, winner.path, at.line, at.column, losers=losers)
    return Origin(key, "default") if loc[0] in model.model_fields else None


def _named_origin(key: str, parts: Parts, objects: Objects) -> Origin | None:
    """The origin of a flag or a split: the file that holds it."""
    for path, (blob, made, _) in parts.flags.items():
        if key in made.flags:
            at = read(objects.read(blob, "blob"), path).key_position(("flags", key))
            return Origin(key, path, path, at.line, at.column)
    for path, (_, (split, _arms), _) in parts.splits.items():
        if split.name == key:
            return Origin(key, path, path, 1, 1)
    return None
