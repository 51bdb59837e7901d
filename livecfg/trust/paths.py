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
    return _pattern(glob).match(path) is not None


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    text = ""
    parts = glob.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            text += ".+" if last else "(?:[^/]+/)*"
        else:
            text += re.escape(part).replace(r"\*", "[^/]*") + ("" if last else "/")
    return re.compile(text + r"\Z")
