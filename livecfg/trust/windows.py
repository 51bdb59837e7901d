"""Windows: when a valid revision may be swapped in, never whether it is valid.

A revision waits whole while its difference to what is in use touches a closed window's paths. Never waiting: `.livecfg/**` and
`livecfg.yaml`; a change that a `fast` rule covers; a path that a commit with `Livecfg-Rollback: <id>` gives back as that older
commit of the chain (in use, or older than what is) had it; anything once people of the named role say
`Livecfg-Window: override <window id>`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from livecfg.trust.approvals import Identities, Trees
from livecfg.trust.commits import parse_commit, read_commit, trailers
from livecfg.trust.identify import Signed
from livecfg.trust.paths import is_root_path, matches
from livecfg.trust.policy import load_policy
from livecfg.trust.rules import applicable
from livecfg.trust.tree import diff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from livecfg.revision import Commit, Objects
    from livecfg.trust.policy import Hours, Policy, Window

OVERRIDE, ROLLBACK = "Livecfg-Window", "Livecfg-Rollback"
MAX_STEPS = 10_000
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A revision that waits: why, until when (Unix seconds; infinite: nobody knows), because of which paths."""

    commit: str
    why: str
    until: float
    paths: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        until = ""
        if math.isfinite(self.until):
            until = " until " + datetime.fromtimestamp(self.until, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
        return f"{self.commit[:10]} waits {self.why}{until} ({self.paths[0]}{more})"


def waiting(objects: Objects, in_use: str, commit: str, now: float) -> Waiting | None:
    """Say what the revision `commit` waits for, by its own policy and the local clock, when `in_use` is what runs.

    Raises:
        FetchError: an object is missing.

    """
    new = read_commit(objects, commit)
    policy = load_policy(objects, new.tree)
    closed = [(window, until) for window in policy.file.windows if (until := closed_until(window.deny, now)) is not None]
    if not closed:
        return None
    between = _between(objects, in_use, new)
    slow = _slow_paths(objects, policy, read_commit(objects, in_use), new, between)
    for window, until in closed:
        touched = tuple(path for path in slow if matches(window.paths, path))
        if touched and not _is_overridden(policy, window, between, now):
            return Waiting(commit, f"for the window {window.id!r}", until, touched)
    return None


def closed_until(hours: Hours, now: float) -> float | None:
    """Give the end of the closed hours that `now` lies in; None when they are open. Hours may go over midnight."""
    local = datetime.fromtimestamp(now, _zone(hours.zone))
    for days_back in (0, 1):
        day = local - timedelta(days=days_back)
        if _DAYS[day.weekday()] not in hours.weekdays:
            continue
        begin, end = _at(day, hours.start), _at(day, hours.until)
        if end <= begin:
            end = _at(day + timedelta(days=1), hours.until)
        if begin <= local < end:
            return end.timestamp()
    return None


def _at(day: datetime, clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)) if hour == 24 else midnight.replace(hour=hour, minute=minute)


def _zone(name: str) -> tzinfo:
    """The zone, or UTC where this machine does not know it: policy must not mean less on one machine than on another."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def slow_paths(objects: Objects, in_use: str, commit: str) -> list[str]:
    """Give the paths that differ between two commits, without those that never wait.

    Raises:
        RefusedError: the policy of `commit` is malformed.
        FetchError: an object is missing.

    """
    new, old = read_commit(objects, commit), read_commit(objects, in_use)
    return _slow_paths(objects, load_policy(objects, new.tree), old, new, _between(objects, in_use, new))


def _between(objects: Objects, in_use: str, new: Commit) -> list[Commit]:
    """The chain from `new` down to, but without, what is in use; newest first."""
    found = [new]
    while found[-1].parents and found[-1].parents[0] != in_use and len(found) < MAX_STEPS:
        parent = found[-1].parents[0]
        found.append(parse_commit(parent, objects.read(parent, "commit")))
    return found


def _slow_paths(objects: Objects, policy: Policy, old: Commit, new: Commit, between: Sequence[Commit]) -> list[str]:
    """The changed paths that have to wait for windows at all."""
    trees = Trees(objects)
    back = _rolled_back_to(objects, policy, between)
    slow = []
    for path, change in diff(objects, old.tree, new.tree, most=sys.maxsize).items():
        rules = applicable(policy, objects, path, change)
        fast = bool(rules) and all(rule.fast for rule in rules)
        rolled_back = any(trees.entry(tree, path) == change[1] for tree in back)
        if not (is_root_path(path) or fast or rolled_back):
            slow.append(path)
    return sorted(slow)


def _rolled_back_to(objects: Objects, policy: Policy, between: Sequence[Commit]) -> list[str]:
    """The trees that people say they go back to in `between`, as far as they are those of older commits of the chain.

    One pass over the chain for all of them, and none for what nobody known has signed: whoever may push could else keep every
    process busy.
    """
    identities = Identities(policy.signers, policy.file.forges)
    named = {
        value
        for commit in between
        if isinstance(identities.at(commit, commit.committer_time), Signed)
        for key, value in trailers(commit.message)
        if key == ROLLBACK
    }
    found = []
    older = between[-1]  # from what is in use downwards: a change of now, named as what one goes back to, is no rollback
    for _ in range(MAX_STEPS if named else 0):
        if not older.parents:
            break
        older = parse_commit(older.parents[0], objects.read(older.parents[0], "commit"))
        if older.id in named:
            found.append(older.tree)
            named.discard(older.id)
        if not named:
            break
    return found


def _is_overridden(policy: Policy, window: Window, between: Sequence[Commit], now: float) -> bool:
    """Whether enough people of the window's role let it pass: the root threshold for root, one for a team or a person."""
    root = policy.file.root
    allow = root.people if window.override == "root" else [window.override]
    needs = root.threshold if window.override == "root" else 1
    identities = Identities(policy.signers, policy.file.forges)
    people = {
        signed.person
        for commit in between
        if (OVERRIDE, f"override {window.id}") in trailers(commit.message)
        and isinstance(signed := identities.at(commit, max(now, commit.committer_time)), Signed)
        and policy.allows(allow, signed.person)
    }
    return len(people) >= needs
