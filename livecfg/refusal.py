"""Refusal: one record of what was refused, where, by which rule, and what to do; Code: its stable names.

The same record goes to the log, `live.status`, the command line, the hub and a commit status.
Text that came from a repository passes `printable` before it reaches any of them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


class Code(StrEnum):
    """Stable codes: LC1xx transport and mirror, LC2xx loading, LC3xx trust, LC4xx flags, LC5xx the application."""

    # transport and mirror
    FETCH_FAILED = "LC101"
    LIMIT_EXCEEDED = "LC102"
    MIRROR_CORRUPT = "LC103"
    # loading
    INVALID_VALUE = "LC201"
    WRONG_TYPE = "LC202"
    MISSING_VALUE = "LC203"
    UNKNOWN_KEY = "LC204"
    SYNTAX = "LC210"
    DUPLICATE_KEY = "LC211"
    YAML_FEATURE = "LC212"
    DOCUMENT_LIMIT = "LC213"
    MANIFEST = "LC220"
    MISSING_FILE = "LC221"
    OVERRIDE = "LC222"
    SUSPENSION = "LC223"
    HOLD = "LC224"
    SECRET = "LC230"  # noqa: S105 - a code
    # trust
    UNSIGNED = "LC301"
    BAD_SIGNATURE = "LC302"
    UNKNOWN_KEY_SIGNED = "LC303"
    KEY_NOT_VALID_NOW = "LC304"
    NOT_CANONICAL = "LC305"
    COMMIT_TIME = "LC306"
    PATH_DENIED = "LC310"
    THRESHOLD = "LC311"
    ROOT_REQUIRED = "LC312"
    POLICY = "LC313"
    TREE_HYGIENE = "LC314"
    MERGE = "LC315"
    ROLLBACK = "LC320"
    WALK_LIMIT = "LC321"
    WRONG_REPOSITORY = "LC322"
    PENDING = "LC330"
    # flags, splits, experiments
    FLAG_INVALID = "LC401"
    FLAG_REFERENCE = "LC402"
    FLAG_OPERATOR = "LC403"
    SEGMENT_INVALID = "LC404"
    FLAG_TEST = "LC405"
    SPLIT_INVALID = "LC410"
    SPLIT_MISSING = "LC411"
    FLAG_STALE = "LC412"
    EXPERIMENT_INVALID = "LC420"
    # the application
    PREPARE_VETO = "LC501"
    PREPARE_SLOW = "LC502"


_TEXT_CHARS = 1000
MOST_FAULTS = 100
"""Of one revision: it is refused anyway, and nobody reads more. Whoever collects faults may stop looking after one more."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused (`commit`, `path`, `line`, `column`), why (`code`, `message`, `rule`, `signer`), what to do (`advice`).

    `line` and `column` count from 1; 0 means the whole file. Empty text means "does not apply".
    """

    code: Code
    message: str
    commit: str = ""
    path: str = ""
    line: int = 0
    column: int = 0
    rule: str = ""
    signer: str = ""
    advice: str = ""

    def __post_init__(self) -> None:
        """Cut texts that quote what is too long to be read: a thousand faults may each list ten thousand names."""
        for name in ("message", "path", "rule", "signer", "advice"):
            text = getattr(self, name)
            if len(text) > _TEXT_CHARS:
                object.__setattr__(self, name, f"{text[:_TEXT_CHARS]}…")

    @property
    def where(self) -> str:
        """`path:line:column`, as far as it is known."""
        if not self.line:
            return printable(self.path)
        return f"{printable(self.path)}:{self.line}:{self.column}"

    def __str__(self) -> str:
        at = self.where or self.commit[:10]
        advice = f" ({printable(self.advice)})" if self.advice else ""
        return f"{at + ' ' if at else ''}{self.code.value} {printable(self.message)}{advice}"

    def as_dict(self) -> dict[str, Any]:
        """Give the record as JSON-ready data, foreign text made printable."""
        return {k: printable(v) if type(v) is str else v for k, v in asdict(self).items()} | {"code": self.code.value}


def first_of(faults: Collection[Refusal]) -> tuple[Refusal, ...]:
    """Give the first hundred faults of a revision; where there are more, the last of them says so."""
    told = tuple(islice(faults, MOST_FAULTS))
    if len(faults) <= MOST_FAULTS:
        return told
    return (*told[:-1], replace(told[-1], message=f"{told[-1].message[: _TEXT_CHARS // 2]}; and there is more"))


def printable(text: str) -> str:
    """Escape control, format (bidi) and surrogate characters, so that no foreign text can rewrite a line of log or terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] not in "CZ" or c == " " else c.encode("unicode_escape").decode() for c in text)
