"""Beats: signs, with a key of the `timestamp` role, which revision was the newest when the remote last answered.

Each heartbeat goes down the hub's streams, and from time to time to a ref of the remote, for those who have no hub. A hub that
cannot reach the remote attests nothing: its silence is what makes clients say STALE.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError, PushConflictError, RefusedError
from livecfg.git.statement import StatementRef
from livecfg.git.writer import Person
from livecfg.trust.heartbeat import NAMESPACE, REF, beat, read_heartbeat
from livecfg.trust.policy import load_policy
from livecfg.trust.signatures import sign
from livecfg.trust.wire import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.git.source import GitSource
    from livecfg.revision import Objects
    from livecfg.trust.root import Good

log = logging.getLogger(__name__)

PUSH_EVERY_S, PUSH_REST_S = 300.0, 10.0
_WHO = Person("livecfg hub", "heartbeat@livecfg")


def read_signer(path: Path) -> Callable[[bytes], bytes]:
    """Read a private key that has no passphrase; give what signs heartbeats with it.

    Raises:
        LivecfgError: it cannot be read, or is of a kind that cannot sign here.

    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - with a key only
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415 - as above

    try:
        key = load_ssh_private_key(path.read_bytes(), None)
        sign(key, NAMESPACE, b"")
    except OSError as error:
        raise LivecfgError(f"cannot read the heartbeat key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, SignatureError) as error:
        raise LivecfgError(f"{path} is not an OpenSSH private key without a passphrase (ed25519, ECDSA or RSA)") from error
    return lambda line: sign(key, NAMESPACE, line)


class Beats:
    """Heartbeats of one source. `look` is called by whoever follows it; `start` sends what is signed, until `stop`."""

    def __init__(self, source: GitSource, sign: Callable[[bytes], bytes], every_s: float) -> None:
        self.newest_at: float | None = None
        """When the last heartbeat was made, by the monotonic clock."""
        self._source = source
        self._sign = sign
        self._every_s = every_s
        self._send: Callable[[bytes, str], object] = lambda _data, _tip: None
        self._remote = StatementRef(source, REF)
        self._newest, self._seq = ("", b""), 0
        self._complaint = ""
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="livecfg-heartbeats", daemon=True)

    def start(self, send: Callable[[bytes, str], object]) -> None:
        """Begin: `send(heartbeat, tip)` gets each one, on the thread that calls `look`; a thread of its own pushes them."""
        self._send = send
        self._thread.start()

    def stop(self) -> None:
        """End; a push that is going on is waited for no longer than two seconds."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._remote.close()

    def look(self, objects: Objects, repo_id: str, good: Good, now: float) -> None:
        """The remote has just answered, and `good` is the newest authorised revision there: attest it when it is time to.

        Raises:
            FetchError: an object is missing.

        """
        if good.commit == self._newest[0] and self.newest_at is not None and time.monotonic() - self.newest_at < self._every_s:
            return
        self._seq = max(int(now), self._seq + 1)
        ref = self._source.full_ref
        data = beat(repo_id, ref, good, self._seq, now, self._sign)
        try:
            read_heartbeat(data, load_policy(objects, good.tree), ref, now)
        except RefusedError as error:  # clients would refuse it as well
            self._complain(f"{error.refusals[0].message}; `timestamp: [PERSON]` in .livecfg/policy.yaml names whose do")
            return
        self._newest, self.newest_at = (good.commit, data), time.monotonic()
        self._send(data, good.commit)
        self._wake.set()

    def _run(self) -> None:
        pushed, again = "", 0.0
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            tip, data = self._newest
            if self._stopping.is_set() or (tip == pushed and time.monotonic() < again):
                continue
            if self._push(data, len(tip)):
                pushed, again = tip, time.monotonic() + PUSH_EVERY_S
            self._stopping.wait(PUSH_REST_S)

    def _push(self, data: bytes, id_length: int) -> bool:
        try:
            self._remote.read()
            self._remote.publish(data, _WHO, time.time(), id_length)
        except PushConflictError as error:  # another hub's came first: it says the same
            log.debug("%s", error)
            return False
        except LivecfgError as error:
            self._complain(f"cannot push heartbeats to {REF}: {error}")
            return False
        self._complaint = ""
        return True

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s", text)


__all__ = ["PUSH_EVERY_S", "Beats", "read_signer"]
