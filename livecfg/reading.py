"""Reading: the files of one tree that count for one process, each read once and within a budget; what is unchanged is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from livecfg.document import Document, DocumentLimits, read
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.tree import lookup, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.layers import Process, ScopeLimits
    from livecfg.parts import Parts
    from livecfg.revision import Objects
    from livecfg.trust.tree import Entry

_DOCUMENTS = (".yaml", ".yml", ".json")
V = TypeVar("V")


class Reading:
    """The files of a tree for one load; `parts` takes what is made of them, `old` lends what was made before.

    Faults are collected in `faults`, so that a revision is refused with all of them.
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

    def find(self, template: str) -> tuple[str, Entry | None] | None:
        """Give path and entry that a template names for this process; None when it names none."""
        path = self._process.expand(template)
        return None if path is None else (path, lookup(self._objects, self._tree, path))

    def documents(self, globs: list[str], endings: tuple[str, ...] = _DOCUMENTS) -> list[tuple[str, str]]:
        """(path, blob id) of every document that the globs name for this process, each once, sorted."""
        found: dict[str, str] = {}
        for glob in globs:
            path = self._process.expand(glob)
            if path is not None:
                found |= {p: blob for p, blob in self._listing(path) if p.endswith(endings)}
        return sorted(found.items())

    def _listing(self, glob: str) -> tuple[tuple[str, str], ...]:
        prefix, _, last = glob.rpartition("/")
        entry = lookup(self._objects, self._tree, glob if "*" not in last else prefix)
        if entry is None:
            return ()
        if "*" not in last:
            return () if entry.is_tree else ((glob, entry.id),)
        if not entry.is_tree:
            return ()
        old = self._old.listings.get(glob) if self._old is not None else None
        if old is None or old[0] != entry.id:
            files = walk(self._objects, entry.id, f"{prefix}/" if prefix else "")
            depth = prefix.count("/") + 1 if prefix else 0
            old = entry.id, tuple((p, e.id) for p, e in files if last == "**" or p.count("/") == depth)
        self._parts.listings[glob] = old
        return old[1]

    def product(
        self,
        path: str,
        blob: str,
        old: Mapping[str, tuple[str, V]],
        new: dict[str, tuple[str, V]],
        make: Callable[[Document], V],
        tags: frozenset[str] = frozenset(),
    ) -> V | None:
        """Give what `make` gives for a document, or gave for the same bytes last time; its faults are collected."""
        limits = DocumentLimits(size_bytes=self._limits.file_bytes, depth=self._limits.depth)
        return self.made(path, blob, old, new, lambda data: make(read(data, path, limits, tags)))

    def made(
        self,
        path: str,
        blob: str,
        old: Mapping[str, tuple[str, V]],
        new: dict[str, tuple[str, V]],
        make: Callable[[bytes], V],
    ) -> V | None:
        """Give what `make` gives for the bytes of a file, or gave for the same bytes last time; its faults are collected."""
        known = old.get(path)
        if known is None or known[0] != blob:
            data = self._objects.read(blob, "blob")
            if not self._spend(path, len(data)):
                return None
            try:
                known = blob, make(data)
            except RefusedError as error:
                self.faults += error.refusals
                return None
        new[path] = known
        return known[1]

    def file(self, path: str, blob: str) -> bytes | None:
        """Give the bytes of a file; None when the budget is spent."""
        old = self._old.files.get(path) if self._old is not None else None
        data = old[1] if old is not None and old[0] == blob else self._objects.read(blob, "blob")
        if not self._spend(path, len(data)):
            return None
        self._parts.files[path] = (blob, data)
        return data

    def _spend(self, path: str, size_bytes: int) -> bool:
        self._budget_bytes -= size_bytes
        self._budget_files -= 1
        if self._budget_bytes >= 0 and self._budget_files >= 0:
            return True
        limits = self._limits
        what = f"{limits.scope_files:,} files" if self._budget_files < 0 else f"{limits.scope_bytes:,} bytes"
        if not any(f.code is Code.DOCUMENT_LIMIT for f in self.faults):
            self.faults.append(Refusal(Code.DOCUMENT_LIMIT, f"the scope of this process is over {what}", path=path))
        return False
