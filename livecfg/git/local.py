"""A remote that is a folder of this host: its objects are read straight from its store, re-hashed, and packed by nobody.

Only `refs/heads/…`, `packed-refs`, loose objects and packs are looked at. Alternates of the folder are followed, since a
shared clone on the same host is a normal thing; what they give is re-hashed like everything else.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from livecfg.errors import FetchError, MissingObjectError
from livecfg.git.faults import over_limit, translating
from livecfg.git.graph import FOLDER, GITLINK, changed_entries, links_of_commit
from livecfg.git.store import Store
from livecfg.git.transport import existing
from livecfg.git.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.git.pack import Content
    from livecfg.git.source import GitSource
    from livecfg.git.transport import Deadline


_OPEN_PACKS_MOST = 16
"""More than these are closed after each look: a remote's packs are not ours to count, but our descriptors are."""


def watcher(source: GitSource, wake: Callable[[], object]) -> Watcher:
    """Watch the followed ref, loose or packed. Of the others, of which there may be any number, no file is looked at."""
    folder = _repository(source)
    loose = folder / source.full_ref
    return Watcher([loose.parent, folder], wake, files=[loose, folder / "packed-refs"])


def _repository(source: GitSource) -> Path:
    path = Path(unquote(urlsplit(source.url).path) if "://" in source.url else source.url)
    return path / ".git" if (path / ".git").is_dir() else path


class LocalRemote:
    """The repository, bare or not, at a `file://` URL or an absolute path."""

    def __init__(self, source: GitSource) -> None:
        self._source = source
        self._path = _repository(source)
        self._store: Store | None = None

    @contextmanager
    def session(self, deadline: Deadline) -> Iterator[LocalSession]:
        """Look into the folder."""
        with deadline.explaining(f"reading {self._source.url}"):
            if not os.path.isdir(f"{self._path}/objects"):  # noqa: PTH112 - at each look
                raise FetchError(f"{self._source.url} is no Git repository")
            if self._store is None:
                self._store = Store(self._path, deadline.limits.object_bytes, follow_alternates=True)
            try:
                yield LocalSession(self._source, self._store, deadline)
            finally:
                if self._store.open_packs > _OPEN_PACKS_MOST:
                    self.close()

    def close(self) -> None:
        """Close the packs that are open."""
        store, self._store = self._store, None
        if store is not None:
            store.close()


class LocalSession:
    """One look into the folder."""

    def __init__(self, source: GitSource, store: Store, deadline: Deadline) -> None:
        self._source, self._store, self._deadline = source, store, deadline

    def tip(self) -> str:
        """Give the commit id of the ref; loose before packed, as git does."""
        with translating(f"reading {self._source.url}"):
            return existing(self._store.ref(self._source.full_ref), self._source)

    def objects(
        self, want: str, has: Callable[[str], bool], at_hand: Callable[[str], Content | None] = lambda _: None
    ) -> dict[str, Content]:
        """Copy what `want` reaches and `has` does not know; a known commit or tree is known with everything below it.

        A new tree is compared with the one it replaces, so the cost follows the change and not the width of the folders;
        `at_hand` may give that one, where it need not be read.

        Raises:
            FetchError: an object is missing or corrupt there, or a cap is exceeded.

        """
        limits, found = self._deadline.limits, dict[str, "Content"]()

        def old(name: str) -> bytes:
            """What a new object is compared with; nothing where nobody has it (the folder is a shallow clone)."""
            try:
                return (at_hand(name) or self._store.read(name))[1] if name else b""
            except MissingObjectError:
                return b""

        work, seen = [(want, "", False)], {(want, "", False)}  # with what it replaces, else a tree may owe the rest; a file
        inflated = 0
        while work:
            name, before, is_file = work.pop()
            new = found.get(name)
            if new is None:
                if has(name):
                    continue
                if self._deadline.passed:
                    raise over_limit("copying takes too long", limits.time_s, "time_s")
                new = found[name] = self._store.read(name)
                inflated += len(new[1])
                if inflated > limits.inflated_bytes:
                    raise over_limit("the new objects have more bytes than allowed", limits.inflated_bytes, "inflated_bytes")
                if len(found) > limits.objects:
                    raise over_limit(f"there are over {limits.objects} new objects", limits.objects, "objects")
            if is_file:
                continue  # whatever it is: Git sends nothing below what stands there as a file
            below = [item for item in _below(name, before, new, old) if item not in seen]
            seen.update(below)
            work += below
        return found


def _below(name: str, before: str, new: Content, old: Callable[[str], bytes]) -> list[tuple[str, str, bool]]:
    """What a new object names and the tree it replaces does not, each with what it replaces in turn, and if it is a file."""
    kind, content = new
    if kind == "commit":
        tree, *parents = links_of_commit(content)
        parent = old(parents[0]) if parents else b""
        return [(tree, links_of_commit(parent)[0] if parent else "", False), *((p, "", False) for p in parents)]
    if kind != "tree":
        return []
    changed = changed_entries(content, old(before), len(name))
    return [(below, replaced, mode != FOLDER) for mode, below, replaced in changed if mode != GITLINK]
