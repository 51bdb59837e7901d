"""HubLink: the application's side of the hub stream. Offers in, the newest report out; never blocks, never raises.

Only the host's fetcher opens one, after its first read, from a thread of its own, with the synchronous grpc API: grpc.aio in an
application process does not survive a fork. A forked child never touches its parent's link.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.hub import wire
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from livecfg.hub._pb import hub_pb2
    from livecfg.hub.report import Told

log = logging.getLogger(__name__)

_random = random.SystemRandom()  # for jitter; the seeded random numbers of the application are its own

_BACKOFF_S = (0.2, 3.0)
_ACKNOWLEDGE_S = 5.0
_TELL_ALL_S = 600.0
_MESSAGES_PER_S, _BURST_S = 50.0, 10.0
"""What a hub may send: so many on average, and what it did not send in so long at once."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client shows and whom it believes: PEM files of authorities, of its certificate and key; a bearer token."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    token: str = field(default="", repr=False)

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Give authorities, key and certificate, as grpc wants them; read anew for each channel."""
        roots, key, certificate = (Path(p).read_bytes() if p else None for p in (self.ca, self.key, self.certificate))
        return roots, key, certificate

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


class HubLink:
    """Follows a hub at `host:port` until `close`; reconnects by itself.

    `have` gives the commit id of the mirror's tip; `offer(tip, pack)` is called on the link's thread with what the hub offers,
    the pack empty when the objects must be had elsewhere, `attest(statement)` with each signed heartbeat. Beyond loopback the
    connection is TLS, checked against the authorities of `identity` or the system's.
    """

    def __init__(  # noqa: PLR0913 - what it follows, whom it tells, who it is
        self,
        address: str,
        *,
        repo_id: str,
        ref: str,
        have: Callable[[], str],
        offer: Callable[[str, bytes], None],
        attest: Callable[[bytes], None] = lambda _: None,
        identity: Identity | None = None,
    ) -> None:
        self.state = "connecting"
        """`connecting`, `streaming` or `closed`."""
        self.shows = ""
        """The tip the hub shows; empty while there is no stream."""
        self._address = address
        self._hello = {"repo_id": repo_id, "ref": ref}
        self._have = have
        self._offer = offer
        self._attest = attest
        self._identity = identity or Identity()
        self._slot = threading.Condition()
        self._report: hub_pb2.Report | None = None  # the newest, not yet sent
        self._last: hub_pb2.Report | None = None  # without counts; sent again after a reconnect
        self._told: Told | None = None
        self._telling: Told | None = None
        """What the hub knows of the counts, on this stream, and will when it has the newest report."""
        self._is_behind = True
        """Whether there are counts that it does not know, in reports that stand as they were when they were read last."""
        self._streams = 0
        self._leaves_out = False
        self._tell_all_at = 0.0
        self._acknowledge = False
        self._due = False
        self._closed = threading.Event()
        self._call: Any = None
        self._failures = 0
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="livecfg-hub", daemon=True)
        self._thread.start()

    def report(self, of_host: Callable[[bool], list[dict[str, Any]]]) -> None:
        """Put the newest report of the host into the slot; an older one that was not sent yet is dropped.

        `of_host` gives the reports of its processes, those that stand as they did before without their counts unless it is
        asked for the whole. All counts are told on each new stream, and from time to time: a hub may have had no room for some.
        """
        from livecfg.hub.report import to_report  # noqa: PLC0415 - protobuf comes with the first report

        with self._slot:
            if time.monotonic() >= self._tell_all_at:
                self._tell_all_at = time.monotonic() + _TELL_ALL_S * _random.uniform(0.5, 1.5)
                self._told, self._is_behind = None, True
            stream, told, whole = self._streams, self._told, self._is_behind or self._report is not None
            self._is_behind = True  # until the counts that are read now are in a report
        report, telling = to_report(of_host(whole), told)
        if telling.left_out and not self._leaves_out:
            log.warning("the hub does not hear of %d processes of this host: a report has no room for more", telling.left_out)
        self._leaves_out = telling.left_out > 0
        known = type(report)(processes=report.processes)
        with self._slot:
            is_same = stream == self._streams
            self._is_behind = not telling.is_all or not is_same
            if report.counts or known != self._last:
                self._report, self._last, self._telling = report, known, telling if is_same else None
            self._due = self._report is not None or self._acknowledge
            self._slot.notify()

    def close(self) -> None:
        """End the stream, the last report flushed; within a second."""
        if self._pid != os.getpid():
            return  # a forked child: the thread and the channel are its parent's
        with self._slot:
            self._closed.set()
            self._slot.notify()
        self._thread.join(0.5)
        call = self._call
        if call is not None:
            call.cancel()
        self._thread.join(0.4)
        self.state = "closed"

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import grpc  # noqa: PLC0415 - 75 ms and 22 MiB, only with a hub

        while not self._closed.is_set():
            try:
                with open_channel(self._address, self._identity) as channel:
                    self._stream(channel)
            except grpc.RpcError as error:
                log.debug("hub %s: %s", self._address, _code(error))
            except Exception:  # the hub is optional: nothing it does may end the process's configuration
                log.exception("hub link failed")
            self._call = None
            self.state, self.shows = "connecting", ""
            self._failures += 1
            low, high = _BACKOFF_S
            self._closed.wait(_random.uniform(0, min(high, low * 2.0 ** min(self._failures, 10))))

    def _stream(self, channel: grpc.Channel) -> None:
        from livecfg.hub._pb import hub_pb2  # noqa: PLC0415 - as above

        metadata = self._identity.metadata
        follow = channel.stream_stream(
            f"/{wire.SERVICE}/Follow",
            request_serializer=hub_pb2.FromHost.SerializeToString,
            response_deserializer=hub_pb2.Offer.FromString,
        )
        ended = threading.Event()
        self._call = call = follow(self._requests(ended), metadata=metadata, wait_for_ready=True)
        due_s = time.monotonic() - _BURST_S
        try:
            for offer in call:
                due_s = max(due_s, time.monotonic() - _BURST_S) + 1 / _MESSAGES_PER_S
                self._closed.wait(due_s - time.monotonic())  # whoever sends more waits, by the flow control of the stream
                if self.state != "streaming":
                    self.state, self._failures = "streaming", 0
                    log.info("following the hub at %s", self._address)
                self.shows = offer.tip[:64] or self.shows  # an older hub names none in its heartbeats
                if not offer.heartbeat:
                    self._take(offer, channel)
                elif offer.statement:
                    self._attest(offer.statement)
        finally:
            ended.set()
            with self._slot:
                self._slot.notify_all()

    def _requests(self, ended: threading.Event) -> Iterator[hub_pb2.FromHost]:
        """What the host sends: hello, then the newest report, and what it has after each offer."""
        from livecfg.hub._pb import hub_pb2  # noqa: PLC0415 - as above

        with self._slot:
            self._streams += 1
            self._told, self._telling, self._is_behind = None, None, True
            if self._last is not None:
                self._report = self._last
        hello = hub_pb2.Hello(protocol=wire.PROTOCOL, have=self._have(), host=socket.gethostname(), **self._hello)
        yield hub_pb2.FromHost(hello=hello)
        while not ended.is_set():
            with self._slot:
                if not self._due and not ended.is_set() and not self._closed.is_set():
                    self._slot.wait(_ACKNOWLEDGE_S)
                self._due = False
                report, self._report = self._report, None
                if report is not None:
                    self._told = self._telling
                acknowledge, self._acknowledge = self._acknowledge, False
            if report is not None:
                yield hub_pb2.FromHost(report=report)
            if acknowledge:
                yield hub_pb2.FromHost(have=hub_pb2.Have(commit=self._have()))
            if self._closed.is_set():
                return  # half-close: the hub ends its side

    def _take(self, offer: hub_pb2.Offer, channel: grpc.Channel) -> None:
        try:
            pack = offer.pack or self._objects(channel, offer.tip)
            self._offer(offer.tip, pack)
        except LivecfgError as error:
            log.warning("the hub's offer cannot be used: %s", printable(str(error)))
        with self._slot:
            self._acknowledge = True  # sent with the report that follows: sooner, it would compete with the swap for the GIL

    def _objects(self, channel: grpc.Channel, want: str) -> bytes:
        """Ask the hub for a pack that was too large for the offer; empty when it has none, and Git must be asked."""
        import grpc  # noqa: PLC0415 - as above

        from livecfg.hub._pb import hub_pb2  # noqa: PLC0415 - as above

        get = channel.unary_stream(
            f"/{wire.SERVICE}/GetObjects",
            request_serializer=hub_pb2.ObjectsRequest.SerializeToString,
            response_deserializer=hub_pb2.ObjectsPart.FromString,
        )
        metadata = self._identity.metadata
        received = bytearray()
        try:
            for part in get(hub_pb2.ObjectsRequest(have=self._have(), want=want), metadata=metadata, timeout=60):
                received += part.data
                if len(received) > wire.OBJECTS_BYTES:
                    return b""
        except grpc.RpcError as error:
            log.debug("hub %s gave no objects: %s", self._address, _code(error))
            return b""
        return bytes(received)


def open_channel(address: str, identity: Identity) -> grpc.Channel:
    """Open a channel to a hub; beyond loopback, or with an authority to check, it is TLS."""
    import grpc  # noqa: PLC0415 - as above

    if wire.is_loopback(address) and not identity.ca:
        return grpc.insecure_channel(address, options=wire.CLIENT_OPTIONS)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*identity.read()), options=wire.CLIENT_OPTIONS)


def _code(error: grpc.RpcError) -> str:
    """The status of a failed call, in words that hold nothing of the other side's text."""
    code = getattr(error, "code", None)
    return str(code() if callable(code) else type(error).__name__)
