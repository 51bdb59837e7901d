"""Hooks, Timing: what an application registered, and how often and how long things are done."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds; `clock` gives Unix seconds, for the core takes the time as an argument."""

    poll_interval_s: float = 30.0
    start_timeout_s: float = 30.0
    prepare_timeout_s: float = 30.0
    max_staleness_s: float = 600.0
    clock: Callable[[], float] = time.time


@dataclass(slots=True)
class Hooks:
    """What the application registered. Filled before the first read, or at any time for `on_change`."""

    prepare: list[Callable[[Any, Any], None]] = field(default_factory=list)
    on_change: list[tuple[tuple[str, ...], Callable[[Any, Any], Any]]] = field(default_factory=list)
    beats: list[Callable[[], None]] = field(default_factory=list)
    """Called about once a second, and at the end, on livecfg's thread."""
    loop: asyncio.AbstractEventLoop | None = None

    def beat(self) -> None:
        """Run the beats; what they tell others is no reason to stop following."""
        for beat in tuple(self.beats):
            try:
                beat()
            except Exception:
                log.exception("a beat failed")
