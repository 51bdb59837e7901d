"""Reloading flags that have a file each: one of them changed, everything around it the same; CPU after the objects are there.

The trees come from memory, as the reconciler keeps them, so the figures are those of the loader alone: which file differs, its
parsing and compiling, the new snapshot.
"""

from __future__ import annotations

import time
from hashlib import sha1
from typing import TYPE_CHECKING

from pydantic import BaseModel

from benchmarks.figures import Figure, show
from livecfg.layers import Process, ScopeLimits
from livecfg.loader import load
from livecfg.revision import Revision
from livecfg.scope import Scope, UnsafeTree
from livecfg.signals import Signals
from livecfg.trust.tree import SplitObjects

if TYPE_CHECKING:
    from livecfg.revision import Kind

ROUNDS = 15
MANIFEST = b"version: 1\nlayers: [base.yaml]\nflags: ['flags/**']\nlimits: {scope_files: 20000}\n"


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


class Repository:
    """Blobs and trees in memory, by their ids as Git makes them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._known: dict[str, bytes] = {}
        self._flags = {name: self._put("blob", data) for name, data in sorted(files.items())}
        self._root = {"base.yaml": self._put("blob", b"timeout_ms: 1\n"), "livecfg.yaml": self._put("blob", MANIFEST)}

    def read(self, object_id: str, _: Kind) -> bytes:
        """Give the content of an object."""
        return self._known[object_id]

    def tree(self, name: str = "", data: bytes = b"") -> UnsafeTree:
        """Give the tree with one of the files changed."""
        if name:
            self._flags[name] = self._put("blob", data)
        flags = self._put("tree", b"".join(_entry("100644", n, blob) for n, blob in self._flags.items()))
        base, manifest = (_entry("100644", n, blob) for n, blob in self._root.items())
        tree = self._put("tree", base + _entry("40000", "flags", flags) + manifest)
        return UnsafeTree(Revision("main", tree), tree)

    def _put(self, kind: str, content: bytes) -> str:
        name = sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
        self._known[name] = content
        return name


def _entry(mode: str, name: str, object_id: str) -> bytes:
    return f"{mode} {name}\0".encode() + bytes.fromhex(object_id)


def _file(key: str, *, on: bool) -> bytes:
    variants, default = '{"on": true, "off": false}', '"on"' if on else '"off"'
    return f"flags:\n  {key}:\n    state: ENABLED\n    variants: {variants}\n    defaultVariant: {default}\n".encode()


def reloads() -> list[Figure]:
    """Measure the reload of one flag file of many."""
    figures = []
    limits = ScopeLimits(scope_files=20_000)
    scope = Scope(Config, Process("checkout", "prod"), Signals(), lambda: 0, limits=limits)
    for count in (100, 1_000, 10_000):
        repository = Repository({f"f{i}.yaml": _file(f"f{i}", on=False) for i in range(count)})
        objects = SplitObjects(repository)
        snapshot = load(repository.tree(), objects, scope)
        taken = []
        for n in range(ROUNDS):
            tree = repository.tree("f7.yaml", _file("f7", on=n % 2 == 0))
            started = time.process_time_ns()
            snapshot = load(tree, objects, scope, snapshot)
            taken.append((time.process_time_ns() - started) / 1e6)
            if snapshot.flag("f7", False, {}) is not (n % 2 == 0):  # noqa: FBT003 - the default
                raise SystemExit("the change did not arrive")
        figures.append(Figure(f"reload, 1 of {count:,} flag files changed", sorted(taken)[ROUNDS // 2], "ms"))
    return figures


if __name__ == "__main__":
    show("Reloads with a file per flag, ms of CPU", reloads())
