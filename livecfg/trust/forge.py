"""Merges that a Git host made. A forge's key proves that the forge did it, never that a person did.

Under `merge: clean` such a merge counts when it added nothing of its own: every path is the three-way result against the place
where the merged side left the chain. Who vouches for the change is then up to the people of the merged side, at least one of them
by an explicit approval: otherwise the host could land any signed branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from livecfg.trust.tree import diff

if TYPE_CHECKING:
    from livecfg.revision import Commit, Objects
    from livecfg.trust.merged import MergedSide

MAX_MERGED_CHANGES = 20_000
"""How many files and folders may differ in a merge that nobody signed: whoever may push could else keep every client busy."""


def why_not_clean(objects: Objects, merge: Commit, side: MergedSide, theirs: str) -> str:
    """Say why a merge is more than the path by path result of its two sides; empty when it is just that.

    `theirs` is the tree of the second parent.

    Raises:
        TreeFaultError: one of the trees is malformed.

    """
    if side.overflow or side.second_base is None:
        return "its merged side is too long, or shares no history with the branch"
    base, ours = side.chain[side.second_base].tree, side.chain[0].tree
    brought = diff(objects, base, theirs, most=MAX_MERGED_CHANGES)
    kept = diff(objects, base, ours, most=MAX_MERGED_CHANGES)
    landed = diff(objects, ours, merge.tree, most=MAX_MERGED_CHANGES)
    for path in sorted(brought.keys() | landed.keys()):
        was, there = brought.get(path, (None, None))
        if path not in brought:
            return f"{path} changes and the merged side did not change it"
        here = kept[path][1] if path in kept else was
        result = landed[path][1] if path in landed else here
        if path in kept and here != there:
            return f"{path} was changed on both sides"
        if result != there:
            return f"{path} is not what the merged side made it"
    return ""
