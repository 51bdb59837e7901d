"""TrustedRoot: what the application pins. It ships with the application and never comes from the repository."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field

from livecfg.document import read
from livecfg.errors import LivecfgError, RefusedError
from livecfg.refusal import Code
from livecfg.trust.allowed_signers import Signer, parse_allowed_signers
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Anchor(BaseModel, frozen=True, extra="forbid"):
    commit: Annotated[str, Field(pattern=r"^(sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64})$")]
    payload_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _RootFile(BaseModel, frozen=True, extra="forbid"):
    version: Literal[1]
    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    threshold: Annotated[int, Field(ge=1, le=100)]
    people: Annotated[dict[str, Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]
    anchor: _Anchor | None = None


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """People and keys, how many of them must agree, which repository, and where the walk may begin."""

    repo_id: str
    threshold: int
    signers: Mapping[bytes, Signer]
    anchor_commit: str = ""
    anchor_payload_sha256: str = ""
    digest: str = ""
    """SHA-256 of the file: remembered state of another root is not believed."""

    @property
    def people(self) -> frozenset[str]:
        """Everybody who is pinned."""
        return frozenset(s.person for s in self.signers.values())

    @classmethod
    def parse(cls, data: bytes, path: str) -> TrustedRoot:
        """Read a trusted root file.

        Raises:
            LivecfgError: it is malformed, with file, line and column.

        """
        name = path if path.endswith(".json") else f"{path}"
        try:
            document = read(data, name)
            file = validate(_RootFile, document, Code.POLICY)
            lines = [(person, i, key) for person, keys in file.people.items() for i, key in enumerate(keys)]
            signers: dict[bytes, Signer] = {}
            for person, index, key in lines:
                try:
                    signers |= parse_allowed_signers(f"{person} {key}".encode(), name)
                except RefusedError as error:
                    message = error.refusals[0].message
                    raise RefusedError(document.refusal(Code.POLICY, ("people", person, index), message)) from None
            if len(signers) != len(lines):
                raise RefusedError(document.refusal(Code.POLICY, ("people",), "a key stands twice"))
            if file.threshold > len(file.people):
                raise RefusedError(document.refusal(Code.POLICY, ("threshold",), f"more than the {len(file.people)} people"))
        except RefusedError as error:
            raise LivecfgError(f"the trusted root cannot be used:\n{error}") from error
        anchor = file.anchor
        return cls(
            file.repo_id,
            file.threshold,
            signers,
            anchor.commit.partition(":")[2] if anchor else "",
            anchor.payload_sha256 if anchor else "",
            hashlib.sha256(json.dumps(document.value, sort_keys=True).encode()).hexdigest(),
        )
