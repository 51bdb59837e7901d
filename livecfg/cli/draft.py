"""Draft: a change of a clone, built beside everything; index, files and HEAD move together once it has passed every check.

The order of every verb that changes something: find the key, build the tree, check it as applications would, sign the commit,
judge it as applications would, and only then `land`.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import CommandError, Exit, fail
from livecfg.git.pack import object_id

if TYPE_CHECKING:
    from livecfg.cli.clone import Clone
    from livecfg.cli.signing import Signer
    from livecfg.revision import Kind

_DATE = re.compile(r"@?(\d{1,12}) ([+-])(\d\d)(\d\d)")


@dataclass(frozen=True, slots=True)
class Made:
    """A signed commit that no ref names yet; as `Objects`, it adds itself to the clone's."""

    id: str
    raw: bytes = field(repr=False)
    clone: Clone = field(repr=False)

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give one object of the clone, or this commit."""
        return self.raw if (object_id, kind) == (self.id, "commit") else self.clone.read(object_id, kind)


class Draft:
    """What the next commit of HEAD's branch will hold: what the index holds and what is put into it.

    `empty`: the branch's own tree, whatever the index holds; then `branch` may be another one, by its full name.
    """

    def __init__(self, clone: Clone, *, empty: bool = False, branch: str = "") -> None:
        from dulwich.file import FileLocked

        self.clone = clone
        self.branch = branch or clone.branch()
        self.parent = clone.resolve(branch) if branch else clone.head()
        self._empty = empty
        self._files: dict[str, bytes | None] = {}
        self._index_path = clone.repo.index_path()
        if os.path.exists(lock := self._index_path + ".lock"):  # noqa: PTH110 - dulwich's paths are text
            raise FileLocked(self._index_path, lock)
        if (clone.git_dir / "MERGE_HEAD").exists():
            fail("a merge is in progress: finish it with `git commit -S`, or `git merge --abort`", Exit.REFUSED)
        self._state = _state_of(self._index_path)
        self._index = clone.repo.open_index()

    # --- what it holds ------------------------------------------------------------------------------------------------

    def check_nothing_staged(self) -> None:
        """Refuse when the index already differs from HEAD: a signature must not cover what was not asked for."""
        if self.parent and self.tree() != self.clone.commit(self.parent).tree:
            fail("something is staged already: commit it or unstage it first (`git restore --staged .`)", Exit.REFUSED)

    def current(self, path: str) -> bytes:
        """Give the bytes of a file here, empty when there is none; refuses one that is not as HEAD has it."""
        file = self.clone.root / path
        known = path.encode() in self._index
        if not file.exists():
            if known:
                fail(f"{path} was deleted and that is not committed; `git restore {path}`, or commit it first", Exit.REFUSED)
            return b""
        data = file.read_bytes()
        if not known or self._blob(path, data) != self._entry(path).sha:
            fail(f"{path} has changes that are not committed; commit or undo them first", Exit.REFUSED)
        return data

    def _entry(self, path: str) -> Any:
        return self._index[path.encode()]  # a conflict has no `sha`; `tree` has refused it by then

    def put(self, path: str, data: bytes) -> None:
        """Let the file at `path` have this content."""
        from dulwich.index import IndexEntry

        self._files[path] = data
        self._index[path.encode()] = IndexEntry(0, 0, 0, 0, 0o100644, 0, 0, 0, self._blob(path, data))

    def remove(self, path: str) -> None:
        """Let there be no file at `path`."""
        self._files[path] = None
        del self._index[path.encode()]

    def add_everything(self) -> None:
        """Take in all that differs in the working tree, as `git add -A` does."""
        from dulwich import porcelain

        status = porcelain.status(self.clone.repo, untracked_files="all", optional_locks=False)
        for path in (*map(os.fsencode, status.unstaged), *map(os.fsencode, status.untracked)):
            self._add(path)

    def _add(self, path: bytes) -> None:
        from dulwich.index import blob_from_path_and_stat, index_entry_from_directory, index_entry_from_stat

        full = os.path.join(os.fsencode(self.clone.root), path)  # noqa: PTH118 - bytes: a name need not be text
        path = path.rstrip(b"/")
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            del self._index[path]
            return
        repo = self.clone.repo
        if stat.S_ISDIR(status.st_mode):  # another repository inside: the check of the tree refuses it
            if (entry := index_entry_from_directory(status, full)) is not None:
                self._index[path] = entry
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            blob = repo.get_blob_normalizer().checkin_normalize(blob_from_path_and_stat(full, status), path)
            repo.object_store.add_object(blob)
            self._index[path] = index_entry_from_stat(status, blob.get_id(repo.object_format))

    def _blob(self, path: str, data: bytes) -> Any:
        from dulwich.objects import Blob

        repo = self.clone.repo
        blob = repo.get_blob_normalizer().checkin_normalize(Blob.from_string(data), path.encode())
        repo.object_store.add_object(blob)
        return blob.get_id(repo.object_format)

    def tree(self) -> str:
        """Give the id of the tree; its objects are in the clone's store, where nothing names them yet."""
        from dulwich.index import UnmergedEntries

        if self._empty:
            return self.clone.commit(self.parent).tree
        try:
            return self._index.commit(self.clone.repo.object_store).decode()
        except UnmergedEntries:
            fail("the index has conflicts: resolve them first", Exit.REFUSED)

    # --- the commit ---------------------------------------------------------------------------------------------------

    def commit(self, message: str, signer: Signer) -> Made:
        """Make the signed commit of this tree on top of HEAD, named by nothing."""
        who = self.clone.person()
        lines = [b"tree " + self.tree().encode(), *([b"parent " + self.parent.encode()] if self.parent else [])]
        lines += [b"author " + who + _moment("GIT_AUTHOR_DATE"), b"committer " + who + _moment("GIT_COMMITTER_DATE")]
        head, text = b"\n".join(lines) + b"\n", b"\n" + message.strip("\n").encode() + b"\n"
        header = b"gpgsig " if self.clone.id_length == 40 else b"gpgsig-sha256 "
        armor = signer.sign(head + text).strip(b"\n").replace(b"\n", b"\n ")
        raw = head + header + armor + b"\n" + text
        return Made(object_id("commit", raw, self.clone.id_length), raw, self.clone)

    def land(self, made: Made) -> None:
        """Move files, index and HEAD to the commit, all or none; only if nobody else moved them meanwhile."""
        from dulwich.index import index_entry_from_stat, locked_index
        from dulwich.objects import ShaFile

        repo = self.clone.repo
        repo.object_store.add_object(ShaFile.from_raw_string(1, made.raw, object_format=repo.object_format))
        if self._empty:
            self._move_head(made)
            return
        before = {path: file.read_bytes() if (file := self.clone.root / path).exists() else None for path in self._files}
        with locked_index(self._index_path, repo.object_format) as index:
            if _state_of(self._index_path) != self._state:
                fail("the index changed meanwhile; look again", Exit.REFUSED)
            try:
                for path, data in self._files.items():
                    _write(self.clone, path, data)
                    if data is None:
                        continue
                    status = (self.clone.root / path).lstat()
                    self._index[path.encode()] = index_entry_from_stat(status, self._entry(path).sha)
                index.clear()
                for name, entry in self._index.items():
                    index[name] = entry
                self._move_head(made)
            except BaseException:
                for path, was in before.items():
                    _write(self.clone, path, was)
                raise

    def _move_head(self, made: Made) -> None:
        old: Any = self.parent.encode() or None
        new: Any = made.id.encode()
        name: Any = self.branch.encode()
        subject = made.raw.partition(b"\n\n")[2].partition(b"\n")[0]
        if not self.clone.repo.refs.set_if_equals(name, old, new, message=b"commit: " + subject):
            raise CommandError(f"{self.branch} moved meanwhile; look again", Exit.REFUSED)


def _write(clone: Clone, path: str, data: bytes | None) -> None:
    file = clone.root / path
    if data is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _moment(variable: str) -> bytes:
    """` <unix> <zone>`: now, in the zone that holds here now, or what the variable of git's says."""
    given = os.environ.get(variable)
    if given:
        found = _DATE.fullmatch(given)
        if found is None:
            fail(f"{variable}: expected Unix seconds and a zone, like '1700000000 +0100', got {given!r}")
        return f" {found[1]} {found[2]}{found[3]}{found[4]}".encode()
    now = int(time.time())
    offset = time.localtime(now).tm_gmtoff // 60
    return f" {now} {'-' if offset < 0 else '+'}{abs(offset) // 60:02}{abs(offset) % 60:02}".encode()


def _state_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - dulwich's paths are text
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
