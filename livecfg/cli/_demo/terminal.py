"""What the story writes: plain lines, with colour on a terminal that wants it (NO_COLOR, FORCE_COLOR, TERM=dumb)."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO


class Terminal:
    """Numbers the chapters, ticks what held, and times everything from its making."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colour = _wants_colour(self._out)
        self._started = time.monotonic()
        self._chapter = 0

    def _write(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """Begin."""
        self._write(self._paint(text, "1"))

    def chapter(self, text: str) -> None:
        """Begin a step of the story."""
        self._chapter += 1
        self._write("")
        self._write(f"{self._paint(f'{self._chapter}. {text}', '1')}  {self._paint(f'[{self.elapsed_s:.1f} s]', '2')}")

    def did(self, text: str) -> None:
        """Say what was done."""
        self._write(f"   {self._paint('>', '36')} {text}")

    def held(self, text: str) -> None:
        """Say what was checked and holds."""
        self._write(f"   {self._paint('ok', '32')} {text}")

    def note(self, text: str) -> None:
        """Say something beside the story."""
        for line in text.splitlines():
            self._write(f"      {self._paint(line, '2')}")

    def failed(self, text: str) -> None:
        """Say what does not hold."""
        self._write(f"   {self._paint('FAILED', '1;31')} {text}")


def _wants_colour(out: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (out.isatty() and os.environ.get("TERM") != "dumb")
