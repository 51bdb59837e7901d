"""Revision, Commit, Candidate: a commit as livecfg sees it; Objects: raw object bytes by id.

Object ids are lower-case hexadecimal text everywhere (40 characters for SHA-1, 64 for SHA-256).
Nothing here judges: `Commit.parse` splits bytes, `livecfg.trust` decides what they are worth.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["commit", "tree", "blob"]


class Objects(Protocol):
    """Raw Git objects by id, re-hashed by whoever implements it, so that an id names one content only."""

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object, without its header.

        Raises:
            MissingObjectError: it is not there (yet).
            CorruptObjectError: its bytes do not hash to `object_id`, or are over the caps.
            WrongKindError: it is of another kind.

        """
        ...


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of a ref, named as `main@sha1:9f2c…`; `payload_sha256` is its identity for caches and reports.

    `position` counts first-parent steps from the first commit of the ref, which is 0.
    """

    ref: str
    commit: str
    payload_sha256: str = ""
    position: int = -1

    def __str__(self) -> str:
        return f"{self.ref}@{'sha1' if len(self.commit) == 40 else 'sha256'}:{self.commit}"

    @property
    def short(self) -> str:
        """The first ten digits of the commit id, for people."""
        return self.commit[:10]


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit object, split into its parts; `flaw` says why its headers are not canonical, or is empty.

    `payload` is what was signed: the raw commit without its `gpgsig*` headers. Times are Unix seconds.
    """

    id: str
    tree: str
    parents: tuple[str, ...]
    author: str
    author_time: int
    committer: str
    committer_time: int
    message: str
    payload: bytes
    signature: bytes | None
    flaw: str

    @property
    def payload_sha256(self) -> str:
        """SHA-256 of the signed payload: one payload can have many commit ids, so this is what is compared."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The unverified tip of a ref and the objects to judge it by."""

    ref: str
    tip: str
    objects: Objects
