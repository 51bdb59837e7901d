"""allowed_signers: which key is which person's, and when (ssh-keygen(1), ALLOWED SIGNERS), read more strictly than OpenSSH does.

A plain key line names exactly one literal person; one key under two names, or any malformed line, makes the whole file invalid
(OpenSSH silently skips the line, which would let a typing error remove a restriction).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.signatures import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES, MAX_LINES = 1 << 20, 10_000
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}\Z")
_OPTION = re.compile(r'([a-zA-Z-]+)(?:="([^"\x00-\x1f]*)")?(?:,|\Z)')
_TIME = re.compile(r"(\d{8})(\d{4})?(\d{2})?Z\Z")


@dataclass(frozen=True, slots=True)
class Signer:
    """A key of a person, valid from `valid_after` to `valid_before`, both inclusive Unix seconds, for commits or not."""

    person: str
    key: bytes
    valid_after: float = float("-inf")
    valid_before: float = float("inf")
    for_commits: bool = True

    def holds_at(self, moment: float) -> bool:
        """Whether the key may sign a commit of that time."""
        return self.for_commits and self.valid_after <= moment <= self.valid_before


def parse_allowed_signers(data: bytes, path: str) -> Mapping[bytes, Signer]:
    """Give the signers by raw key blob.

    Raises:
        RefusedError: any malformed line, with its number.

    """
    if len(data) > MAX_BYTES or data.count(b"\n") > MAX_LINES:
        raise _fault(path, 1, "the file is too large")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise _fault(path, 1, "expected plain ASCII text") from None
    signers: dict[bytes, Signer] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t")
        if not line or line.startswith("#"):
            continue
        signer = _parse_line(line, path, number)
        known = signers.get(signer.key)
        if known is not None:
            raise _fault(
                path, number, f"this key stands twice (it is {known.person}'s above); a key is one person's, on one line"
            )
        signers[signer.key] = signer
    return signers


def _fault(path: str, line: int, message: str) -> RefusedError:
    advice = "expected: person [options] key-type base64-key [comment]"
    return RefusedError(Refusal(Code.POLICY, message, path=path, line=line, column=1, advice=advice))


def _parse_line(line: str, path: str, number: int) -> Signer:
    words = re.split(r"[ \t]+", line, maxsplit=1)
    person = words[0]
    if not _PERSON.match(person):
        raise _fault(path, number, "expected one literal person: no patterns, lists or quotes")
    rest = words[1] if len(words) == 2 else ""
    after, before, commits = float("-inf"), float("inf"), True
    if rest.split(" ", 1)[0].encode() not in KINDS:
        option_text, _, rest = _split_options(rest)
        after, before, commits = _options(option_text, path, number)
    parts = rest.split()
    if len(parts) < 2 or parts[0].encode() not in KINDS:
        raise _fault(path, number, "not a key of a supported type")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise _fault(path, number, "the key is not base64") from None
    kind = parts[0].encode()
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind):
        raise _fault(path, number, f"the key is not of the type {parts[0]} that stands before it")
    return Signer(person, blob, after, before, commits)


def _split_options(rest: str) -> tuple[str, str, str]:
    """Split at the first blank that is not inside quotes."""
    quoted = False
    for index, char in enumerate(rest):
        quoted ^= char == '"'
        if char in " \t" and not quoted:
            return rest[:index], " ", rest[index:].lstrip(" \t")
    return rest, "", ""


def _options(text: str, path: str, number: int) -> tuple[float, float, bool]:
    after, before, commits = float("-inf"), float("inf"), True
    seen: set[str] = set()
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if not match:
            raise _fault(path, number, "malformed options")
        name, value = match[1].lower(), match[2]
        if name in seen or value is None:
            raise _fault(path, number, f"the option {name} stands twice, has no value, or is not supported")
        seen.add(name)
        position = match.end()
        if name == "namespaces":
            commits = "git" in value.split(",")
        elif name == "valid-after":
            after = _moment(value, path, number)
        elif name == "valid-before":
            before = _moment(value, path, number)
        else:
            raise _fault(path, number, f"the option {name} is not supported")
    return after, before, commits


def _moment(text: str, path: str, number: int) -> float:
    match = _TIME.match(text)
    if not match:
        raise _fault(path, number, f"expected a time like 20261124Z or 20261124153000Z in UTC, got {text!r}")
    digits = match[1] + (match[2] or "0000") + (match[3] or "00")
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _fault(path, number, f"{text!r} is not a time") from None
