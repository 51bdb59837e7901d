"""Secrets: `!secret scheme:name` in a layer names a value that is not in Git; a SecretSource gives it at load.

Rules. A resolved secret is a pydantic SecretStr from the start, so that only a field of that type takes it and nothing prints it.
Documents and merged layers keep the reference alone. What a load says of a fault never holds a secret: `withhold` sees to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from livecfg.document import SECRET, Loc, Tagged
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from livecfg.layers import Merged

_REFERENCE = re.compile(r"([a-z][a-z0-9-]{0,31}):([!-~]{1,512})")


@dataclass(frozen=True, slots=True)
class Reference:
    """What a `!secret` names: `env:NAME`, `file:/path`, or `<plug-in>:<name>`."""

    scheme: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `scheme:name`.

        Raises:
            UnresolvedError: it is none; the text is not repeated, since it may be a secret put there by mistake.

        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            advice = "write !secret env:NAME, !secret file:/run/secrets/NAME, or the scheme of a plug-in"
            raise UnresolvedError("expected a reference of the form scheme:name", advice)
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"


class UnresolvedError(LookupError):
    """A reference that gives no secret in this process; says why and what to do, and never holds a value."""

    def __init__(self, message: str, advice: str) -> None:
        self.message = message
        self.advice = advice
        super().__init__(message)


class SecretSource(Protocol):
    """Where secrets come from; all I/O is behind it."""

    @property
    def generation(self) -> int:
        """Grows when a secret that was fetched may have changed: what was resolved before it is resolved again."""
        ...

    def changed(self) -> bool:
        """Whether a file that was read is another now."""
        ...

    def look(self) -> bool:
        """Begin a new generation when `changed`."""
        ...

    def fetch(self, reference: Reference) -> SecretStr:
        """Give the secret.

        Raises:
            UnresolvedError: there is none, and trying again does not help until `look` says so.
            FetchError: there may be one later.

        """
        ...

    def age_identities(self) -> tuple[SecretStr, ...] | None:
        """Give the age keys for SOPS documents, as text; None leaves their values sealed.

        Raises:
            UnresolvedError: the file that should hold them cannot be read.

        """
        ...


class Sealed(SecretStr):
    """A secret that was not resolved: `reference` says, in words that may be shown, what it would be."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        super().__init__(reference)


class SealedSource:
    """Resolves nothing: for tools that show what a revision holds, without the application's secrets."""

    generation = 0

    def changed(self) -> bool:
        """Nothing was read."""
        return False

    def look(self) -> bool:
        """Nothing was read."""
        return False

    def fetch(self, reference: Reference) -> SecretStr:
        """Give the reference, sealed."""
        return Sealed(f"{SECRET} {reference}")

    def age_identities(self) -> tuple[SecretStr, ...] | None:
        """No keys: what is encrypted stays sealed."""
        return None


class NoSource(SealedSource):
    """Refuses every reference: for whoever gave the loader no source."""

    def fetch(self, reference: Reference) -> SecretStr:  # noqa: ARG002 - the shape of SecretSource
        """Refuse.

        Raises:
            UnresolvedError: always.

        """
        raise UnresolvedError("this program resolves no secrets", "give the loader a source of secrets")

    def age_identities(self) -> tuple[SecretStr, ...] | None:
        """Give none, so that encrypted documents are refused."""
        return ()


def resolve(merged: Merged, source: SecretSource) -> Any:
    """Give the merged value with a SecretStr in the place of every reference.

    Raises:
        RefusedError: every reference that gives no secret, with its place.
        FetchError: a source may give one later.

    """
    faults: list[Refusal] = []
    value = _resolve(merged.value, (), merged, source, faults)
    if faults:
        raise RefusedError(*faults)
    return value


def _resolve(value: Any, loc: Loc, merged: Merged, source: SecretSource, faults: list[Refusal]) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(inner, (*loc, key), merged, source, faults) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve(inner, (*loc, index), merged, source, faults) for index, inner in enumerate(value)]
    if not isinstance(value, Tagged) or value.tag != SECRET:
        return value
    try:
        return source.fetch(Reference.parse(value.text))
    except UnresolvedError as error:
        path, at = merged.locate(loc)
        dotted = ".".join(map(str, loc))
        message = f"{dotted}: {error.message}"
        faults.append(Refusal(Code.SECRET, message, path=path, line=at.line, column=at.column, advice=error.advice))
        return None


def secrets_in(value: Any) -> Iterator[SecretStr]:
    """Give every secret inside plain data."""
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from secrets_in(inner)


def holds_secret(text: str, secrets: Iterable[SecretStr]) -> bool:
    """Whether a text gives one of the secrets away."""
    return any(plain in text for secret in secrets if (plain := secret.get_secret_value()))


def withhold(refusals: Iterable[Refusal], secrets: tuple[SecretStr, ...]) -> tuple[Refusal, ...]:
    """Give the refusals without the messages that hold a secret: an application's validator may have put it there."""
    hidden = "a fault whose message holds a secret, and is not shown"
    return tuple(
        replace(r, message=hidden, advice="") if holds_secret(f"{r.message}\n{r.advice}", secrets) else r for r in refusals
    )
