"""MemoryRepo: commits and trees built byte by byte in memory, for the thousands of chains that git has no time to make.

The objects are those that git would write (a test has git read them back); keys are ed25519, made from the person's name.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livecfg.errors import MissingObjectError, WrongKindError
from livecfg.revision import Candidate
from livecfg.trust.commits import parse_commit
from livecfg.trust.root import TrustedRoot
from livecfg.trust.signatures import public_line, sign
from livecfg.trust.verify import Trusted, Verification, verify
from tests.simulator.repo import MANIFEST, REPO_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from livecfg.revision import Kind

NOW = 2_000_000_000
START = 1_700_000_000
BOUND = f"Livecfg-Ref: {REPO_ID} refs/heads/main"
APPROVE = f"Livecfg-Approve: {REPO_ID} refs/heads/main"

Files = dict[str, bytes]


class MemoryRepo:
    """A repository in memory; `Objects` of it. Every commit takes a minute unless it says when it is from."""

    def __init__(self, object_format: str = "sha1") -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.files: dict[str, Files] = {}
        self.clock = START
        self.hash: Any = hashlib.sha1 if object_format == "sha1" else hashlib.sha256
        self.header = "gpgsig" if object_format == "sha1" else "gpgsig-sha256"
        self.root: tuple[tuple[str, ...], int] = ((), 1)
        self.pens: dict[str, Callable[[bytes], bytes]] = {}
        """How those sign who have no ed25519 key of their own."""

    # --- Objects ------------------------------------------------------------------------------------------------------

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give one object."""
        found = self.objects.get(object_id)
        if found is None:
            raise MissingObjectError(object_id)
        if found[0] != kind:
            raise WrongKindError(object_id, found[0], kind)
        return found[1]

    def add(self, kind: str, raw: bytes) -> str:
        """Keep one object and give its id."""
        object_id: str = self.hash(b"%s %d\0" % (kind.encode(), len(raw)) + raw).hexdigest()
        self.objects[object_id] = (kind, raw)
        return object_id

    def tree(self, files: Mapping[str, bytes]) -> str:
        """Write the trees of these files and give the id of the topmost."""
        here: dict[str, tuple[bytes, str]] = {}
        below: dict[str, Files] = {}
        for path, text in files.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = text
            else:
                here[name] = (b"100644", self.add("blob", text))
        for name, inner in below.items():
            here[name] = (b"40000", self.tree(inner))
        ordered = sorted(here.items(), key=lambda item: item[0] + ("/" if item[1][0] == b"40000" else ""))
        return self.add("tree", b"".join(b"%s %s\0" % (mode, name.encode()) + bytes.fromhex(i) for name, (mode, i) in ordered))

    # --- people and policy --------------------------------------------------------------------------------------------

    def policy(self, people: Sequence[str], rules: Sequence[Mapping[str, Any]], **changes: Any) -> Files:
        """Give the files of `.livecfg/` and the manifest; the root people are those of `found`."""
        root = {"people": list(self.root[0]), "threshold": self.root[1]}
        text = {"version": 1, "repo_id": REPO_ID, "root": root, "rules": list(rules)} | changes
        signers = "".join(f"{person} {public_line(key(person))}\n" for person in people)
        return {
            ".livecfg/policy.yaml": json.dumps(text).encode(),
            ".livecfg/allowed_signers": signers.encode(),
            "livecfg.yaml": yaml.safe_dump(MANIFEST).encode(),
        }

    def found(
        self,
        people: Sequence[str],
        rules: Sequence[Mapping[str, Any]],
        files: Mapping[str, bytes],
        *,
        root: Sequence[str] = (),
        threshold: int = 1,
        **changes: Any,
    ) -> str:
        """Make the first commit, signed by the first root person (default: the first of `people`)."""
        self.root = (tuple(root) or (people[0],), threshold)
        return self.commit(self.policy(people, rules, **changes) | dict(files), by=self.root[0][0])

    def trusted(self, ref: str = "main") -> Trusted:
        """What an application pins."""
        people = {person: [public_line(key(person))] for person in self.root[0]}
        text = {"version": 1, "repo_id": REPO_ID, "threshold": self.root[1], "people": people}
        return Trusted.start(TrustedRoot.parse(yaml.safe_dump(text, width=1000).encode(), "trusted_root.yaml"), ref)

    # --- history ------------------------------------------------------------------------------------------------------

    def commit(
        self,
        files: Mapping[str, bytes | None] | None = None,
        *,
        on: Sequence[str] = (),
        by: str = "",
        message: str = "Change it",
        date: int | None = None,
        name: str = "",
    ) -> str:
        """Commit the files of the first parent with these changes (None deletes); `by` nobody: unsigned.

        `name` is what the author and committer lines say; default: who signs.
        """
        whole = dict(self.files[on[0]]) if on else {}
        for path, text in (files or {}).items():
            if text is None:
                whole.pop(path, None)
            else:
                whole[path] = text
        commit_id = self.commit_tree(self.tree(whole), on=on, by=by, message=message, date=date, name=name)
        self.files[commit_id] = whole
        return commit_id

    def commit_tree(
        self,
        tree: str,
        *,
        on: Sequence[str] = (),
        by: str = "",
        message: str = "Change it",
        date: int | None = None,
        name: str = "",
    ) -> str:
        """Commit a tree as it is."""
        if date is None:
            self.clock += 60
        name = name or by or "nobody"
        who = f"{name} <{name}> {self.clock if date is None else date} +0000"
        head = [f"tree {tree}", *(f"parent {parent}" for parent in on), f"author {who}", f"committer {who}"]
        body = f"\n\n{message}\n"
        signature: list[str] = []
        if by:
            pen = self.pens.get(by, lambda payload: sign(key(by), "git", payload))
            armored = pen(("\n".join(head) + body).encode()).decode().rstrip("\n")
            signature = [f"{self.header} " + armored.replace("\n", "\n ")]
        return self.add("commit", ("\n".join(head + signature) + body).encode())

    def parents(self, commit: str) -> tuple[str, ...]:
        """Give the parents of a commit."""
        return parse_commit(commit, self.read(commit, "commit")).parents

    def merge(self, ours: str, theirs: str, files: Mapping[str, bytes | None], *, by: str = "", message: str = "Merge") -> str:
        """Merge: the files of `ours` with these changes."""
        return self.commit(files, on=(ours, theirs), by=by, message=message)

    def verify(self, tip: str, trusted: Trusted | None = None, now: float = NOW) -> Verification:
        """Walk to `tip`."""
        return verify(Candidate("main", tip, self), trusted or self.trusted(), now)

    def good(self, tip: str, trusted: Trusted | None = None) -> str:
        """Give the last good commit of the walk to `tip`; empty when there is none."""
        good = self.verify(tip, trusted).trusted.good
        return good.commit if good is not None else ""


_KEYS: dict[str, Ed25519PrivateKey] = {}


def key(person: str) -> Ed25519PrivateKey:
    """The person's key; always the same."""
    if person not in _KEYS:
        _KEYS[person] = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(person.encode()).digest())
    return _KEYS[person]
