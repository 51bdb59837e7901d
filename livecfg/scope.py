"""Scope: what one process loads and checks a revision with; UnsafeTree: a tree that nobody verified."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from livecfg.layers import ScopeLimits
from livecfg.secrets import NoSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.layers import Process
    from livecfg.revision import Revision
    from livecfg.secrets import SecretSource
    from livecfg.snapshot import Recorder

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class UnsafeTree:
    """A tree that nobody verified: a working tree in development. Its name is the warning."""

    revision: Revision
    tree: str


@dataclass(frozen=True, slots=True)
class Scope(Generic[M]):
    """What a process loads and checks: its model, its names, the splits and flags its code declared, and local overrides.

    `overrides` maps dotted keys to YAML scalars, `killed` names flags that are served as disabled; `local` are the
    names under which these and other local settings are shown, `local_until` when they end. `clock` gives Unix seconds for
    `$flagd.timestamp`. `secrets` gives what `!secret` references and SOPS documents need.
    """

    model: type[M]
    process: Process
    recorder: Recorder
    clock: Callable[[], int]
    splits: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    killed: frozenset[str] = frozenset()
    local: tuple[str, ...] = ()
    local_until: float | None = None
    limits: ScopeLimits = field(default_factory=ScopeLimits)
    secrets: SecretSource = field(default_factory=NoSource)

    def is_due(self, now: float) -> bool:
        """Whether what was loaded must be loaded again: a secret changed, or the time of the local settings is over."""
        return self.secrets.changed() or (self.local_until is not None and now >= self.local_until)

    def at(self, now: float) -> Scope[M]:
        """Give the scope as it is from `now` on: without local settings once their time is over."""
        if self.local_until is None or now < self.local_until:
            return self
        return replace(self, overrides={}, killed=frozenset(), local=(), local_until=None)
