"""Desired → applied: fetch, verify, load, prepare, swap, remember; one step per line.

The reconciler has no thread, no timer and no clock: whoever owns it calls `reconcile(now)`. It never raises what an
application could not handle: FetchError means later, RefusedError means never this revision. Either way the snapshot that
is in use stays.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.loader import load
from livecfg.refusal import printable
from livecfg.revision import Candidate, Objects, Revision
from livecfg.treereconciler import TreeReconciler
from livecfg.trust.commits import parse_commit
from livecfg.trust.history import Ancestry
from livecfg.trust.hold import Hold
from livecfg.trust.policy import load_policy, protected_of
from livecfg.trust.root import Good, Trusted
from livecfg.trust.suspension import suspends, where_it_began
from livecfg.trust.tree import KeptTrees, SplitObjects
from livecfg.trust.verify import Verification, Walks, resume, verify
from livecfg.trust.windows import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.refusal import Refusal
    from livecfg.scope import Scope
    from livecfg.snapshot import Snapshot
    from livecfg.trust.heartbeat import Freshness
    from livecfg.trust.verify import VerifiedCommit

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
_GLASS_SHOWN = 8


class MirrorLike(Protocol):
    """What the reconciler needs of a mirror."""

    @property
    def objects(self) -> Objects:
        """The objects of the mirror, re-hashed as they are read."""
        ...

    def holds(self, object_id: str) -> bool:
        """Tell whether an object is there, without complaint when it is not."""
        ...

    def fetch(self, since: str | None) -> Candidate | None:
        """Give the tip when it is not `since`."""
        ...

    def promote(self) -> None:
        """Write what was fetched, so that the other processes of the host see it."""
        ...

    def load_state(self, name: str) -> bytes | None:
        """Give what `save_state` kept, when the file can be trusted."""
        ...

    def save_state(self, name: str, data: bytes, position: int) -> bool:
        """Keep the last good commit, only forwards."""
        ...


class Reconciler(Generic[M]):
    """Follows one ref of a mirror for one process and hands each good revision to `swap`.

    `prepare` is called with (old, new) before a swap and may raise RefusedError; `swap` publishes. `state` names the file
    that remembers the last applied revision.
    """

    def __init__(  # noqa: PLR0913 - the seam between the parts of the system
        self,
        mirror: MirrorLike,
        trusted: Trusted,
        scope: Scope[M],
        *,
        state: str,
        prepare: Callable[[Snapshot[M] | None, Snapshot[M]], None],
        swap: Callable[[Snapshot[M]], None],
        hold: str = "",
        freshness: Freshness | None = None,
        heartbeats: Callable[[], Iterable[bytes]] = tuple,
        hub_tip: Callable[[], str] = str,
        strict_heartbeat: bool = False,
    ) -> None:
        self._mirror = mirror
        self._ancestry = Ancestry()
        self._kept = KeptTrees()
        self._objects: Objects = SplitObjects(mirror.objects, self._kept)
        self._trusted = trusted
        self._scope = scope
        self._state = state
        self._prepare = prepare
        self._swap = swap
        self._hold = Hold(hold, trusted.ref)
        self._freshness = freshness
        self._heartbeats = heartbeats
        self._hub_tip = hub_tip
        self._strict = strict_heartbeat
        self._snapshot: Snapshot[M] | None = None
        self._refused: tuple[str, tuple[Refusal, ...]] = ("", ())
        self._walks = Walks()
        self._remembered: object = None
        self._in_use: Good | None = None
        self._renew_note = ""
        self._renew_again = False
        self._waits_until: float | None = None
        self.desired: Revision | None = None
        """The newest tip seen, verified or not."""
        self.waiting = ""
        """Which revision waits for which window, or for its own time; empty when none does."""
        self.broke_glass: tuple[str, ...] = ()
        """The newest commits that set the path rules aside, as far as this process has seen them."""

    def inherit(self, snapshot: Snapshot[M] | None) -> None:
        """Go on from a snapshot that this process already serves; not from one of another ref, which has another history."""
        if snapshot is not None and snapshot.revision.ref == self._trusted.ref:
            self._snapshot = snapshot

    def resume(self) -> bool:
        """Serve the revision that was applied last, from the mirror alone; False when there is none to serve.

        Raises:
            RefusedError: it no longer fits the application's model.

        """
        kept = self._mirror.load_state(self._state)
        if kept is None:
            return False
        try:
            state = json.loads(kept)
            trusted = Trusted.from_state(self._trusted.root, self._trusted.ref, state)
            in_use = Good.from_state(state.get("in_use", state))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the mirror's state is not usable (%s): verifying from the anchor", type(error).__name__)
            return False
        self._trusted = trusted  # rollback attack: what was applied once is remembered even when its objects are gone
        try:
            good = resume(self._objects, trusted, in_use)
        except (FetchError, ValueError) as error:
            log.warning("the remembered revision is not in the mirror (%s): fetching it again", type(error).__name__)
            return False
        self.desired = good.revision
        with suppress(LivecfgError):  # what is wrong with the hold, `reconcile` says
            good, in_use = self._held_back(in_use) or (good, in_use)
        if self._snapshot is None or good.revision.position > self._snapshot.revision.position:
            self._apply(good, in_use)
        elif self._snapshot.revision.commit == in_use.commit:
            self._in_use = in_use
        return True

    def reconcile(self, now: float) -> tuple[Refusal, ...]:
        """Make what is applied equal to what is desired; give the refusals of commits that were skipped on the way.

        Raises:
            FetchError: the remote or the disk did not answer; later may help.
            RefusedError: the newest revision broke a rule and stays out until the ref moves.

        """
        if self._scope.is_due(now) or self._renew_again:
            self._renew(now)
        in_use = self._snapshot.revision.commit if self._snapshot is not None else None
        candidate = self._mirror.fetch(since=None if self._hold.is_open else in_use)  # what it names is looked for in any case
        if candidate is None:
            self._refused, self.waiting, self._waits_until = ("", ()), "", None
            self._look_at_heartbeat(self._trusted, now)
            return ()
        self.desired = Revision(candidate.ref, candidate.tip)
        if candidate.tip == self._refused[0]:
            raise RefusedError(*self._refused[1])
        # Commits are kept for this round, since all its steps look at the same few; trees are what the next round starts from.
        self._objects = SplitObjects(candidate.objects, self._kept)
        candidate = replace(candidate, objects=self._objects)
        walk = self._walks.verify(self._held(candidate), self._trusted, now)
        seen = walk.trusted
        if self._strict:
            self._look_at_heartbeat(seen, now)
            walk = self._attested(walk, candidate, now)
        try:
            walk = self._before_suspension(walk, candidate, now)
            wanted = self._wanted(walk)
            if wanted is not None and not self._must_wait(wanted[0], now):
                self._apply(*wanted)
            self._trusted = walk.trusted
            self._tell_glass(walk)
            if walk.ahead is not None:
                ahead_s = walk.ahead.committer_time - now
                self.waiting = f"{walk.ahead.id[:10]} lies {ahead_s:.0f} s ahead of this machine's clock: is the clock right?"
        except RefusedError as error:
            named = tuple(replace(r, commit=r.commit or candidate.tip) for r in error.refusals)
            self._refused = (candidate.tip, walk.skipped + named)
            raise RefusedError(*self._refused[1]) from error
        finally:
            self._objects = SplitObjects(self._mirror.objects, self._kept)
            self._remember()
            if not self._strict:  # it raises alarms, no more, so the revision need not wait for it
                self._look_at_heartbeat(seen, now)
        return walk.skipped

    def _look_at_heartbeat(self, trusted: Trusted, now: float) -> None:
        """Take the newest heartbeat, by the policy of the newest authorised commit."""
        if self._freshness is None or trusted.good is None:
            return
        objects, good = self._objects, trusted.good
        known, policy = self._freshness.alarms, load_policy(objects, good.tree)
        self._freshness.take(self._heartbeats() if policy.file.timestamp else (), policy, now)
        self._freshness.look(good, parse_commit(good.commit, objects.read(good.commit, "commit")).committer_time, now)
        hub_tip, tip = self._hub_tip(), self.desired.commit if self.desired is not None else good.commit
        contains = bool(hub_tip) and hub_tip != tip and self._stands_on(hub_tip, tip)
        self._freshness.compare(hub_tip, tip, contains=contains, now=now)
        for alarm in self._freshness.alarms:
            if alarm not in known:
                log.warning("%s", alarm)

    def _attested(self, walk: Verification, candidate: Candidate, now: float) -> Verification:
        """With `strict_heartbeat`: the walk, but not beyond what the newest heartbeat attests.

        Raises:
            FetchError: nothing is attested yet, or something that is not on the branch as it is shown.

        """
        newest = self._freshness.newest if self._freshness is not None else None
        if newest is None:
            raise FetchError("strict_heartbeat: there is no heartbeat yet, so nothing is attested")
        good, before = walk.trusted.good, self._trusted.good
        if good is None or newest.tip == good.commit or newest.position > good.position:
            return walk
        if not self._stands_on(newest.tip, good.commit):
            raise FetchError(f"strict_heartbeat: {newest.tip[:10]} is attested and is not on the branch")
        if before is not None and newest.position <= before.position:
            return Verification(None, self._trusted, walk.skipped)
        return verify(replace(candidate, tip=newest.tip), self._trusted, now)

    def stale(self, now: float) -> str:
        """Say why the ref cannot be called fresh by its heartbeats; empty when it can, or where none are expected."""
        return self._freshness.stale(now) if self._freshness is not None else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know beside the condition: what waits, and what the heartbeats show."""
        alarms = self._freshness.alarms if self._freshness is not None else ()
        return tuple(note for note in (self.waiting, *alarms, self._renew_note) if note)

    def _must_wait(self, good: VerifiedCommit, now: float) -> bool:
        """Whether a window of policy, or a suspension, keeps a valid revision out for now; the first one never waits."""
        held = None
        if self._snapshot is not None and self._snapshot.revision.commit != good.revision.commit:
            objects, in_use, wanted = self._objects, self._snapshot.revision.commit, good.revision.commit
            held = waiting(objects, in_use, wanted, now) or suspends(objects, in_use, wanted, self._scope.process, now)
        self._waits_until = held.until if held is not None else None
        if held is not None and str(held) != self.waiting:
            log.warning("%s", held)
        self.waiting = str(held) if held is not None else ""
        return held is not None

    def _before_suspension(self, walk: Verification, candidate: Candidate, now: float) -> Verification:
        """Let a process without a revision of its own begin where its service was suspended, as the others stand there."""
        if self._snapshot is not None or walk.good is None:
            return walk
        began = where_it_began(candidate.objects, walk.good.revision.commit, self._scope.process, now)
        if began == walk.good.revision.commit:
            return walk
        earlier = verify(replace(candidate, tip=began), self._trusted, now)
        return earlier if earlier.good is not None else walk

    def _tell_glass(self, walk: Verification) -> None:
        for commit in walk.broke_glass:
            text = f"{commit.revision.short} broke the glass, by {', '.join(commit.signers)}: {printable(commit.broke_glass)}"
            log.warning("%s", text)
            self.broke_glass = (text, *self.broke_glass)[:_GLASS_SHOWN]

    def _apply(self, good: VerifiedCommit, as_good: Good) -> None:
        """Load, prepare, swap; nothing when it is in use already."""
        if self._snapshot is not None and self._snapshot.revision.commit == good.revision.commit:
            return
        snapshot = load(good, self._objects, self._scope, before=self._snapshot)
        self._prepare(self._snapshot, snapshot)  # may refuse
        self._swap(snapshot)
        self._snapshot = snapshot
        self._in_use = as_good

    @property
    def overrides(self) -> tuple[str, ...]:
        """Names of the local settings in force, and the commits that broke the glass."""
        return (*self._scope.local, *self.broke_glass)

    def is_due(self, now: float) -> bool:
        """Whether to reconcile now: a secret changed, the time of the local settings is over, or what waited may wait no more."""
        return self._scope.is_due(now) or (self._waits_until is not None and now >= self._waits_until)

    def _renew(self, now: float) -> None:
        """Load what is in use once more; what does not load stays out, and is told as drift."""
        self._scope.secrets.look()
        self._refused = ("", ())  # what was refused for want of a secret, or by a local setting, may fit now
        scope = self._scope.at(now)
        if scope is not self._scope:
            log.warning("the time of the local settings is over: %s", ", ".join(self._scope.local))
            self._scope, self._hold = scope, Hold("", self._trusted.ref)
        if self._snapshot is None or self._in_use is None:
            return
        try:
            good = resume(self._objects, self._trusted, self._in_use)
            snapshot = load(good, self._objects, self._scope, before=self._snapshot)
            if snapshot.config != self._snapshot.config or snapshot.flags != self._snapshot.flags:
                self._prepare(self._snapshot, snapshot)
                self._swap(snapshot)
            self._snapshot = snapshot
            self._renew_note, self._renew_again = "", False
        except (LivecfgError, ValueError) as error:
            self._renew_again = not isinstance(error, RefusedError)
            self._renew_note = f"serves local settings or secrets that changed since: {printable(str(error))}"
            log.warning("%s", self._renew_note)

    def _wanted(self, walk: Verification) -> tuple[VerifiedCommit, Good] | None:
        """What the walk found, else the last good commit where it is not in use: it waited, or its objects were missing."""
        if walk.good is not None and walk.trusted.good is not None:
            return walk.good, walk.trusted.good
        good = self._trusted.good
        if good is None:
            return None
        if held := self._held_back(good):
            return held
        if self._snapshot is not None and self._snapshot.revision.position >= good.position:
            return None
        try:
            return resume(self._objects, self._trusted), good
        except ValueError as error:
            raise FetchError(str(error)) from error

    def _held_back(self, good: Good) -> tuple[VerifiedCommit, Good] | None:
        """What LIVECFG_HOLD goes back to where it is older than what was good already; trust stays where it is.

        Raises:
            RefusedError, FetchError: it cannot go back to that.

        """
        held = self._hold.before(self._objects, good.commit)
        if not held or self._scope.process.env in protected_of(self._objects, good.tree).envs:
            return None  # where policy protects, loading anything refuses the hold
        return self._hold.revision(self._objects, self._trusted, held)

    def contains(self, commit: str) -> bool:
        """Tell whether what is applied is this commit (or abbreviation of it) or a descendant of it."""
        return self._snapshot is not None and self._stands_on(commit, self._snapshot.revision.commit)

    def _stands_on(self, commit: str, tip: str) -> bool:
        """Tell whether a commit is in the chain of a tip; what is not here yet is not looked for down to the first."""
        if len(commit) == len(tip) and not self._mirror.holds(commit):
            return False
        return self._ancestry.holds(self._objects, commit, tip)

    def _held(self, candidate: Candidate) -> Candidate:
        """With LIVECFG_HOLD, the held revision in place of the tip; where trust is past it, what is trusted.

        Raises:
            RefusedError: it is not known which revision that is.

        """
        good = self._trusted.good
        if not self._hold.name or (good is not None and not self._stands_on(good.commit, candidate.tip)):
            return candidate  # a rollback is told first
        try:
            held = self._hold.on(self._objects, candidate.tip)
        except RefusedError:
            self._remember()  # other processes of the host are not held, and wait for what was fetched
            raise
        past = good is not None and self._stands_on(held, good.commit)
        return replace(candidate, tip=good.commit if past and good is not None else held)

    def _remember(self) -> None:
        """Persist after the swap: the objects for the host's other processes, then where trust stands."""
        good = self._trusted.good
        try:
            self._mirror.promote()
            if good is not None and (good, self._in_use) != self._remembered:
                state = self._trusted.as_state() | ({"in_use": self._in_use.as_state()} if self._in_use is not None else {})
                self._mirror.save_state(self._state, json.dumps(state).encode(), good.position)
                self._remembered = (good, self._in_use)
        except LivecfgError as error:  # the new revision is in use; only a restart without the remote would miss it
            log.warning("cannot remember the applied revision: %s", error)


AnyReconciler = Reconciler[Any] | TreeReconciler[Any]
