"""A clock that moves only when told to."""

from __future__ import annotations

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Clock:
    """Seconds since the epoch, under the test's control; calling it reads it."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move forward (or back, with a negative number) and give the new time."""
        self.now += seconds
        return self.now
