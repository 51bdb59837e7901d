"""Uplink: joins a process's follower to its mirror, its trust and the hub; the one module that knows them all.

Only the host's fetcher talks to the remote and holds the hub stream. Every process writes a small report of what it serves
beside the mirror; the fetcher sends them all.
"""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from livecfg.errors import FetchError, LivecfgError
from livecfg.git import local
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource, UnsafeNoVerification
from livecfg.git.statement import HostStatement
from livecfg.git.watch import Watcher
from livecfg.git.worktree import WorkingTree
from livecfg.git.writeback import WriteBack
from livecfg.link import Link
from livecfg.reconciler import AnyReconciler, Reconciler
from livecfg.reporting import Reporter, livecfg_version
from livecfg.scope import Scope
from livecfg.treereconciler import TreeReconciler
from livecfg.trust.checkpoint import REF as CHECKPOINT
from livecfg.trust.checkpoint import beginning
from livecfg.trust.heartbeat import REF, Freshness, claimed_tip
from livecfg.trust.root import TrustedRoot
from livecfg.trust.verify import Trusted
from livecfg.warm import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.environment import Environment
    from livecfg.git.treewatch import TreeWatcher
    from livecfg.hub.link import HubLink
    from livecfg.layers import Process
    from livecfg.resolver import SecretResolver
    from livecfg.signals import Signals
    from livecfg.snapshot import Snapshot
    from livecfg.status import Status

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
_SETTLE_S = 0.05


@dataclass(frozen=True, slots=True)
class SetUp(Generic[M]):
    """Everything `make_link` needs: what the application gave, what the environment says, and the follower's two hooks."""

    model: type[M]
    source: GitSource | UnsafeNoVerification
    trusted_root: Path | bytes | None
    process: Process
    environment: Environment
    home: Path
    hub: str
    splits: Mapping[str, type[BaseModel]]
    flags: Mapping[str, object]
    signals: Signals
    secrets: SecretResolver
    prepare: Callable[[Snapshot[M] | None, Snapshot[M]], None]
    swap: Callable[[Snapshot[M]], None]
    max_staleness_s: float = 600.0
    strict_heartbeat: bool = False

    def scope(self) -> Scope[M]:
        """Give what the loader loads and checks for this process."""
        return Scope(
            model=self.model,
            process=self.process,
            recorder=self.signals,
            clock=lambda: int(time.time()),
            splits=self.splits,
            flags=self.flags,
            overrides=self.environment.overrides,
            killed=self.environment.killed,
            local=self.environment.visible,
            local_until=self.environment.until,
            secrets=self.secrets,
        )


def make_link(set_up: SetUp[Any], now: float) -> Link:
    """Choose by the source, and by the local settings that are in force; no I/O yet."""
    set_up = replace(set_up, environment=set_up.environment.at(now))
    if isinstance(set_up.source, UnsafeNoVerification):
        return TreeLink(set_up, set_up.source)
    return MirrorLink(set_up, set_up.source)


def read_trusted_root(trusted_root: Path | bytes | None) -> TrustedRoot:
    """Read and parse the pinned root.

    Raises:
        LivecfgError: none was given, or the file is missing or malformed; with file, line and column.

    """
    if trusted_root is None:
        raise LivecfgError("no trusted root: give LiveConfig the file that `livecfg init` or `livecfg root export` wrote")
    if isinstance(trusted_root, bytes):
        return TrustedRoot.parse(trusted_root, "trusted_root")
    try:
        data = Path(trusted_root).read_bytes()
    except OSError as error:
        raise LivecfgError(f"cannot read the trusted root {trusted_root}: {error.strerror or type(error).__name__}") from error
    return TrustedRoot.parse(data, str(trusted_root))


class TreeLink(Link):
    """A working tree in development: followed by a file watcher, verified by nobody, reported to nobody."""

    poll_most_s = 1.0

    def __init__(self, set_up: SetUp[Any], source: UnsafeNoVerification) -> None:
        self._set_up = set_up
        self._source = source
        self._watcher: TreeWatcher | None = None

    def warm(self) -> None:
        """Import what the thread will use."""
        warm(tree=True)

    def open(self, wake: Callable[[], None]) -> AnyReconciler:
        """Watch the folder and give its reconciler."""
        from livecfg.git.treewatch import TreeWatcher  # noqa: PLC0415 - watchdog, in development only

        log.warning("configuration is read from %s without any verification: for development only", self._source.path)
        if self._watcher is None and not self.is_brief:
            self._watcher = TreeWatcher(self._source.path, wake).start()
        tree = WorkingTree(self._source.path, settle_s=_SETTLE_S)
        return TreeReconciler(tree, self._set_up.scope(), prepare=self._set_up.prepare, swap=self._set_up.swap)

    def close(self) -> None:
        """Stop watching."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()


class MirrorLink(Link):
    """A mirror of a Git remote, with the hub beside it when there is one."""

    def __init__(self, set_up: SetUp[Any], source: GitSource) -> None:
        self._set_up = set_up
        environment = set_up.environment
        self._source = _followed(source, environment.ref)
        if environment.ref and environment.until is not None:
            self.ends_at = environment.until
        self._mirror = Mirror(set_up.home, self._source)
        self._answered = self._mirror.folder / "answered"
        self._disk = WriteBack(self._mirror)
        self._heartbeats = HostStatement(self._mirror.folder, self._source, REF, lambda: self.asks)
        self._checkpoints = HostStatement(self._mirror.folder, self._source, CHECKPOINT, lambda: self.asks)
        self._watchers: tuple[Watcher, ...] = ()
        self._hub: HubLink | None = None
        self._wake: Callable[[], None] = lambda: None
        self._reporter = Reporter(self._mirror.reports, set_up.process, set_up.signals)
        self._attested = ""

    def warm(self) -> None:
        """Import what the thread will use; with a hub grpc too: any process may have to take the stream over."""
        warm(hub=bool(self._set_up.hub), ssh=self._source.scheme == "ssh")
        livecfg_version()  # it imports, too

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of the mirror."""
        return self._disk.notes

    @property
    def is_fetcher(self) -> bool:  # type: ignore[override]  # a plain attribute where there is nothing to elect
        """Whether this process asks the remote for its host."""
        return self._mirror.is_fetcher

    @property
    def asks(self) -> bool:  # type: ignore[override]  # as above
        """Whether this process asks the remote at all: as the fetcher, or in place of one that is stopped."""
        return self._mirror.is_fetcher or self._mirror.is_alone()

    @property
    def hub_state(self) -> str:  # type: ignore[override]  # as above
        """`streaming`, `connecting`, or empty without a hub or in a process that does not fetch."""
        return self._hub.state if self._hub is not None else ""

    def open(self, wake: Callable[[], None]) -> AnyReconciler:
        """Open the mirror, read the pinned root, watch and connect; give the reconciler.

        Raises:
            LivecfgError: the trusted root is missing or malformed.

        """
        self._wake = wake
        root = read_trusted_root(self._set_up.trusted_root)
        process = self._set_up.process
        state = f"{process.service}-{process.env}"
        self._mirror.open()
        if not self._watchers and not self.is_brief:
            self._watchers = self._watch()
        self._connect_hub(root)
        return Reconciler(
            self._disk,
            self._start(root, state),
            self._set_up.scope(),
            state=state,
            prepare=self._set_up.prepare,
            swap=self._set_up.swap,
            hold=self._set_up.environment.hold,
            freshness=Freshness(self._source.full_ref, self._set_up.max_staleness_s, time.time()),
            heartbeats=self._heartbeats.read,
            hub_tip=lambda: self._hub.shows if self._hub is not None else "",
            strict_heartbeat=self._set_up.strict_heartbeat,
        )

    def _start(self, root: TrustedRoot, state: str) -> Trusted:
        """Begin at the pinned root; where there is no last good commit, at a checkpoint that its people signed."""
        if self._mirror.load_state(state) is None:
            root = beginning(root, self._checkpoints.read(), self._source.full_ref, time.time(), log.warning)
            if root.anchor_manifest:
                self._mirror.begin_at(root.anchor_commit)
        return Trusted.start(root, self._source.ref)

    def _watch(self) -> tuple[Watcher, ...]:
        """Watch the mirror, and the ref of a remote that is a folder of this host."""
        folders = [self._mirror.watched] + [self._heartbeats.folder] * self._set_up.strict_heartbeat
        mirror = Watcher(folders, self._mirror_changed, held=self._mirror.election.path).start()
        if self._source.scheme != "file":
            return (mirror,)
        return mirror, local.watcher(self._source, self._remote_changed).start()

    def _mirror_changed(self) -> None:
        """Look at what the fetcher brought. As the fetcher it was this process: every offer would become a question to Git."""
        if not self.is_fetcher:
            self._wake()

    def _remote_changed(self) -> None:
        """Ask a remote of this host at once; whoever only follows the mirror is woken by that."""
        if self.asks:
            self._wake()

    def elect(self) -> bool:
        """Try to become the fetcher; connect to the hub when that works out. Never raises: the next round tries again."""
        try:
            won = self._mirror.elect()
        except FetchError as error:  # no file can be opened just now: the round meets that as well, and says so
            log.debug("no election: %s", error)
            return False
        if won and self._hub is None and self._set_up.hub:
            try:
                self._connect_hub(read_trusted_root(self._set_up.trusted_root))
            except LivecfgError as error:
                log.warning("no stream from the hub, Git is asked alone: %s", error)
        return won

    def is_damaged(self) -> bool:
        """Whether a process of this host complained about the mirror."""
        return self._mirror.is_damaged

    def asked_s(self) -> float:
        """When this process last asked the remote; a process that only follows the mirror asks nobody."""
        return self._mirror.asked_s if self.is_fetcher else math.inf

    def answered(self, at_s: float) -> None:
        """Write the time into a file beside the mirror; where that cannot be, other processes fetch for themselves anyway."""
        with suppress(OSError):
            beside = self._answered.with_suffix(f".{os.getpid()}")
            beside.write_text(f"{at_s:.3f}")
            beside.replace(self._answered)

    def answered_at(self) -> float | None:
        """Read what the fetcher wrote; a time of before a reboot lies in the future, and the follower ignores it."""
        try:
            return float(self._answered.read_text())
        except (OSError, ValueError):
            return None

    # --- the hub ------------------------------------------------------------------------------------------------------

    def _connect_hub(self, root: TrustedRoot) -> None:
        if self._hub is not None or not self._set_up.hub or not self._mirror.is_fetcher or self.is_brief:
            return
        from livecfg.hub.link import HubLink, Identity  # noqa: PLC0415 - grpc only with a hub

        environment = self._set_up.environment
        self._hub = HubLink(
            self._set_up.hub,
            repo_id=root.repo_id,
            ref=self._source.ref,
            have=self._mirror.tip,
            offer=self._offer,
            attest=self._attest,
            identity=Identity(environment.hub_ca, environment.hub_certificate, environment.hub_key, environment.hub_token),
        )

    def _offer(self, tip: str, pack: bytes) -> None:
        """A revision the hub offers: taken into quarantine like anything else that comes from outside; then verified."""
        try:
            if pack:
                self._mirror.accept_pack(pack, tip)
        except LivecfgError as error:
            log.warning("the hub's offer cannot be used (%s): asking the remote", error)
        self._wake()

    def _attest(self, statement: bytes) -> None:
        """A heartbeat from the hub; where something waits for it, what is here is looked at again, and nobody asked."""
        self._heartbeats.put(statement)
        known, self._attested = self._attested, claimed_tip(statement)
        if self._set_up.strict_heartbeat and known != self._attested:
            self._mirror.look_again()
            self._wake()

    # --- reports ------------------------------------------------------------------------------------------------------

    def report(self, status: Status, boot: str) -> None:
        """Write this process's report; as the fetcher send those of the whole host."""
        self._mirror.election.show_life()
        try:
            self._reporter.write(status, boot)
            if self._hub is not None:
                are_sent = self.hub_state == "streaming"
                self._hub.report(lambda whole: self._reporter.of_host(are_sent=are_sent, whole=whole))
            elif self.is_fetcher:
                self._reporter.of_host(are_sent=True, whole=False)  # nobody wants them: what the dead left is removed
        except LivecfgError as error:
            log.debug("cannot report: %s", error)

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close stream, watcher and mirror."""
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        for watcher in self._watchers:
            watcher.stop()
        self._watchers = ()
        self._heartbeats.close()
        self._checkpoints.close()
        self._disk.close()
        self._mirror.close()

    def abandon(self) -> None:
        """In a forked child: close what was inherited of the mirror; the parent's threads and channel do not exist here."""
        self._mirror.abandon()


def _followed(source: GitSource, ref: str) -> GitSource:
    """The source with LIVECFG_REF in place of its ref."""
    return replace(source, ref=ref) if ref else source
