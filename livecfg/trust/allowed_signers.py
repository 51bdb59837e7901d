"""allowed_signers: which key is which person's, and when (ssh-keygen(1), ALLOWED SIGNERS), read more strictly than OpenSSH does.

A plain key line names exactly one literal person. Patterns (`*`, `?`, `!`, lists with commas) stand on `cert-authority` lines
only. A key on two lines, or any malformed line, makes the whole file invalid (OpenSSH silently skips the line, which would let a
typing error remove a restriction).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.certificates import CERTIFICATES
from livecfg.trust.keys import KINDS, parse_key
from livecfg.trust.wire import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.trust.openpgp import OpenPgpKey

MAX_BYTES, MAX_LINES = 1 << 20, 10_000
PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}\Z")
_PATTERNS = re.compile(r"!?[A-Za-z0-9._+@*?-]{1,128}(?:,!?[A-Za-z0-9._+@*?-]{1,128})*\Z")
_OPTION = re.compile(r'([a-zA-Z-]+)(?:="([^"]*)")?(?:,(?=[^,])|\Z)')
_TIME = re.compile(r"(\d{8})(?:(\d{4})(\d{2})?)?Z\Z")


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


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its raw key blob, and the people it may speak for; times and purpose as of a Signer."""

    patterns: str
    key: bytes
    valid_after: float = float("-inf")
    valid_before: float = float("inf")
    for_commits: bool = True

    def covers(self, person: str) -> bool:
        """Whether it may speak for a person: some pattern matches, and no pattern with `!` does."""
        return PERSON.match(person) is not None and matches_patterns(self.patterns, person)


@dataclass(frozen=True)
class Signers(Mapping[bytes, Signer]):
    """Everybody whose signature counts: people with keys of their own (the mapping, by raw key blob), authorities, OpenPGP keys.

    `authorities` are by raw key blob too, `openpgp` by the fingerprint of every key that may sign.
    """

    plain: Mapping[bytes, Signer] = field(default_factory=dict)
    authorities: Mapping[bytes, Authority] = field(default_factory=dict)
    openpgp: Mapping[str, OpenPgpKey] = field(default_factory=dict)

    def __getitem__(self, key: bytes) -> Signer:
        return self.plain[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)

    @cached_property
    def people(self) -> frozenset[str]:
        """Everybody with a key of their own, SSH or OpenPGP; people known through an authority cannot be listed."""
        by_openpgp = frozenset(k.person for k in self.openpgp.values() if not k.revoked)
        return frozenset(s.person for s in self.plain.values()) | by_openpgp

    def authorities_of(self, person: str) -> list[Authority]:
        """Give the authorities that may speak for a person; none for somebody with a key of their own."""
        return [] if person in self.people else [a for a in self.authorities.values() if a.covers(person)]

    def knows(self, person: str) -> bool:
        """Whether a signature of that person can count: by a key of their own, or through exactly one authority."""
        return person in self.people or len(self.authorities_of(person)) == 1


def matches_patterns(patterns: str, text: str) -> bool:
    """Whether some pattern of a list with commas matches, and none with `!` does; `*` and `?` are wild."""
    found = False
    for pattern in patterns.split(","):
        if fnmatchcase(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def parse_allowed_signers(data: bytes, path: str) -> Signers:
    """Give the signers and authorities of a file.

    Raises:
        RefusedError: any malformed line, with its number.

    """
    if len(data) > MAX_BYTES or data.count(b"\n") > MAX_LINES:
        raise _fault(path, 1, "the file is too large")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise _fault(path, data.count(b"\n", 0, error.start) + 1, "expected plain ASCII text") from None
    plain: dict[bytes, Signer] = {}
    authorities: dict[bytes, Authority] = {}
    lines: dict[bytes, int] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t")
        if not line or line.startswith("#"):
            continue
        try:
            found = _parse_line(line)
        except ValueError as error:
            raise _fault(path, number, str(error)) from None
        if found.key in lines:
            raise _fault(path, number, f"the key of line {lines[found.key]} stands twice; a key is one person's, on one line")
        lines[found.key] = number
        if isinstance(found, Authority):
            authorities[found.key] = found
        else:
            plain[found.key] = found
    return Signers(plain, authorities)


def _fault(path: str, line: int, message: str) -> RefusedError:
    advice = "expected: person [options] key-type base64-key [comment]"
    return RefusedError(Refusal(Code.POLICY, message, path=path, line=line, column=1, advice=advice))


class _Options(NamedTuple):
    """What stands between the person and the key."""

    is_authority: bool = False
    valid_after: float = float("-inf")
    valid_before: float = float("inf")
    for_commits: bool = True


def _parse_line(line: str) -> Signer | Authority:
    """Read one line; a ValueError says what is wrong with it."""
    if not line.replace("\t", " ").isprintable():
        raise ValueError("a control character (is it a file with CRLF?)")
    who, _, rest = line.replace("\t", " ").partition(" ")
    rest = rest.lstrip(" ")
    options = _Options()
    first = rest.partition(" ")[0].encode()
    if first not in KINDS and first not in CERTIFICATES:
        text, rest = _split_options(rest)
        options = _read_options(text)
    key = _key(rest)
    if options.is_authority:
        return Authority(_patterns(who), key, *options[1:])
    if not PERSON.match(who):
        raise ValueError("expected one literal person: no lists or quotes, and patterns on cert-authority lines only")
    return Signer(who, key, *options[1:])


def _patterns(text: str) -> str:
    if not _PATTERNS.match(text) or all(pattern.startswith("!") for pattern in text.split(",")):
        raise ValueError("expected patterns (*, ?) with commas between, at least one of them without !")
    return text


def _key(text: str) -> bytes:
    words = text.split()
    kind = words[0].encode() if words else b""
    if kind in CERTIFICATES:
        raise ValueError("a certificate; list the key of its authority, with the option cert-authority")
    if len(words) < 2 or kind not in KINDS:
        raise ValueError("not a key of a supported type")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the key is not base64") from None
    if base64.b64encode(blob).decode() != words[1]:
        raise ValueError("the key is not base64")
    try:
        key = parse_key(blob)
    except SignatureError as error:
        raise ValueError(f"the key cannot be used: {error}") from None
    if key.kind != kind:
        raise ValueError(f"the key is not of the type {words[0]} that stands before it")
    return blob


def _split_options(text: str) -> tuple[str, str]:
    """Split at the first blank that is not inside quotes."""
    quoted = False
    for index, char in enumerate(text):
        quoted ^= char == '"'
        if char == " " and not quoted:
            return text[:index], text[index:].lstrip(" ")
    return text, ""


def _read_options(text: str) -> _Options:
    options = _Options()
    seen: set[str] = set()
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if not match:
            raise ValueError("malformed options")
        name, value = match[1].lower(), match[2]
        if name in seen:
            raise ValueError(f"the option {name} stands twice")
        seen.add(name)
        position = match.end()
        options = _with_option(options, name, value)
    return options


def _with_option(options: _Options, name: str, value: str | None) -> _Options:
    if name == "cert-authority" and value is None:
        return options._replace(is_authority=True)
    if name == "namespaces" and value is not None:
        return options._replace(for_commits=matches_patterns(_patterns(value), "git"))
    if name == "valid-after" and value is not None:
        return options._replace(valid_after=_moment(value))
    if name == "valid-before" and value is not None:
        return options._replace(valid_before=_moment(value))
    raise ValueError(f"{name!r} is no supported option (with its value in quotes, if it takes one) and no supported key type")


def _moment(text: str) -> float:
    match = _TIME.match(text)
    if not match:
        raise ValueError(f"expected a time like 20261124Z or 20261124153000Z in UTC, got {text!r}")
    digits = match[1] + (match[2] or "0000") + (match[3] or "00")
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is not a time") from None
