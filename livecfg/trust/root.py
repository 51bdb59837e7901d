"""TrustedRoot: what the application pins, never taken from the repository; Trusted: where trust stands from there on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from livecfg.document import read
from livecfg.errors import LivecfgError, RefusedError
from livecfg.refusal import Code
from livecfg.trust.allowed_signers import Signer, parse_allowed_signers
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Anchor(BaseModel, frozen=True, extra="forbid"):
    commit: Annotated[str, Field(pattern=r"^(sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64})$")]
    payload_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    position: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] = 0


class _RootFile(BaseModel, frozen=True, extra="forbid"):
    version: Literal[1]
    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    threshold: Annotated[int, Field(ge=1, le=100)]
    people: Annotated[dict[str, Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]
    object_format: Literal["sha1", "sha256"] | None = None
    anchor: _Anchor | None = None


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """People and keys, how many of them must agree, which repository, and where the walk may begin.

    `object_format` is the only kind of repository that will do; empty: either.
    """

    repo_id: str
    threshold: int
    signers: Mapping[bytes, Signer]
    anchor_commit: str = ""
    anchor_payload_sha256: str = ""
    anchor_position: int = 0
    anchor_time: int = 0
    object_format: str = ""
    digest: str = ""
    """SHA-256 of the file: remembered state of another root is not believed."""
    anchor_manifest: str = ""
    """Of a checkpoint: the content of the anchor's tree, see `livecfg.trust.checkpoint`."""

    @property
    def people(self) -> frozenset[str]:
        """Everybody who is pinned."""
        return frozenset(s.person for s in self.signers.values())

    def carried_by(self, people: Iterable[str], signers: Mapping[bytes, Signer]) -> bool:
        """Whether a policy has exactly the pinned people as its root, and all their pinned keys."""
        keys = all(key in signers and signers[key].person == signer.person for key, signer in self.signers.items())
        return keys and frozenset(people) == self.people

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
            anchor.position if anchor else 0,
            anchor.time if anchor else 0,
            file.object_format or "",
            hashlib.sha256(json.dumps(document.value, sort_keys=True).encode()).hexdigest(),
        )


_GOOD = ("commit", "payload_sha256", "position", "time", "tree")


@dataclass(frozen=True, slots=True)
class Good:
    """The last authorised commit: its id, payload, place in the chain, the highest committer time so far, its tree."""

    commit: str
    payload_sha256: str
    position: int
    time: int
    tree: str

    def as_state(self) -> dict[str, Any]:
        """Give what is remembered on disk."""
        return {name: getattr(self, name) for name in _GOOD}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Good:
        """Take up what `as_state` gave.

        Raises:
            ValueError, KeyError, TypeError: malformed.

        """
        good = cls(*(state[name] for name in _GOOD))
        if not isinstance(good.position, int) or not isinstance(good.time, int):
            raise ValueError("position and time are numbers")  # noqa: TRY004 - one kind of error for one kind of fault
        return good


@dataclass(frozen=True, slots=True)
class Trusted:
    """Where trust stands: the pinned root, the ref, and the last good commit; None before the first."""

    root: TrustedRoot
    ref: str
    good: Good | None = None

    @classmethod
    def start(cls, root: TrustedRoot, ref: str) -> Trusted:
        """Begin at the anchor, or before the first commit."""
        return cls(root, ref)

    def as_state(self) -> dict[str, Any]:
        """Give what is remembered on disk."""
        assert self.good is not None  # noqa: S101 - only what was applied is remembered
        return {"ref": self.ref, "root": self.root.digest} | self.good.as_state()

    @classmethod
    def from_state(cls, root: TrustedRoot, ref: str, state: Mapping[str, Any]) -> Trusted:
        """Take up what was remembered.

        Raises:
            ValueError, KeyError, TypeError: it is of another root or ref, or malformed.

        """
        good = Good.from_state(state)
        if state.get("ref") != ref or state.get("root") != root.digest:
            raise ValueError("the remembered state is of another root or ref")
        return cls(root, ref, good)
