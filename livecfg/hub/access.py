"""Access: who may do what at a hub. Tokens are kept as digests; a report is bound to the credential that sent it.

Without credentials a hub serves everybody who can reach it, which it only does on loopback.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field, ValidationError

from livecfg.document import read
from livecfg.errors import LivecfgError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

log = logging.getLogger(__name__)

Role = Literal["agent", "viewer", "operator"]
_ALL: frozenset[Role] = frozenset(("agent", "viewer", "operator"))
_MAY: dict[Role, frozenset[Role]] = {
    "agent": frozenset(("agent",)),
    "viewer": frozenset(("viewer",)),
    "operator": frozenset(("viewer", "operator")),
}


@dataclass(frozen=True, slots=True)
class Credential:
    """Who is calling. `service`, when given, is the only one it may report for and see."""

    name: str
    may: frozenset[Role]
    service: str = ""


ANYBODY = Credential("", _ALL)


class _Token(BaseModel, frozen=True, extra="forbid"):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Role
    service: str = Field("", pattern=r"^([a-z0-9][a-z0-9_-]*)?$")


class _Tokens(BaseModel, frozen=True, extra="forbid"):
    version: Literal[1]
    tokens: tuple[_Token, ...]


class Access:
    """The credentials of one hub: bearer tokens by digest, and the names of client certificates that TLS has checked."""

    def __init__(self, tokens: Iterable[tuple[str, Credential]] = (), *, certificates: bool = False) -> None:
        self._tokens = tuple(tokens)
        self._certificates = certificates

    @property
    def is_open(self) -> bool:
        """Whether nobody has to show anything."""
        return not self._tokens and not self._certificates

    def identify(self, authorization: str | bytes, certificate_names: Sequence[bytes] = ()) -> Credential | None:
        """Say who is calling, or None when nobody knows; tokens are compared in constant time."""
        if self.is_open:
            return ANYBODY
        given = authorization.encode() if isinstance(authorization, str) else authorization
        digest = sha256(given.removeprefix(b"Bearer ")).hexdigest() if given.startswith(b"Bearer ") else ""
        found: Credential | None = None
        for wanted, credential in self._tokens:
            if hmac.compare_digest(wanted, digest):
                found = credential
        if found is None and self._certificates and certificate_names:
            name = certificate_names[0].decode("utf-8", "replace")
            found = Credential(f"certificate {name}", frozenset(("agent", "viewer")))
        return found


def make_access(token: str, tokens_file: bytes | None, *, certificates: bool = False) -> Access:
    """Read the tokens: one that may do everything, and a file of digests with roles.

    Raises:
        LivecfgError: the file is malformed, with its line.

    """
    known: list[tuple[str, Credential]] = []
    if token:
        known.append((sha256(token.encode()).hexdigest(), Credential("the hub's token", _ALL)))
    if tokens_file is not None:
        document = read(tokens_file, "tokens.yaml")
        try:
            listed = _Tokens.model_validate(document.value).tokens
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise LivecfgError(f"tokens: {where}: {first['msg']}") from None
        known += [(t.sha256, Credential(t.name, _MAY[t.role], t.service)) for t in listed]
    return Access(known, certificates=certificates)
