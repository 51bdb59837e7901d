"""Reading: the files of one tree that count for one process, each read once and within a budget; what is unchanged is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from livecfg.document import Document, DocumentLimits, read
from livecfg.errors import MissingObjectError, RefusedError
from livecfg.parts import Listing, Made
from livecfg.refusal import MOST_FAULTS, Code, Refusal
from livecfg.trust.tree import TreeFaultError, diff, lookup, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from livecfg.layers import Process, ScopeLimits
    from livecfg.parts import Parts
    from livecfg.revision import Objects
    from livecfg.trust.tree import Entry

_DOCUMENTS = (".yaml", ".yml", ".json")
V = TypeVar("V")


class Reading:
    """The files of a tree for one load; `parts` takes what is made of them, `old` lends what was made before.

    Faults are collected in `faults`, so that a revision is refused with all of them; when there are many, reading ends.
    """

    def __init__(
        self, objects: Objects, tree: str, process: Process, limits: ScopeLimits, parts: Parts, old: Parts | None
    ) -> None:
        self.faults: list[Refusal] = []
        self._objects = objects
        self._tree = tree
        self._process = process
        self._limits = limits
        self._parts = parts
        self._old = old
        self._budget_bytes = limits.scope_bytes
        self._budget_files = limits.scope_files
        self.document_limits = DocumentLimits(size_bytes=limits.file_bytes, depth=limits.depth)
        """The caps of one document."""

    def find(self, template: str) -> tuple[str, Entry | None] | None:
        """Give path and entry that a template names for this process; None when it names none."""
        path = self._process.expand(template)
        return None if path is None else (path, lookup(self._objects, self._tree, path))

    def documents(self, globs: list[str], endings: tuple[str, ...] = _DOCUMENTS) -> list[tuple[str, str]]:
        """(path, blob id) of every document that the globs name for this process, each once, sorted."""
        found: dict[str, str] = {}
        for listing in self._listings(globs):
            found |= {p: blob for p, blob in listing.files.items() if p.endswith(endings)}
        return sorted(found.items())

    def changed(self, globs: list[str]) -> list[tuple[str, str]] | None:
        """Those of `documents` that have other bytes than in the load before; None when files came or went: look at all."""
        found: dict[str, str] = {}
        for listing in self._listings(globs):
            if listing.changed is None:
                return None
            found |= {p: listing.files[p] for p in listing.changed if p.endswith(_DOCUMENTS)}
        return sorted(found.items())

    def _listings(self, globs: list[str]) -> Iterator[Listing]:
        for glob in globs:
            path = self._process.expand(glob)
            if path is not None:
                if path not in self._parts.listings:
                    self._parts.listings[path] = self._listing(
                        path, self._old.listings.get(path) if self._old is not None else None
                    )
                yield self._parts.listings[path]

    def _listing(self, glob: str, old: Listing | None) -> Listing:
        folder, _, last = glob.rpartition("/")
        entry = lookup(self._objects, self._tree, folder if "*" in last else glob)
        if entry is None or entry.is_tree != ("*" in last):
            return Listing("", {}, () if old is not None and not old.files else None)
        if old is not None and old.tree == entry.id:
            return old._replace(changed=())
        if not entry.is_tree:
            return Listing(entry.id, {glob: entry.id}, (glob,) if old is not None and old.files else None)
        prefix = f"{folder}/" if folder else ""
        patched = self._patched(old, entry.id, prefix) if old is not None and old.tree else None
        if patched is not None:
            return patched
        depth = prefix.count("/")
        files = walk(self._objects, entry.id, prefix)
        return Listing(entry.id, {p: e.id for p, e in files if last == "**" or p.count("/") == depth}, None)

    def _patched(self, old: Listing, tree: str, prefix: str) -> Listing | None:
        """What an old listing has become, by what differs between the two trees; None when files came or went."""
        try:
            differ = diff(self._objects, old.tree, tree)
        except (TreeFaultError, MissingObjectError):  # too much differs, or the old tree is gone: nobody has to keep it
            return None
        found: dict[str, str] = {}
        for name, (was, now) in differ.items():
            if was is None or now is None:
                return None
            if prefix + name in old.files:  # others lie deeper than the glob looks
                found[prefix + name] = now.id
        return Listing(tree, {**old.files, **found}, tuple(found))

    def product(
        self,
        path: str,
        blob: str,
        old: Mapping[str, Made[V]],
        new: dict[str, Made[V]],
        make: Callable[[Document], V],
        tags: frozenset[str] = frozenset(),
    ) -> V | None:
        """Give what `make` gives for a document, or gave for the same bytes last time; its faults are collected."""
        return self.made(path, blob, old, new, lambda data: make(read(data, path, self.document_limits, tags)))

    def made(
        self,
        path: str,
        blob: str,
        old: Mapping[str, Made[V]],
        new: dict[str, Made[V]],
        make: Callable[[bytes], V],
    ) -> V | None:
        """Give what `make` gives for the bytes of a file, or gave for the same bytes last time; its faults are collected."""
        known = old.get(path)
        if known is None or known.blob != blob:
            if len(self.faults) > MOST_FAULTS:
                return None
            data = self._objects.read(blob, "blob")
            if not self.spend(path, len(data)):
                return None
            try:
                known = Made(blob, make(data), len(data))
            except RefusedError as error:
                self.faults += error.refusals
                return None
        elif not self.spend(path, known.size_bytes):
            return None
        new[path] = known
        return known.product

    def file(self, path: str, blob: str) -> bytes | None:
        """Give the bytes of a file; None when the budget is spent."""
        old = self._old.files.get(path) if self._old is not None else None
        data = old[1] if old is not None and old[0] == blob else self._objects.read(blob, "blob")
        if not self.spend(path, len(data)):
            return None
        self._parts.files[path] = (blob, data)
        return data

    def mark(self) -> tuple[int, int, int]:
        """Give where reading stands, for `back` to return to: how many faults, what is left of bytes and of files."""
        return len(self.faults), self._budget_bytes, self._budget_files

    def back(self, mark: tuple[int, int, int]) -> None:
        """Forget the faults since a mark, and what was spent since."""
        faults, self._budget_bytes, self._budget_files = mark
        del self.faults[faults:]

    def spend(self, path: str, size_bytes: int, files: int = 1) -> bool:
        """Count files, read now or before, against what one process may load; `path` is where a fault is told."""
        self._budget_bytes -= size_bytes
        self._budget_files -= files
        if self._budget_bytes >= 0 and self._budget_files >= 0:
            return True
        limits = self._limits
        what = f"{limits.scope_files:,} files" if self._budget_files < 0 else f"{limits.scope_bytes:,} bytes"
        if not any(f.code is Code.DOCUMENT_LIMIT for f in self.faults):
            self.faults.append(Refusal(Code.DOCUMENT_LIMIT, f"the scope of this process is over {what}", path=path))
        return False
