"""Origin: where one value comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value comes from: the layer that won, its place in the file, the commit that last changed it, and who signed.

    `losers` are the layers it covers, nearest first. A `layer` of `environment` or `default` has no file.
    """

    key: str
    layer: str
    path: str = ""
    line: int = 0
    column: int = 0
    commit: str = ""
    subject: str = ""
    author: str = ""
    signers: tuple[str, ...] = ()
    committed_at: int = 0
    losers: tuple[str, ...] = ()
