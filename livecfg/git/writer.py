"""Writer: build a commit on top of a known parent, sign it, push it if the parent is still the tip.

Needs no working tree and no git program: trees are rewritten along the changed paths only. The commits are what `git commit -S`
would have made, so `git fsck` and `git log --show-signature` accept them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError
from livecfg.git.graph import FOLDER, entries_of_tree, links_of_commit
from livecfg.git.pack import Entry, object_id, write_pack
from livecfg.git.push import push

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.git.source import GitSource
    from livecfg.revision import Objects

    Sign = Callable[[bytes], bytes]

_FILE = b"100644"
_PERSON = re.compile(r"[^\0\n<>]+\Z")
_PART = re.compile(r"[A-Za-z0-9._@+-]{1,128}\Z")  # the walk refuses any other name


@dataclass(frozen=True, slots=True)
class Person:
    """Who makes a commit: `name <email>`."""

    name: str
    email: str

    def __post_init__(self) -> None:
        if not _PERSON.match(self.name) or not _PERSON.match(self.email):
            raise LivecfgError("a name or address for commits is empty or holds '<', '>' or a line end")


@dataclass(frozen=True, slots=True)
class Built:
    """A commit that exists nowhere yet: its id and every object it needs beside its parent's."""

    commit: str
    entries: tuple[Entry, ...]

    @property
    def pack(self) -> bytes:
        """The objects as a pack."""
        return write_pack(self.entries, len(self.commit))[0]


class Writer:
    """Writes to one source as one person; `sign` turns a payload into an armored signature (SSHSIG, namespace `git`)."""

    def __init__(self, source: GitSource, objects: Objects, person: Person, sign: Sign) -> None:
        self._source = source
        self._objects = objects
        self._person = person
        self._sign = sign

    def commit(self, files: Mapping[str, bytes | None], message: str, parent: str, now: float) -> str:
        """Commit `files` (None deletes; none at all makes an empty commit) on `parent`, push, and give the commit's id.

        Raises:
            PushConflictError: the remote's ref is not at `parent` any more: look again.
            FetchError: the parent's objects are missing, or the remote does not answer well.
            LivecfgError: a path is not acceptable, or the signer failed.

        """
        built = self.build(files, message, parent, now)
        push(self._source, self._source.full_ref, parent, built.commit, built.pack)
        return built.commit

    def build(self, files: Mapping[str, bytes | None], message: str, parent: str, now: float, *also: str) -> Built:
        """Make the signed commit without sending it; `also` are further parents."""
        id_length = len(parent)
        made: dict[str, Entry] = {}
        old_tree = links_of_commit(self._objects.read(parent, "commit"))[0]
        edits = _edits(files)
        tree = _rewrite(self._objects, old_tree, edits, made, id_length) if edits else old_tree
        if not tree:
            tree = _put(made, "tree", b"", id_length)
        who = f"{self._person.name} <{self._person.email}> {int(now)} +0000"
        parents = "".join(f"parent {name}\n" for name in (parent, *also))
        head = f"tree {tree}\n{parents}author {who}\ncommitter {who}\n".encode()
        text = b"\n" + _message(message)
        armor = self._sign(head + text).strip(b"\n").replace(b"\n", b"\n ")
        header = b"gpgsig-sha256 " if id_length == 64 else b"gpgsig "
        content = head + header + armor + b"\n" + text
        commit = _put(made, "commit", content, id_length)
        return Built(commit, tuple(made.values()))


def _message(message: str) -> bytes:
    if "\0" in message or not message.strip():
        raise LivecfgError("a commit message must not be empty or hold a NUL")
    return message.strip("\n").encode() + b"\n"


_Edits = dict[str, "bytes | _Edits | None"]


def _edits(files: Mapping[str, bytes | None]) -> _Edits:
    """Paths as a tree of edits, refusing names that trust would refuse."""
    top: _Edits = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        level = top
        for part in (*folders, name):
            if not _PART.match(part) or part in {".", ".."} or part.lower() in {".git", ".gitmodules", "git~1"}:
                raise LivecfgError(f"{path!r} is not a path for a configuration repository")
        for part in folders:
            below = level.setdefault(part, {})
            if not isinstance(below, dict):
                raise LivecfgError(f"{path!r} lies below a path that is written as a file")
            level = below
        if name in level:
            raise LivecfgError(f"{path!r} is written both as a file and as a folder")
        level[name] = content
    return top


def _rewrite(objects: Objects, old: str, edits: _Edits, made: dict[str, Entry], id_length: int) -> str:
    """Give the id of tree `old` with the edits applied; an empty string when nothing is left."""
    content = objects.read(old, "tree") if old else b""
    entries = {name: (mode, below) for mode, name, below in entries_of_tree(content, id_length)}
    for part, edit in edits.items():
        name = part.encode()
        mode, below = entries.get(name, (b"", ""))
        if isinstance(edit, dict):
            new = _rewrite(objects, below if mode == FOLDER else "", edit, made, id_length)
            entries.pop(name, None)
            if new:
                entries[name] = (FOLDER, new)
        elif edit is None:
            if name not in entries:
                raise LivecfgError(f"{part!r} cannot be deleted: it is not there")
            del entries[name]
        else:
            entries[name] = (_FILE, _put(made, "blob", edit, id_length))
    # Git's order: folders sort as if their names ended in a slash.
    ordered = sorted(entries.items(), key=lambda item: item[0] + (b"/" if item[1][0] == FOLDER else b""))
    text = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(below) for name, (mode, below) in ordered)
    return _put(made, "tree", text, id_length) if text else ""


def _put(made: dict[str, Entry], kind: str, content: bytes, id_length: int) -> str:
    name = object_id(kind, content, id_length)
    made[name] = Entry(name, kind, content)
    return name
