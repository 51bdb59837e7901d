"""Follower: the one background thread of a process. It reconciles, waits, reports, and never stops for good.

It is made anew in a forked child, at the child's first read. One process of a host is the fetcher (a file lock elects it) and
talks to the remote and to the hub; the others follow the same mirror and verify for themselves.
"""

from __future__ import annotations

import inspect
import logging
import os
import random
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from livecfg.errors import FetchError, LivecfgError, RefusedError, ShortageError
from livecfg.forking import is_uwsgi_master
from livecfg.refusal import MOST_FAULTS, Code, Refusal, printable
from livecfg.secrets import holds_secret
from livecfg.snapshot import changed, secrets_of
from livecfg.status import Condition, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.hooks import Hooks, Timing
    from livecfg.link import Link
    from livecfg.reconciler import AnyReconciler
    from livecfg.snapshot import Snapshot

log = logging.getLogger(__name__)

_random = random.SystemRandom()  # for jitter; the seeded random numbers of the application are its own
M = TypeVar("M", bound=BaseModel)
_REPORT_EVERY_S = 10.0
_LOOK_EVERY_S = 1.0
_STREAMING_POLL_S = 300.0


class Follower(Generic[M]):
    """Owns the thread and what it knows: the applied snapshot's times, the last error, refusals."""

    def __init__(
        self, link: Callable[[float], Link], timing: Timing, hooks: Hooks, publish: Callable[[Snapshot[M]], None], source: str
    ) -> None:
        self.pid = os.getpid()
        self.boot = os.urandom(8).hex()
        self._make_link = link
        self._link = link(timing.clock())
        self._timing = timing
        self._hooks = hooks
        self._publish = publish
        self._source = source
        self._reconciler: AnyReconciler | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._attempted = threading.Condition(self._lock)
        self._attempts = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stopped = False
        self._failures = 0
        self._error: LivecfgError | None = None
        self._refusals: tuple[Refusal, ...] = ()
        self._logged: frozenset[Refusal] = frozenset()
        self._snapshot: Snapshot[M] | None = None
        self._applied_at: float | None = None
        self._checked_at: float | None = None
        self._checked_monotonic: float | None = None
        self._started_monotonic = time.monotonic()
        self._preparing_since: float | None = None
        self._reported_monotonic = 0.0

    # --- called by readers --------------------------------------------------------------------------------------------

    def start(self, inherited: Snapshot[M] | None) -> None:
        """Start the thread unless it runs; an inherited snapshot is served until there is a newer one."""
        with self._lock:
            if self._thread is not None or self._stopped:
                return
            self._snapshot = inherited
            self._link.warm()
            if not is_uwsgi_master():
                self._thread = threading.Thread(target=self._run, name="livecfg", daemon=True)
                self._thread.start()

    def _read_once(self) -> None:
        """Read without a thread, in a process that only forks others; nothing stays open, and no error is waited for.

        Raises:
            FetchError, RefusedError, LivecfgError: why there is no snapshot.

        """
        self._link.is_brief = True
        self._attempt()
        self._link.close()
        self._reconciler = None
        if self._snapshot is None:
            raise self._error or FetchError(f"no revision from {self._source}")

    def wait_first(self, timeout_s: float) -> None:
        """Wait until a snapshot is there, or an attempt that began after this call has failed.

        Raises:
            FetchError, RefusedError, LivecfgError: why there is none.

        """
        if is_uwsgi_master():
            self._read_once()
            return
        deadline = time.monotonic() + timeout_s
        with self._attempted:
            tried = self._attempts
            if self._error is not None:  # an earlier attempt failed: try again now
                self._error = None
                self._wake.set()
            while self._snapshot is None and not self._stopped:
                left = deadline - time.monotonic()
                if error := self._final_error(tried, left):
                    raise error
                if left <= 0:
                    nothing = FetchError(f"no revision within {timeout_s:g} s from {self._source}")
                    raise RefusedError(*self._refusals) if self._refusals else nothing
                self._attempted.wait(left)

    def _final_error(self, tried: int, left_s: float) -> LivecfgError | None:
        """A refused connection may answer soon, and the host's fetcher may be at it; a refused revision will not change."""
        error = self._error if self._attempts > tried else None
        may_help = isinstance(error, FetchError) and (self._failures < 3 or not self._link.is_fetcher)
        return error if left_s <= 0 or not may_help else None

    def wait_for(self, commit: str, timeout_s: float) -> None:
        """Wait until `commit` or a descendant is applied.

        Raises:
            TimeoutError: it was not, in time.

        """
        deadline = time.monotonic() + timeout_s
        with self._attempted:
            while not (self._reconciler is not None and self._snapshot is not None and self._contains(commit)):
                left = deadline - time.monotonic()
                if left <= 0 or self._stopped:
                    why = self.status().reason or "no reason known"
                    raise TimeoutError(f"{commit} was not applied within {timeout_s:g} s; {why}")
                self._attempted.wait(min(left, 1.0))

    def _contains(self, commit: str) -> bool:
        try:
            return self._reconciler is not None and self._reconciler.contains(commit)
        except LivecfgError:  # an object is being fetched or replaced: look again after the next attempt
            return False

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread and the stream, the last report flushed; within `timeout_s` unless a hook is running."""
        self._stopped = True
        self._stopping.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and self.pid == os.getpid():
            thread.join(timeout_s)

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self._link.abandon()

    def status(self) -> Status:
        """Say what is served and how it goes; never blocks."""
        condition, reason = self._condition()
        snapshot, reconciler = self._snapshot, self._reconciler
        return Status(
            condition=condition,
            reason=reason,
            applied=snapshot.revision if snapshot is not None else None,
            desired=reconciler.desired if reconciler is not None else None,
            applied_at=self._applied_at,
            checked_at=self._checked_at,
            refusals=self._refusals,
            overrides=reconciler.overrides if reconciler is not None else (),
            drift=self._drift(),
            source=self._source,
            fetcher=self._link.is_fetcher,
            hub=self._link.hub_state,
        )

    def _drift(self) -> tuple[str, ...]:
        """What differs from the desired state, what it waits for, and what the heartbeats show."""
        reconciler, snapshot = self._reconciler, self._snapshot
        if reconciler is None or snapshot is None:
            return ()
        notes = (*reconciler.notes, *map(printable, self._link.notes))
        if reconciler.desired is None or not self._is_behind():
            return notes
        return (f"serves {snapshot.revision.short}, desired is {reconciler.desired.short}", *notes)

    def _is_behind(self) -> bool:
        desired = self._reconciler.desired if self._reconciler is not None else None
        return self._snapshot is not None and desired is not None and desired.commit != self._snapshot.revision.commit

    def _condition(self) -> tuple[Condition, str]:
        if self._stopped:
            return Condition.STOPPED, "stopped"
        preparing, slow = self._preparing_since, ""
        if preparing is not None and (ran := time.monotonic() - preparing) > self._timing.prepare_timeout_s:
            slow = f"prepare has run for {ran:.0f} s"
        if self._snapshot is None:
            return Condition.STARTING, slow or (str(self._error) if self._error else "waiting for the first revision")
        if isinstance(self._error, RefusedError):
            return Condition.REFUSED, str(self._error.refusals[-1] if self._error.refusals else self._error)
        if self._refusals and self._is_behind():
            return Condition.REFUSED, str(self._refusals[-1])
        if stale := self._staleness():
            return Condition.STALE, stale
        return Condition.READY, slow or (f"retrying: {printable(str(self._error))}" if self._error else "")

    def _staleness(self) -> str:
        """Say why what is served cannot be called fresh: the source does not answer, or the heartbeats are old."""
        since = self._checked_monotonic if self._checked_monotonic is not None else self._started_monotonic
        age_s = time.monotonic() - since
        if age_s > self._timing.max_staleness_s:
            why = f": {printable(str(self._error))}" if self._error else ""
            return f"no answer from {self._source} for {age_s:.0f} s{why}"
        return self._reconciler.stale(self._timing.clock()) if self._reconciler is not None else ""

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                self._attempt()
                self._report()
                self._wait()
        finally:
            self._stopped = True
            self._report()
            self._link.close()
            with self._attempted:
                self._attempted.notify_all()

    def _attempt(self) -> None:
        """One round. Whatever goes wrong is kept for status and the next read; nothing ends the thread."""
        error: LivecfgError | None = None
        try:
            self._round()
        except RefusedError as refused:
            error = refused
            self._refusals = refused.refusals[-MOST_FAULTS:]
            self._checked()
        except LivecfgError as failed:
            error = failed
            log.debug("round failed: %s", failed)
        except Exception as unexpected:  # a fault of ours or of a library must not end live configuration for good
            log.exception("unexpected error while reconciling")
            error = FetchError(f"internal error: {type(unexpected).__name__}; the log of this process tells more")
        self._log_new_refusals()
        with self._attempted:
            self._failures = self._failures + 1 if error is not None and not isinstance(error, RefusedError) else 0
            if self._failures == 1:
                log.warning("cannot reconcile: %s", error)
            self._error = error
            self._attempts += 1
            self._attempted.notify_all()

    def _round(self) -> None:
        if self._timing.clock() >= self._link.ends_at:  # what is served stays until the source's own ref gives a revision
            log.warning("the time of the local settings is over, LIVECFG_REF among them: following %s", self._source)
            self._link.close()
            self._link, self._reconciler = self._make_link(self._timing.clock()), None
        if self._reconciler is None:
            reconciler = self._link.open(self._wake.set)
            reconciler.inherit(self._snapshot)
            self._reconciler = reconciler
            try:
                if reconciler.resume():
                    with self._attempted:
                        self._attempted.notify_all()
            except ShortageError:
                self._reconciler = None  # rollback attack: nothing is taken before what was applied last is known
                raise
            except RefusedError as error:  # the model changed with a release: the tip may fit
                log.warning("the remembered revision is refused: %s", error)
        else:
            self._link.elect()  # the end of the fetcher may be what woke this process
        self._refusals = self._reconciler.reconcile(self._timing.clock())[-MOST_FAULTS:]  # the newest
        self._checked()

    def _checked(self) -> None:
        """Keep when the source last answered: this process, or for one that does not fetch, the one that does."""
        now_s = time.monotonic()
        if self._link.asks:
            self._link.answered(now_s)
            answered_s: float | None = now_s
        else:
            answered_s = self._link.answered_at()
        if answered_s is not None and answered_s <= now_s:
            self._checked_at = time.time() - (now_s - answered_s)
            self._checked_monotonic = answered_s

    def prepare(self, old: Snapshot[M] | None, new: Snapshot[M]) -> None:
        """Run the application's prepare hooks; an exception of theirs refuses the revision."""
        self._preparing_since = time.monotonic()
        try:
            for hook in self._hooks.prepare:
                try:
                    hook(old, new)
                except Exception as error:
                    name = getattr(hook, "__qualname__", "prepare")
                    show, kind = not holds_secret(traceback.format_exc(), secrets_of(old, new)), type(error).__name__
                    log.warning("prepare hook %s refused %s: %s", name, new.revision.short, kind, exc_info=show)
                    message = f"{name} refused it: {kind}"  # its text may hold values, and this one travels
                    advice = "the log of this process tells more; mend the revision or the hook; the last good revision stays"
                    refusal = Refusal(Code.PREPARE_VETO, message, commit=new.revision.commit, rule=name, advice=advice)
                    raise RefusedError(refusal) from error
        finally:
            self._preparing_since = None

    def swap(self, new: Snapshot[M]) -> None:
        """Publish: one attribute store; then run the application's callbacks."""
        old = self._snapshot
        self._publish(new)
        with self._attempted:
            self._snapshot = new
            self._applied_at = time.time()
            self._error = None
            self._attempted.notify_all()
        log.info("applied %s (was %s)", new.revision, old.revision if old is not None else "nothing")
        if old is not None:
            for keys, callback in tuple(self._hooks.on_change):
                if not keys or changed(old, new, keys):
                    self._call(callback, old, new)

    def _call(self, callback: Callable[[Any, Any], Any], old: Snapshot[M], new: Snapshot[M]) -> None:
        name = getattr(callback, "__qualname__", "on_change")
        try:
            result = callback(old, new)
            if inspect.iscoroutine(result):
                import asyncio  # noqa: PLC0415 - 40 ms that an application without asyncio does not pay

                loop = self._hooks.loop
                if loop is None or loop.is_closed():
                    result.close()
                    log.error("on_change callback %s is async, but no event loop runs it: use `async with live`", name)
                    return
                asyncio.run_coroutine_threadsafe(result, loop).result(self._timing.prepare_timeout_s)
        except Exception as error:  # what a callback raises is reported, no more
            show = not holds_secret(traceback.format_exc(), secrets_of(old, new))
            log.error("on_change callback %s failed: %s", name, type(error).__name__, exc_info=show)  # noqa: TRY400 - as said

    def _log_new_refusals(self) -> None:
        for refusal in self._refusals:
            if refusal not in self._logged:
                log.warning("refused %s: %s", refusal.commit[:10], refusal)
        self._logged = frozenset(self._refusals)

    def _wait(self) -> None:
        """Sleep until woken, until the next poll is due, or until there is something for the fetcher to do, or to become."""
        began, jitter = min(time.monotonic(), self._link.asked_s()), _random.random()
        streamed = False
        while not self._stopping.is_set():
            streams = self._link.hub_state == "streaming"
            if streamed and not streams:  # a whole fleet sees it: ask spread over the interval
                began = time.monotonic() - self._delay_s(jitter) * _random.random()
            streamed = streams
            left = began + self._delay_s(jitter) - time.monotonic()  # anew: a stream that ends brings the next poll forward
            if left <= 0 or self._wake.wait(min(left, _LOOK_EVERY_S)):
                return
            if self._reconciler is not None and self._reconciler.is_due(self._timing.clock()):
                return
            if self._link.is_fetcher:
                if self._link.is_damaged():
                    return
                self._report(_REPORT_EVERY_S)
            elif self._link.elect():
                log.info("this process fetches for the host now")
                return
            else:
                self._report()

    def _delay_s(self, jitter: float) -> float:
        poll_s = min(self._timing.poll_interval_s, self._link.poll_most_s, max(1.0, self._timing.max_staleness_s / 2))
        if self._failures:
            return min(poll_s, 0.5 * 2.0 ** min(self._failures - 1, 10)) * (0.5 + 0.5 * jitter)
        if self._link.hub_state == "streaming":
            poll_s = max(poll_s, min(_STREAMING_POLL_S, self._timing.max_staleness_s / 2))  # the heartbeats come by polling
        return poll_s * (0.8 + 0.4 * jitter)

    def _report(self, every_s: float = 0.0) -> None:
        self._hooks.beat()
        if time.monotonic() - self._reported_monotonic < every_s:
            return
        self._reported_monotonic = time.monotonic()
        try:
            self._link.report(self.status(), self.boot)
        except Exception:  # reporting never stops the thread
            log.exception("cannot report")
