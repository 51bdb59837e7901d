"""LiveConfig: what an application holds.

Reads take no lock and never wait once there is a snapshot. After a fork nothing needs to be called: the at-fork hook only
marks, and the next read in the child serves the inherited snapshot and starts a thread of its own.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import time
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pydantic import BaseModel

from livecfg.environment import instance_name, read_environment
from livecfg.errors import LivecfgError
from livecfg.flagset import FlagSet
from livecfg.flagset import declared as declarations
from livecfg.follower import Follower
from livecfg.forking import at_fork, join_uwsgi
from livecfg.hooks import Hooks, Timing
from livecfg.resolver import SecretResolver, SecretSources
from livecfg.revision import Revision
from livecfg.signals import Signals
from livecfg.snapshot import FlagAccessor, Snapshot, SplitAccessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from livecfg.exposures import Exposure
    from livecfg.git.source import GitSource, UnsafeNoVerification
    from livecfg.status import Status

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")
S = TypeVar("S", bound="FlagSet")
F = TypeVar("F", bound="Callable[..., Any]")
Sink = TypeVar("Sink", bound="Callable[[Sequence[Exposure]], None]")

_all: weakref.WeakSet[LiveConfig[Any]] = weakref.WeakSet()


def _mark_forked() -> None:
    """Mark every LiveConfig of a forked child, and let it count from zero; no more: uvloop runs such hooks for subprocesses."""
    for live in _all:
        live._newest = None  # noqa: SLF001 - the same module
        live._signals.reset()  # noqa: SLF001 - as above


at_fork(_mark_forked)


class LiveConfig(Generic[M]):
    """The application's configuration, kept at the newest revision that policy allows and the model accepts.

    Constructing does no I/O and reads no environment. `source` is a GitSource, or UnsafeNoVerification for a working tree in
    development. `trusted_root` is the file that `livecfg init` or `livecfg root export` wrote, as a path or as bytes; it ships
    with the application. `service`, `env`, `region`, `labels`, `instance`, `hub` come from `LIVECFG_…` where they are not given.
    `poll_interval_s` is how often the remote is asked (with jitter) when no hub pushes; after `max_staleness_s` without an answer
    `status` says STALE; where the policy names a `timestamp` role, also when its heartbeats are older than that. With
    `strict_heartbeat` nothing is applied beyond what the newest heartbeat attests. `secrets` bounds what `!secret` references may
    name: by default any environment variable, and files below /run/secrets.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments are the settings
        self,
        model: type[M],
        *,
        source: GitSource | UnsafeNoVerification,
        trusted_root: Path | bytes | None = None,
        service: str = "",
        env: str = "",
        region: str = "",
        instance: str = "",
        labels: Mapping[str, str] | None = None,
        hub: str = "",
        home: Path | None = None,
        poll_interval_s: float = 30.0,
        start_timeout_s: float = 30.0,
        prepare_timeout_s: float = 30.0,
        max_staleness_s: float = 600.0,
        strict_heartbeat: bool = False,
        secrets: SecretSources | None = None,
    ) -> None:
        self._model = model
        self._source = source
        self._trusted_root = trusted_root
        self._names = {"service": service, "env": env, "region": region, "instance": instance}
        self._labels = dict(labels or {})
        self._hub = hub
        self._home = home
        self._timing = Timing(poll_interval_s, start_timeout_s, prepare_timeout_s, max_staleness_s)
        self._strict_heartbeat = strict_heartbeat
        self._secrets = SecretResolver(secrets or SecretSources(), os.environ)
        self._hooks = Hooks()
        self._splits: dict[str, type[BaseModel]] = {}
        self._flags: dict[str, object] = {}
        self._signals = Signals()
        self._hooks.beats.append(self._signals.exposures.deliver)
        self._followers: dict[int, Follower[M]] = {}  # by process id: a forked child makes its own
        self._newest: Snapshot[M] | None = None  # None sends the next read to `_first`
        self._applied: Snapshot[M] | None = None  # survives a fork
        self._pinned: ContextVar[Snapshot[M]] = ContextVar("livecfg pinned snapshot")
        _all.add(self)

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Snapshot[M]:
        """The newest applied Snapshot, or the one pinned in this context.

        The first read starts the background thread; it returns from the mirror at once, else waits for the remote for up
        to `start_timeout_s`. Later reads never wait, lock or raise. In a forked child the first read serves the inherited
        snapshot and starts the child's thread.

        Raises:
            FetchError: there is no revision yet and the remote did not give one in time; the next read tries again.
            RefusedError: there is no revision yet and the newest one is refused; the next read tries again.
            LivecfgError: the set-up is wrong (trusted root, names).

        """
        return self._pinned.get(self._newest) or self._first()  # None falls through to _first

    def _first(self) -> Snapshot[M]:
        follower = self._follower()
        follower.start(self._applied)
        if self._applied is None:
            follower.wait_first(self._timing.start_timeout_s)
        elif self._newest is None:
            self._newest = self._applied
        applied = self._applied
        if applied is None:
            raise LivecfgError("stopped before there was a first revision")
        return applied

    def _follower(self) -> Follower[M]:
        pid = os.getpid()
        follower = self._followers.get(pid)
        if follower is None:
            for other in tuple(self._followers.values()):
                other.abandon()
            join_uwsgi()
            made = self._make_follower()
            follower = self._followers.setdefault(pid, made)  # of several racing first reads, one wins
        return follower

    def _publish(self, snapshot: Snapshot[M]) -> None:
        self._applied = snapshot
        self._newest = snapshot  # the swap: one attribute store

    @contextmanager
    def pin(self) -> Iterator[Snapshot[M]]:
        """Make every `current` of this context one snapshot, for the time of the block."""
        snapshot = self.current
        token = self._pinned.set(snapshot)
        try:
            yield snapshot
        finally:
            self._pinned.reset(token)

    @property
    def status(self) -> Status:
        """What is served, what is desired, what was refused and why; never blocks."""
        follower = self._followers.get(os.getpid())
        if follower is None:
            from livecfg.status import Condition, Status  # noqa: PLC0415 - status is no hot path

            applied = self._applied.revision if self._applied is not None else None
            return Status(Condition.STARTING, reason="not read yet", applied=applied, source=str(self._source))
        return follower.status()

    def observe(self, metric: str, value: float = 1) -> None:
        """Record one value for gates, without a unit, under the applied revision; nothing happens before the first read."""
        snapshot = self._applied
        if snapshot is not None:
            self._signals.observe(metric, value, snapshot.revision)

    # --- declarations -------------------------------------------------------------------------------------------------

    def flag(self, key: str, default: T) -> FlagAccessor[T]:
        """Declare a flag: every load checks that it exists with variants of `default`'s type; `accessor(view)` reads it.

        Raises:
            LivecfgError: after the first read.

        """
        self._declare(key, default)
        return FlagAccessor(key, default)

    def flags(self, declared: type[S]) -> type[S]:
        """Declare all flags of a FlagSet, as a decorator of the class: every load checks them; `Flags(view)` reads them.

        Raises:
            LivecfgError: after the first read; a flag that was declared with another type.

        """
        for key, flag in declarations(declared).items():
            self._declare(key, flag.default)
        return declared

    def _declare(self, key: str, default: object) -> None:
        self._check_not_started("flag", key)
        known = self._flags.setdefault(key, default)
        if type(known) is not type(default):
            kinds = f"{type(known).__name__} and as {type(default).__name__}"
            raise LivecfgError(f"the flag {key!r} is declared as {kinds}; a flag has one type")

    def split(self, name: str, model: type[A]) -> SplitAccessor[A]:
        """Declare a split: every load checks that it exists and that every arm fits `model`; `accessor(view)` gives the Arm.

        Raises:
            LivecfgError: after the first read.

        """
        self._check_not_started("split", name)
        self._splits[name] = model
        return SplitAccessor(name, model)

    def prepare(self, hook: F) -> F:
        """Register `(old: Snapshot or None, new: Snapshot) -> None`, called on livecfg's thread before every swap, the first too.

        Any exception refuses the revision in this process; the last good one stays. Use the arguments, not `current`.
        """
        self._hooks.prepare.append(hook)
        return hook

    def on_change(self, *keys: str) -> Callable[[F], F]:
        """Register `(old, new: Snapshot) -> None`, called after the swap on livecfg's thread, one at a time, in order.

        With keys (dotted config keys, flags, splits): only when one of them changed. An async callback runs on the loop of
        `async with live`. What a callback raises is logged, no more.

        Raises:
            LivecfgError: an async callback, once livecfg was started without a loop.

        """

        def register(callback: F) -> F:
            if inspect.iscoroutinefunction(callback) and self._hooks.loop is None and os.getpid() in self._followers:
                raise LivecfgError("an async on_change callback needs the event loop of `async with live`")
            self._hooks.on_change.append((keys, callback))
            return callback

        return register

    def on_exposure(self, sink: Sink) -> Sink:
        """Register `(exposures: Sequence[Exposure]) -> None`, called about once a second on livecfg's thread with what is new.

        A unit is told once per arm and revision. `livecfg.sinks` has a file of JSON lines and OpenTelemetry events. What a sink
        raises is logged, no more.
        """
        self._signals.exposures.sinks.append(sink)
        return sink

    def _check_not_started(self, what: str, name: str) -> None:
        if self._followers:
            raise LivecfgError(f"declare the {what} {name!r} before the first read of {self!r}, so that every load checks it")

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Wait for the first revision now rather than at the first read; raises what `current` raises."""
        _ = self.current
        return self

    def stop(self) -> None:
        """End the background thread and the stream, the last report flushed. The last snapshot stays readable."""
        follower = self._followers.get(os.getpid())
        if follower is not None:
            follower.stop()

    def wait_for(self, revision: str | Revision, timeout_s: float = 30.0) -> Snapshot[M]:
        """Block until that revision (a commit id, at least 7 digits of it, or a Revision) or a descendant is applied.

        Raises:
            TimeoutError: it was not, in time.

        """
        commit = revision.commit if isinstance(revision, Revision) else revision.rpartition(":")[2]
        deadline = time.monotonic() + timeout_s
        self._first()
        self._follower().wait_for(commit, deadline - time.monotonic())
        assert self._applied is not None  # noqa: S101 - wait_for returned
        return self._applied

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 - 40 ms that an application without asyncio does not pay

        loop = asyncio.get_running_loop()
        self._hooks.loop = loop
        await loop.run_in_executor(None, self.start)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import asyncio  # noqa: PLC0415 - as above

        self._hooks.loop = None
        await asyncio.get_running_loop().run_in_executor(None, self.stop)

    # --- set-up -------------------------------------------------------------------------------------------------------

    def _make_follower(self) -> Follower[M]:
        """Read the environment and make this process's follower; no I/O yet.

        Raises:
            LivecfgError: what is missing or malformed.

        """
        from livecfg.layers import Process  # noqa: PLC0415 - its models cost 15 ms
        from livecfg.uplink import SetUp, make_link  # noqa: PLC0415 - dulwich and cryptography come with the first read

        asynchronous = any(inspect.iscoroutinefunction(callback) for _, callback in self._hooks.on_change)
        if asynchronous and self._hooks.loop is None:
            raise LivecfgError("an async on_change callback needs the event loop of `async with live`")
        environment = read_environment(os.environ)
        home = self._home or environment.home
        try:
            process = Process(
                service=self._names["service"] or environment.service,
                env=self._names["env"] or environment.env,
                region=self._names["region"] or environment.region,
                instance=self._names["instance"] or environment.instance or instance_name(home),
                labels=self._labels or environment.labels,
            )
        except ValueError as error:
            raise LivecfgError(f"{error}; give it to LiveConfig or set LIVECFG_SERVICE, LIVECFG_ENV, …") from None
        set_up = SetUp(
            model=self._model,
            source=self._source,
            trusted_root=self._trusted_root,
            process=process,
            environment=environment,
            home=home,
            hub=self._hub or environment.hub,
            splits=dict(self._splits),
            flags=dict(self._flags),
            signals=self._signals,
            secrets=self._secrets,
            prepare=lambda old, new: follower.prepare(old, new),  # noqa: PLW0108 - made below
            swap=lambda new: follower.swap(new),  # noqa: PLW0108 - made below
            max_staleness_s=self._timing.max_staleness_s,
            strict_heartbeat=self._strict_heartbeat,
        )
        follower: Follower[M] = Follower(
            lambda now: make_link(set_up, now), self._timing, self._hooks, self._publish, str(self._source)
        )
        atexit.register(_stop_at_exit, weakref.ref(follower))
        return follower

    def __repr__(self) -> str:
        return f"LiveConfig({self._model.__name__}, source={self._source!s})"


def _stop_at_exit(reference: weakref.ref[Follower[Any]]) -> None:
    follower = reference()
    if follower is not None and follower.pid == os.getpid():
        follower.stop()
