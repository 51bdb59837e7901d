"""A remote that is a folder of this host: its objects are read straight from its store, re-hashed, and packed by nobody.

Only `refs/heads/…`, `packed-refs`, loose objects and packs are looked at. Alternates of the folder are followed, since a
shared clone on the same host is a normal thing; what they give is re-hashed like everything else.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from livecfg.errors import FetchError
from livecfg.git.faults import over_limit, translating
from livecfg.git.graph import ids_of_tree, links_of_commit
from livecfg.git.store import Store
from livecfg.git.transport import existing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.git.pack import Content
    from livecfg.git.source import GitSource
    from livecfg.git.transport import Deadline


class LocalRemote:
    """The repository, bare or not, at a `file://` URL or an absolute path."""

    def __init__(self, source: GitSource) -> None:
        self._source = source
        path = Path(unquote(urlsplit(source.url).path) if "://" in source.url else source.url)
        self._path = path / ".git" if (path / ".git").is_dir() else path

    @contextmanager
    def session(self, deadline: Deadline) -> Iterator[LocalSession]:
        """Open the folder."""
        with deadline.explaining(f"reading {self._source.url}"):
            if not (self._path / "objects").is_dir():
                raise FetchError(f"{self._source.url} is no Git repository")
            store = Store(self._path, deadline.limits.object_bytes, follow_alternates=True)
            try:
                yield LocalSession(self._source, store, deadline)
            finally:
                store.close()

    def close(self) -> None:
        """Nothing is kept."""


class LocalSession:
    """One look into the folder."""

    def __init__(self, source: GitSource, store: Store, deadline: Deadline) -> None:
        self._source, self._store, self._deadline = source, store, deadline

    def tip(self) -> str:
        """Give the commit id of the ref; loose before packed, as git does."""
        with translating(f"reading {self._source.url}"):
            return existing(self._store.ref(self._source.full_ref), self._source)

    def objects(self, want: str, has: Callable[[str], bool]) -> dict[str, Content]:
        """Copy what `want` reaches and `has` does not know; a known commit or tree is known with everything below it.

        Raises:
            FetchError: an object is missing or corrupt there, or a cap is exceeded.

        """
        limits, found, work = self._deadline.limits, dict[str, "Content"](), [want]
        inflated = 0
        seen = {want}
        while work:
            name = work.pop()
            if has(name):
                continue
            if self._deadline.passed:
                raise over_limit("copying takes too long", limits.time_s, "time_s")
            kind, content = found[name] = self._store.read(name)
            inflated += len(content)
            if inflated > limits.inflated_bytes:
                raise over_limit("the new objects have more bytes than allowed", limits.inflated_bytes, "inflated_bytes")
            if len(found) > limits.objects:
                raise over_limit(f"there are over {limits.objects} new objects", limits.objects, "objects")
            below = links_of_commit(content) if kind == "commit" else ids_of_tree(content, len(name)) if kind == "tree" else ()
            work.extend(new for new in below if new not in seen)
            seen.update(below)
        return found
