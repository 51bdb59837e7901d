"""Path patterns of the policy, part by part: `*` inside a part, `**` as a whole part, `!` excludes; case counts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY_PATH, SIGNERS_PATH, MANIFEST_PATH = ".livecfg/policy.yaml", ".livecfg/allowed_signers", "livecfg.yaml"
_GLOB_PART = re.compile(r"[A-Za-z0-9._@+*-]+\Z")


def _check_glob(text: str) -> str:
    parts = text.removeprefix("!").split("/")
    if not all(part == "**" or (_GLOB_PART.match(part) and "**" not in part) for part in parts):
        raise ValueError("expected path parts with * inside a part, or ** as a whole part")
    return text


Glob = Annotated[str, AfterValidator(_check_glob)]


def is_root_path(path: str) -> bool:
    """Whether only the root role may change a path: who may do what, and which files count."""
    return path.startswith(".livecfg/") or path == MANIFEST_PATH


def matches(globs: Sequence[str], path: str) -> bool:
    """Whether some pattern matches a path and no `!` pattern does."""
    wanted = any(_matches(glob, path) for glob in globs if not glob.startswith("!"))
    return wanted and not any(_matches(glob[1:], path) for glob in globs if glob.startswith("!"))


def _matches(glob: str, path: str) -> bool:
    """Match part by part, in time that no pattern can make more than (parts of the glob) x (parts of the path)."""
    if glob == "**":
        return True
    parts = _parts(glob)
    states = {0}  # how many parts of the glob may be matched so far
    for name in path.split("/"):
        after: set[int] = set()
        for at in states:
            while at < len(parts) and parts[at] is None:  # `**` takes this part and goes on, or takes none
                after.add(at)
                if at == len(parts) - 1:
                    after.add(at + 1)
                at += 1  # noqa: PLW2901 - the next part of the glob is tried on the same name
            if at < len(parts) and (part := parts[at]) is not None and part.match(name):
                after.add(at + 1)
        states = after
    return len(parts) in states


@lru_cache(maxsize=4096)
def _parts(glob: str) -> tuple[re.Pattern[str] | None, ...]:
    """The parts of a glob; None for `**`. A `*` takes as little as it can and never tries again: enough for a wildcard."""
    return tuple(None if part == "**" else _part(part) for part in glob.split("/"))


def _part(part: str) -> re.Pattern[str]:
    first, *rest = (re.escape(piece) for piece in part.split("*"))
    if not rest:
        return re.compile(first + r"\Z")
    *inner, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in inner) + f".*{last}\\Z", re.DOTALL)
