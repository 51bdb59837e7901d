"""Heartbeats: somebody with the low-privilege `timestamp` role says, every so often, which revision is the newest.

They show what commits cannot: that nothing newer is being withheld (freeze attack). They never enter a verdict; what is allowed
stays allowed without them. Too old, they make the process STALE: reported, never a reason to stop serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.statement import read_statement, write_statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.trust.policy import Policy
    from livecfg.trust.root import Good

NAMESPACE = "livecfg-heartbeat@v1"
REF = "refs/livecfg/heartbeat"
AHEAD_S = 300
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
    if found.time > now + AHEAD_S:
        raise _refused("it lies ahead of this machine's clock")
    if not people & frozenset(policy.file.timestamp):
        raise _refused("nobody of the role `timestamp` signed it")
    return found


def _refused(why: str) -> RefusedError:
    return RefusedError(Refusal(Code.BAD_SIGNATURE, f"a heartbeat that does not count: {why}"))


@dataclass(slots=True)
class Freshness:
    """The newest heartbeat of a ref, and what it shows; `since` is when this process began to expect one (Unix seconds)."""

    ref: str
    max_staleness_s: float
    since: float
    expected: bool = False
    """Whether policy names somebody whose heartbeats count."""
    newest: Heartbeat | None = None
    alarm: str = ""

    def take(self, data: bytes | None, policy: Policy, now: float) -> str:
        """Take a heartbeat unless it is older than the newest; give why it does not count, or an empty string."""
        if bool(policy.file.timestamp) and not self.expected:
            self.since = now
        self.expected = bool(policy.file.timestamp)
        if not self.expected or data is None:
            return ""
        try:
            found = read_heartbeat(data, policy, self.ref, now)
        except RefusedError as error:
            return error.refusals[0].message
        if self.newest is None or found.seq > self.newest.seq:
            self.newest = found
        return ""

    def look(self, good: Good, commit_time: int) -> None:
        """Compare the newest authorised revision with the newest heartbeat."""
        newest = self.newest
        self.alarm = ""
        if newest is None:
            return
        if newest.position > good.position:
            self.alarm = f"the heartbeat attests {newest.tip[:10]}, which the remote does not show: is it withholding?"
        elif newest.position == good.position and newest.tip != good.commit:
            self.alarm = f"the heartbeat attests {newest.tip[:10]} where the remote shows {good.commit[:10]}: two histories"
        elif newest.position < good.position and commit_time < newest.time:
            self.alarm = f"{good.commit[:10]} is dated before a heartbeat that did not have it yet: is it backdated?"

    def stale(self, now: float) -> str:
        """Say why the ref cannot be called fresh; empty when it can, or where no heartbeats are expected."""
        if not self.expected:
            return ""
        last = self.newest.time if self.newest is not None else self.since
        if now - last <= self.max_staleness_s:
            return ""
        who = "no heartbeat yet" if self.newest is None else "the newest heartbeat is old"
        return f"{who}: {now - last:.0f} s, at most {self.max_staleness_s:.0f} s are allowed"


__all__ = ["NAMESPACE", "REF", "Freshness", "Heartbeat", "beat", "read_heartbeat"]
