"""WorkingTree: a plain directory seen as Git objects: for development without verification, and for checks before a commit.

In development hidden entries other than `.livecfg` and symbolic links are left out. For a check everything counts as Git
would take it, so that what verification refuses is seen: links, executables, repositories inside, hidden names. Special files
are left out, and what is in `.git` is never read. In development a folder that Kubernetes
mounts (a ConfigMap: links into a folder that is swapped) is read as what it shows.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, MissingObjectError, WrongKindError
from livecfg.git.faults import over_limit, translating
from livecfg.git.pack import object_id
from livecfg.git.source import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.git.pack import Content
    from livecfg.revision import Kind

_DEPTH_MOST = 32
_SETTLE_MOST_S = 0.5
_NO_COMMIT = "0" * 40


class WorkingTree:
    """The files of a directory as blobs and trees; `tree_id()` reads what changed since it was last called.

    With `leave_out`, which is told each path (a folder's ends in `/`), all other entries are in, as Git would take them. With
    `settle_s` it waits for files that were written less long ago, half a second at most: an editor may be at it.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits | None = None,
        *,
        leave_out: Callable[[str], bool] | None = None,
        settle_s: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.objects = _TreeObjects()
        self._limits = limits or Limits()
        self._leave_out = leave_out
        self._settle_s = settle_s
        self._newest_s = 0.0
        self._blobs: dict[str, tuple[tuple[int, int, int, int], str]] = {}

    def tree_id(self) -> str:
        """Hash the directory as it is now; `objects` then serves this very state.

        Raises:
            FetchError: it is missing, unreadable or too big.

        """
        deadline = time.monotonic() + _SETTLE_MOST_S
        tree = self._scan()
        while time.time() - self._newest_s < self._settle_s and time.monotonic() < deadline:
            time.sleep(self._settle_s)  # a file that was truncated and not written yet looks like a valid, empty one
            tree = self._scan()
        return tree

    def _scan(self) -> str:
        found: dict[str, Content] = {}
        blobs: dict[str, tuple[tuple[int, int, int, int], str]] = {}
        self._newest_s = 0.0
        with translating(f"reading {self.path}"):
            if not self.path.is_dir():
                raise FetchError(f"{self.path} is not a directory")
            tree = self._tree(self.path, found, blobs, 0)
        self._blobs = blobs
        self.objects.replace(found)
        return tree

    def _tree(
        self, folder: Path, found: dict[str, Content], blobs: dict[str, tuple[tuple[int, int, int, int], str]], depth: int
    ) -> str:
        if depth > _DEPTH_MOST:
            raise FetchError(f"{folder} lies over {_DEPTH_MOST} folders deep")
        listed: list[tuple[bytes, bytes, str]] = []
        with os.scandir(self._mounted(folder)) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if self._leaves_out(entry, depth):
                    continue
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if self._leave_out is not None and Path(entry.path, ".git").exists():
                        listed.append((b"160000", name, _NO_COMMIT))
                        continue
                    below = self._tree(Path(entry.path), found, blobs, depth + 1)
                    if found[below][1]:  # Git knows no empty folders
                        listed.append((b"40000", name, below))
                elif entry.is_file(follow_symlinks=False):
                    listed.append((self._mode(entry), name, self._blob(entry, found, blobs)))
                elif entry.is_symlink():
                    listed.append((b"120000", name, _put(found, "blob", os.fsencode(Path(entry.path).readlink()))))
        listed.sort(key=lambda item: item[1] + (b"/" if item[0] == b"40000" else b""))
        content = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(below) for mode, name, below in listed)
        return _put(found, "tree", content)

    def _mounted(self, folder: Path) -> Path:
        """A folder that Kubernetes mounts holds links into `..data`, which is swapped whole: read what it leads to, once."""
        data = folder / "..data"
        if self._leave_out is not None or not data.is_symlink():
            return folder
        real = data.resolve()
        return real if real.is_relative_to(folder.resolve()) else folder

    def _leaves_out(self, entry: os.DirEntry[str], depth: int) -> bool:
        if self._leave_out is None:
            return entry.is_symlink() or (entry.name.startswith(".") and not (depth == 0 and entry.name == ".livecfg"))
        path = Path(entry.path).relative_to(self.path).as_posix()
        return entry.name == ".git" or self._leave_out(path + "/" * entry.is_dir(follow_symlinks=False))

    def _mode(self, entry: os.DirEntry[str]) -> bytes:
        executable = self._leave_out is not None and entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR
        return b"100755" if executable else b"100644"

    def _blob(
        self, entry: os.DirEntry[str], found: dict[str, Content], blobs: dict[str, tuple[tuple[int, int, int, int], str]]
    ) -> str:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise FetchError(f"{entry.path} is no regular file")
        self._newest_s = max(self._newest_s, status.st_mtime)
        key = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        known = self._blobs.get(entry.path)
        if known is not None and known[0] == key and (kept := self.objects.get(known[1])) is not None:
            found[known[1]] = kept
            blobs[entry.path] = known
            return known[1]
        if status.st_size > self._limits.object_bytes:
            raise over_limit(f"{entry.path} has {status.st_size} bytes", self._limits.object_bytes, "object_bytes")
        if len(found) > self._limits.objects:
            raise over_limit("the directory has too many files", self._limits.objects, "objects")
        name = _put(found, "blob", Path(entry.path).read_bytes())
        blobs[entry.path] = (key, name)
        return name


class _TreeObjects:
    """`Objects` of the last `tree_id`; replaced whole, so a reader sees one state."""

    def __init__(self) -> None:
        self._found: dict[str, Content] = {}

    def replace(self, found: dict[str, Content]) -> None:
        self._found = found

    def get(self, name: str) -> Content | None:
        return self._found.get(name)

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object.

        Raises:
            MissingObjectError, WrongKindError: there is none of that id, or of another kind.

        """
        found = self._found.get(object_id)
        if found is None:
            raise MissingObjectError(object_id)
        if found[0] != kind:
            raise WrongKindError(object_id, found[0], kind)
        return found[1]


def _put(found: dict[str, Content], kind: Kind, content: bytes) -> str:
    name = object_id(kind, content)
    found[name] = (kind, content)
    return name
