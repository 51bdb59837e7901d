"""Following: the hub's own mirror and walk, on a thread of its own.

A new tip is offered before it is judged and before it is written: applications judge for themselves, and the hub's walk is there
to tell people what they will see.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.git import local
from livecfg.git.mirror import Mirror
from livecfg.git.writeback import WriteBack
from livecfg.hub._pb import hub_pb2
from livecfg.hub.offers import make_offer
from livecfg.hub.places import Places
from livecfg.refusal import MOST_FAULTS
from livecfg.trust.root import TrustedRoot
from livecfg.trust.tree import KeptTrees, SplitObjects
from livecfg.trust.verify import Trusted, Walks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.git.source import GitSource
    from livecfg.hub.beats import Beats
    from livecfg.refusal import Refusal
    from livecfg.revision import Candidate

log = logging.getLogger(__name__)

_random = random.SystemRandom()  # for jitter; the seeded random numbers of the application are its own

_BACKOFF_MOST_S = 60.0


class Following:
    """Follows `source` until `stop`. `offer(tip, have, offer)` and `publish(commit, refusals)` are called on its thread.

    What it does next waits until `offer` returns.
    """

    def __init__(
        self, source: GitSource, home: Path, trusted_root: bytes, poll_interval_s: float, beats: Beats | None = None
    ) -> None:
        self.mirror = Mirror(home, source).open()
        self.root = TrustedRoot.parse(trusted_root, "trusted_root")
        self.answered_at: float | None = None
        """When the remote last answered, by the monotonic clock."""
        self.failures = 0
        self.refusals: tuple[Refusal, ...] = ()
        self.refuses_all = False
        """Whether the walk found no authorised commit at all: most likely the trusted root is of another repository."""
        self.beats = beats
        self._source = source
        self._poll_interval_s = poll_interval_s
        self._disk = WriteBack(self.mirror)
        self._trusted = Trusted.start(self.root, source.ref)
        if kept := self.mirror.load_state("hub"):
            try:
                self._trusted = Trusted.from_state(self.root, source.ref, json.loads(kept))
            except (ValueError, KeyError, TypeError):
                log.warning("the remembered state is of another root: verifying from the anchor")
        self._remembered: object = None
        self._kept = KeptTrees()
        self._walks = Walks()
        self._places = Places(source.ref)
        self._offered = ""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        # A remote that is a folder of this machine; nothing else tells by itself.
        self._watcher = local.watcher(source, self.look) if source.scheme == "file" else None
        self._thread: threading.Thread | None = None

    def start(self, offer: Callable[[str, str, bytes], object], publish: Callable[..., object]) -> None:
        """Begin, on a thread."""
        if self._watcher is not None:
            self._watcher.start()
        self._thread = threading.Thread(target=self._run, args=(offer, publish), name="livecfg-follow", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Somebody says that there may be something new: a hint, no more."""
        self._wake.set()

    def place(self, tip: str, rev: str) -> hub_pb2.Commit:
        """Say where a commit stands on the chain of `tip`; reads much the first time.

        Raises:
            LivecfgError: the mirror cannot be read.

        """
        return self._places.find(self.mirror.objects, tip, self._trusted.good, rev)

    def stop(self) -> None:
        """End within seconds, what was fetched written."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        if self._watcher is not None:
            self._watcher.stop()
        if self.beats is not None:
            self.beats.stop()
        self._disk.close()
        self.mirror.close()

    def _run(self, offer: Callable[[str, str, bytes], object], publish: Callable[..., object]) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._round(offer, publish)
                self.failures = 0
            except LivecfgError as error:
                self.failures += 1
                if self.failures == 1:
                    log.warning("cannot follow: %s", error)
            except Exception:  # a fault of ours must not end the hub
                log.exception("unexpected error while following")
                self.failures += 1
            self._wake.wait(self._delay_s())

    def _delay_s(self) -> float:
        jitter = 0.8 + 0.4 * _random.random()  # several hubs should not ask a remote in step
        return float(min(_BACKOFF_MOST_S, self._poll_interval_s * 2.0 ** min(self.failures, 10)) * jitter)

    def _round(self, offer: Callable[[str, str, bytes], object], publish: Callable[..., object]) -> None:
        candidate = self.mirror.fetch(since=None)
        self.answered_at = time.monotonic()
        if candidate is None:
            raise FetchError("the remote has no such ref yet")
        if candidate.tip != self._offered:
            made = make_offer(self.mirror, self._offered, candidate.tip) if self._offered else b""
            offer(candidate.tip, self._offered, made)
            self._offered = candidate.tip
        objects = SplitObjects(candidate.objects, self._kept)
        publish(self._judge(replace(candidate, objects=objects)), self.refusals)
        self._disk.promote()
        good = self._trusted.good
        if good is not None and self.beats is not None:
            self.beats.look(objects, self.root.repo_id, good, time.time())
        if good is not None and good != self._remembered:
            self._disk.save_state("hub", json.dumps(self._trusted.as_state()).encode(), good.position)
            self._remembered = good

    def _judge(self, candidate: Candidate) -> hub_pb2.Commit:
        """Walk to the tip; give it with its position, -1 when the walk skipped it."""
        good = self._trusted.good
        if good is None or candidate.tip != good.commit:
            try:
                walk = self._walks.verify(candidate, self._trusted, time.time())
                self._trusted, self.refusals = walk.trusted, walk.skipped[-MOST_FAULTS:]
            except RefusedError as error:
                self.refusals = error.refusals[-MOST_FAULTS:]
            good = self._trusted.good
        else:
            self.refusals = ()
        if good is None and not self.refuses_all:
            why = self.refusals[-1] if self.refusals else "none is signed by whom it names"
            log.warning("the hub's trusted root refuses every commit of %s (is it another repository's?): %s", candidate.ref, why)
        self.refuses_all = good is None
        position = good.position if good is not None and good.commit == candidate.tip else -1
        return hub_pb2.Commit(ref=candidate.ref, commit=candidate.tip, position=position)
