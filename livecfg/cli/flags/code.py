"""keys_in(): the texts that Python code may name a flag by, found in its syntax tree, without importing anything."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FOREIGN = frozenset({"site-packages", "node_modules", "__pycache__", "venv"})


def keys_in(folders: Iterable[Path]) -> tuple[set[str], list[Path]]:
    """Give every text constant, and every attribute that declares a Flag as the key it stands for; and files that do not parse.

    Folders of other people's code (hidden ones, `venv`, `site-packages`, `node_modules`) are left out.
    """
    keys: set[str] = set()
    unread: list[Path] = []
    for path in _files(folders):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Python says of an escape in foreign code is not ours to pass on
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, OSError):
            unread.append(path)
            continue
        keys.update(_keys(tree))
    return keys, unread


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_file():
            yield folder
        for top, inner, names in os.walk(folder):
            inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in _FOREIGN)
            yield from (Path(top, name) for name in sorted(names) if name.endswith(".py"))


def _keys(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            function = node.value.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name == "Flag":
                yield from (target.id.replace("_", "-") for target in targets if isinstance(target, ast.Name))
