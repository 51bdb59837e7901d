"""The files of a configuration repository as they are now, seen as the tree that `livecfg commit` would make of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from livecfg.git.worktree import WorkingTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.revision import Objects

MANIFEST = "livecfg.yaml"


def files_here(path: Path) -> tuple[Objects, str]:
    """Hash the repository that holds `path`, whole; give its objects, and the id of its tree.

    The repository is the nearest folder upwards with a manifest, inside the same Git clone; without one, `path` itself.
    """
    root, git = _roots(path.resolve())
    tree = WorkingTree(root, leave_out=_ignored(root, git))
    tree_id = tree.tree_id()
    return tree.objects, tree_id


def _roots(path: Path) -> tuple[Path, Path | None]:
    """The folder to look at, and the root of the Git clone around it."""
    around = [path, *path.parents]
    git = next((folder for folder in around if (folder / ".git").exists()), None)
    inside = around[: around.index(git) + 1] if git is not None else [path]
    return next((folder for folder in inside if (folder / MANIFEST).is_file()), path), git


def _ignored(root: Path, git: Path | None) -> Callable[[str], bool]:
    """Tell what `git add -A` would leave alone below `root`: ignored, and not in the index."""
    if git is None:
        return lambda _: False
    from dulwich.ignore import IgnoreFilterManager

    from livecfg.cli.clone import Clone

    repo = Clone(git).repo
    manager = IgnoreFilterManager.from_repo(repo)
    tracked: set[str] = set()
    for name in repo.open_index():
        path = os.fsdecode(name)
        while path and path not in tracked:
            tracked.add(path)
            path = path.rpartition("/")[0]
    prefix = "" if root == git else root.relative_to(git).as_posix() + "/"
    return lambda path: prefix + path.rstrip("/") not in tracked and bool(manager.is_ignored(prefix + path))
