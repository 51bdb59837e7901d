"""Assignment: what exposures and outcomes are counted under: a split, or an experiment, in one phase of its life.

A phase lasts as long as nobody edits what decides who gets which arm, or what an arm is. Counts of two phases are never
added: after a change of weights a sample ratio, and after a change of an arm's value an effect, would mean nothing.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from livecfg.flags.values import dig

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["split", "experiment"]


class Key(NamedTuple):
    """The name of an assignment in counts and reports."""

    kind: Kind
    name: str
    phase: str


class Assignment(NamedTuple):
    """Which counts a read of an arm belongs to, and which unit it was read for."""

    key: Key
    unit_path: tuple[str, ...]
    static: Mapping[str, object]
    metrics: frozenset[str] = frozenset()
    """The metrics that its file names: outcomes of others are none of its business."""
    flag_set: str = ""
    """`flagSetId` in the metadata of the flag."""

    def unit(self, context: Mapping[str, Any]) -> object:
        """Give what is assigned; None without one. Never raises."""
        try:
            found = dig(context, self.unit_path)
            return found if found is not None else dig(self.static, self.unit_path)
        except Exception:  # noqa: BLE001 - a context of any kind: reading an arm never raises into the application
            return None


def phase_of(*parts: Any) -> str:
    """Name a phase by what decides it: 16 hex digits."""
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
