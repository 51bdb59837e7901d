"""What applications take over later than at once: a commit that is allowed, and waits for a window or a suspension."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.cli.clone import Clone

_SOONER = {
    "window": "the trailer `Livecfg-Window: override WINDOW` lets it through, and a rule `only: disable, fast: true` every kill",
    "suspension": "`livecfg resume SERVICE` lets it through, and a rule `only: disable, fast: true` every kill",
}


def later(clone: Clone, commit_id: str) -> list[str]:
    """Say what keeps applications that serve the commit before this one from taking it over now, and what would let it through.

    What holds that one back, too, is not known here: `livecfg fleet wait` tells.
    """
    parents = clone.commit(commit_id).parents
    try:
        return list(_reasons(clone, parents[0], commit_id, time.time())) if parents else []
    except (FetchError, RefusedError):  # a shallow clone; what is refused was told
        return []


def _reasons(clone: Clone, before: str, commit_id: str, now: float) -> Iterator[str]:
    from livecfg.cli.effective import processes_in
    from livecfg.trust.suspension import suspends
    from livecfg.trust.windows import waiting

    if found := waiting(clone, before, commit_id, now):
        yield f"{found}: {_SOONER['window']}"
    held = (suspends(clone, before, commit_id, p, now) for p in processes_in(clone, clone.commit(commit_id).tree))
    if told := sorted({str(one) for one in held if one is not None}):
        yield f"{told[0]}" + (f" and {len(told) - 1} more" if len(told) > 1 else "") + f": {_SOONER['suspension']}"
