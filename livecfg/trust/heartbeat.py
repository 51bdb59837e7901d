"""Heartbeats: somebody with the low-privilege `timestamp` role says, every so often, which revision is the newest.

They show what commits cannot: that nothing newer is being withheld (freeze attack). They never enter a verdict; what is allowed
stays allowed without them. Too old, they make the process STALE: reported, never a reason to stop serving.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.statement import MAX_BYTES, read_statement, write_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.trust.policy import Policy
    from livecfg.trust.root import Good

NAMESPACE = "livecfg-heartbeat@v1"
REF = "refs/livecfg/heartbeat"
AHEAD_S = 300
BACKDATED_S = 600
"""How long after its date a commit may reach the remote without a word: people commit first and push then."""
HUB_BEHIND_S = 60
_Seconds = Annotated[int, Field(ge=0, lt=1 << 40)]


class Heartbeat(BaseModel, frozen=True, extra="forbid", strict=True):
    """What one heartbeat says: at `time` (Unix seconds) the newest authorised revision of the ref was this one."""

    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    ref: Annotated[str, Field(pattern=r"^refs/heads/[^\x00-\x20]{1,200}$")]
    tip: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    payload_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    position: _Seconds
    seq: _Seconds
    time: _Seconds


def beat(repo_id: str, ref: str, good: Good, seq: int, now: float, sign: Callable[[bytes], bytes]) -> bytes:
    """Make a heartbeat; `sign` signs a line of it under NAMESPACE. `seq` must grow: Unix seconds will do."""
    content = Heartbeat(
        repo_id=repo_id,
        ref=ref,
        tip=good.commit,
        payload_sha256=good.payload_sha256,
        position=good.position,
        seq=seq,
        time=int(now),
    )
    return write_statement(content.model_dump(), sign)


def read_heartbeat(data: bytes, policy: Policy, ref: str, now: float) -> Heartbeat:
    """Read a heartbeat for one ref, signed by somebody whom policy names under `timestamp`.

    Raises:
        RefusedError: it is malformed, of another repository or ref, ahead of `now`, or signed by nobody of that role.

    """
    content, people = read_statement(data, NAMESPACE, policy.signers, now)
    try:
        found = Heartbeat.model_validate(content)
    except ValidationError:
        raise _refused("it does not have the fields of one") from None
    if (found.repo_id, found.ref) != (policy.file.repo_id, ref):
        raise _refused("it is of another repository or ref")
    if not people & frozenset(policy.file.timestamp):
        raise _refused("nobody of the role `timestamp` signed it")
    if found.time > now + AHEAD_S:
        raise _refused(f"it lies {found.time - now:.0f} s ahead of this machine's clock: is one of the clocks wrong?")
    return found


def _refused(why: str) -> RefusedError:
    advice = "see which hub signs for this ref, and with which key"
    return RefusedError(Refusal(Code.BAD_SIGNATURE, f"a heartbeat that does not count: {why}", advice=advice))


def claimed_tip(data: bytes) -> str:
    """Give the tip a heartbeat names, unproven: good for nothing but to tell whether it says something new."""
    try:
        content = json.loads(data[:MAX_BYTES].partition(b"\n")[0])
    except (ValueError, RecursionError):
        return ""
    tip = content.get("tip") if isinstance(content, dict) else None
    return tip if isinstance(tip, str) else ""


@dataclass(slots=True)
class Freshness:
    """The newest heartbeat of a ref, and what it shows; `since` is when this process began to expect one (Unix seconds)."""

    ref: str
    max_staleness_s: float
    since: float
    expected: bool = False
    """Whether policy names somebody whose heartbeats count."""
    newest: Heartbeat | None = None
    alarms: tuple[str, ...] = ()
    refused: str = ""
    """Why the last heartbeat that came does not count; empty when it does."""
    _data: bytes = b""
    _policy: Policy | None = None
    _backdated: tuple[str, str] = ("", "")
    _behind: tuple[str, str, float] = ("", "", 0.0)

    def take(self, found: Iterable[bytes], policy: Policy, now: float) -> None:
        """Take heartbeats, whichever way they came, unless they are older than the newest."""
        if bool(policy.file.timestamp) and not self.expected:
            self.since = now
        self.expected = bool(policy.file.timestamp)
        if policy is not self._policy and self.newest is not None and not self._still_counts(policy):
            self.newest = None  # else a lost key, once rotated out, could still outbid every later heartbeat
        self._policy = policy
        self.refused = ""
        for data in found if self.expected else ():
            try:
                beat = read_heartbeat(data, policy, self.ref, now)
            except RefusedError as error:
                self.refused = error.refusals[0].message
                continue
            if self.newest is None or beat.seq > self.newest.seq:
                self.newest, self._data = beat, data

    def _still_counts(self, policy: Policy) -> bool:
        """Whether the newest heartbeat was signed by somebody whom this policy, too, names under `timestamp`."""
        assert self.newest is not None  # noqa: S101 - the caller looked
        try:
            read_heartbeat(self._data, policy, self.ref, self.newest.time)
        except RefusedError:
            return False
        return True

    def look(self, good: Good, commit_time: int, now: float) -> None:
        """Compare the newest authorised revision with the newest heartbeat and with the clock."""
        alarms = [self.refused, self._against_heartbeat(good, commit_time)]
        if good.time > now + AHEAD_S:
            ahead_s = good.time - now
            alarms.append(f"{good.commit[:10]} lies {ahead_s:.0f} s ahead of this machine's clock: was the clock set back?")
        self.alarms = tuple(filter(None, alarms))

    def _against_heartbeat(self, good: Good, commit_time: int) -> str:
        newest = self.newest
        if newest is None:
            return ""
        if newest.position > good.position:
            return f"the heartbeat attests {newest.tip[:10]}, which the remote does not show: is it withholding?"
        if newest.position == good.position and newest.tip != good.commit:
            return f"the heartbeat attests {newest.tip[:10]} where the remote shows {good.commit[:10]}: two histories"
        if newest.position < good.position and commit_time < newest.time - BACKDATED_S:
            text = f"{good.commit[:10]} is dated before a heartbeat that did not have it yet: is it backdated?"
            self._backdated = (good.commit, text)
        return self._backdated[1] if self._backdated[0] == good.commit else ""

    def compare(self, hub_tip: str, tip: str, *, contains: bool, now: float) -> None:
        """Compare what the hub shows with what Git shows (`contains`: as a descendant of it); they may differ for a while."""
        if not hub_tip or hub_tip == tip:
            self._behind = ("", "", 0.0)
            return
        if self._behind[:2] != (hub_tip, tip):
            since = self._behind[2] if self._behind[0] == hub_tip else now  # Git may move on; the hub has stood still since
            self._behind = (hub_tip, tip, since)
        apart_s = now - self._behind[2]
        if apart_s < HUB_BEHIND_S:
            return
        why = "is the hub withholding?" if contains else "they show two histories"
        text = f"Git shows {tip[:10]}, the hub {hub_tip[:10]}, for {apart_s:.0f} s: {why}"
        self.alarms = (*self.alarms, text)

    def stale(self, now: float) -> str:
        """Say why the ref cannot be called fresh; empty when it can, or where no heartbeats are expected."""
        if not self.expected:
            return ""
        last = self.newest.time if self.newest is not None else self.since
        if last - now > AHEAD_S:  # else a clock that is set back would hide any freeze
            what = "the newest heartbeat" if self.newest is not None else "what it was at the start"
            return f"this machine's clock is {last - now:.0f} s behind {what}: set it right"
        if now - last <= self.max_staleness_s:
            return ""
        who = "no heartbeat yet" if self.newest is None else "the newest heartbeat is old"
        return f"{who}: {now - last:.0f} s, at most {self.max_staleness_s:.0f} s are allowed"


__all__ = ["NAMESPACE", "REF", "Freshness", "Heartbeat", "beat", "claimed_tip", "read_heartbeat"]
