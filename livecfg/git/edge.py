"""Edge: the commit at which a mirror began, when what lies below it was left out; kept beside the mirror.

It is told to the remote with each fetch, so that nothing is taken for granted here that is not. Nothing is trusted on its word.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from livecfg.git.faults import raise_shortage
from livecfg.git.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

_HEX = frozenset("0123456789abcdef")


class Edge:
    """`commit` is empty where the mirror has everything."""

    def __init__(self, file: Path) -> None:
        self.commit = ""
        self._file = file
        self._written = ""

    def read(self) -> None:
        """Take up what an earlier process kept.

        Raises:
            ShortageError: it cannot be read just now. Without it the mirror would claim history that it lacks.

        """
        try:
            text = self._file.read_bytes()[:65].decode("ascii", "replace").strip()
        except OSError as error:
            raise_shortage("reading where the mirror begins", error)
            text = ""
        self.commit = self._written = text if len(text) in {40, 64} and _HEX.issuperset(text) else ""

    def write(self) -> None:
        """Keep it; before the ref that makes the objects count.

        Raises:
            OSError: the disk is full or read-only.

        """
        if self.commit != self._written:
            write_file(self._file, f"{self.commit}\n".encode())
            self._written = self.commit

    def forget(self) -> None:
        """Everything is here now."""
        self.commit = self._written = ""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)
