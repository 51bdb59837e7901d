"""What `livecfg hub serve` runs: follow Git, verify like everyone, offer, gather. Owns the event loop.

The hub is optional and trusted by no one: it holds no desired state, and whatever it sends passes the same verification in the
client.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.git.mirror import Mirror
from livecfg.git.watch import Watcher
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.service import HubService
from livecfg.hub.stores import open_store
from livecfg.trust.root import TrustedRoot
from livecfg.trust.verify import Trusted, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.git.source import GitSource
    from livecfg.refusal import Refusal

log = logging.getLogger(__name__)

_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Settings of one hub. `tls_cert`, `tls_key` are PEM files; without them only loopback addresses are accepted."""

    source: GitSource
    trusted_root: bytes
    listen: str
    store: str
    home: Path
    poll_interval_s: float = 2.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token: str = ""


async def serve(settings: HubSettings, ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain; `ready` gets `host:port` once streams are accepted.

    Raises:
        LivecfgError: the address cannot be used, or the trusted root or store is not usable.

    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    follower = HubFollower(settings)
    store = open_store(settings.store)
    service = HubService(follower.mirror, store, follower.root.repo_id, settings.source.ref)
    server = grpc.aio.server(options=wire.SERVER_OPTIONS, interceptors=_interceptors(settings.token))
    server.add_generic_rpc_handlers((service.handler(),))
    port = _bind(server, settings)
    await server.start()
    wake = asyncio.Event()
    watcher = Watcher(follower.watched(), lambda: loop.call_soon_threadsafe(wake.set)).start()
    tasks = [
        asyncio.create_task(_follow(follower, service, wake, settings.poll_interval_s)),
        asyncio.create_task(_flush(service)),
    ]
    ready(f"{settings.listen.rpartition(':')[0]}:{port}")
    try:
        await stop.wait()
    finally:
        log.info("draining")
        service.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(_DRAIN_S)
        await asyncio.to_thread(watcher.stop)
        try:
            service.flush()
        except Exception:  # the store is gone: nothing but history is lost
            log.exception("cannot write the hub's store")
        store.close()
        follower.mirror.close()


def _bind(server: grpc.aio.Server, settings: HubSettings) -> int:
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
            port = server.add_secure_port(settings.listen, grpc.ssl_server_credentials([pair]))
        elif wire.is_loopback(settings.listen):
            log.info("listening on loopback without TLS%s", "" if settings.token else " and without credentials")
            port = server.add_insecure_port(settings.listen)
        else:
            raise LivecfgError(f"{settings.listen} is not loopback: give --tls-cert and --tls-key")
    except (RuntimeError, OSError) as error:
        raise LivecfgError(f"cannot listen on {settings.listen}: {error}") from error
    if not port:
        raise LivecfgError(f"cannot listen on {settings.listen}: the address is in use or not of this machine")
    return port


def _interceptors(token: str) -> list[grpc.aio.ServerInterceptor]:
    return [_BearerToken(token)] if token else []


class _BearerToken(grpc.aio.ServerInterceptor):
    """Lets nobody in without the token; compared in constant time."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

        async def refuse(_request: object, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")

        self._refusal: Any = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Check the metadata before anything else is read."""
        import hmac  # noqa: PLC0415 - only hubs with a token

        given = dict(details.invocation_metadata).get("authorization", "")
        if hmac.compare_digest(given.encode() if isinstance(given, str) else given, self._wanted):
            return await continuation(details)
        return self._refusal


class HubFollower:
    """The hub's own mirror and walk; blocking, called in a worker thread."""

    def __init__(self, settings: HubSettings) -> None:
        self.mirror = Mirror(settings.home, settings.source).open()
        self.root = TrustedRoot.parse(settings.trusted_root, "trusted_root")
        self._source = settings.source
        self._trusted = Trusted.start(self.root, settings.source.ref)
        if kept := self.mirror.load_state("hub"):
            try:
                self._trusted = Trusted.from_state(self.root, settings.source.ref, json.loads(kept))
            except (ValueError, KeyError, TypeError):
                log.warning("the remembered state is of another root: verifying from the anchor")
        self._remembered: object = None
        self.refusals: tuple[Refusal, ...] = ()

    def watched(self) -> list[Path]:
        """Give the refs of a remote that is a folder of this machine; nothing else tells by itself."""
        if self._source.scheme != "file":
            return []
        remote = Path(self._source.url.removeprefix("file://"))
        folders = [f for f in (remote, remote / ".git") if (f / "refs" / "heads").is_dir()]
        return [f / "refs" / "heads" / Path(self._source.ref).parent for f in folders] + folders

    def follow(self, now: float) -> hub_pb2.Commit:
        """Fetch and verify; give the tip.

        Raises:
            FetchError: the remote did not answer.

        """
        good = self._trusted.good
        candidate = self.mirror.fetch(since=None)
        if candidate is None:
            raise FetchError("the remote has no such ref yet")
        if good is None or candidate.tip != good.commit:
            try:
                walk = verify(candidate, self._trusted, now)
                self._trusted, self.refusals = walk.trusted, walk.skipped
            except RefusedError as error:
                self.refusals = error.refusals
            good = self._trusted.good
        else:
            self.refusals = ()
        position = good.position if good is not None and good.commit == candidate.tip else -1
        return hub_pb2.Commit(ref=candidate.ref, commit=candidate.tip, position=position)

    def remember(self) -> None:
        """Persist what was fetched and where trust stands; after the offer went out.

        Raises:
            FetchError: the disk is full or read-only.

        """
        good = self._trusted.good
        self.mirror.promote()
        if good is not None and good != self._remembered:
            self.mirror.save_state("hub", json.dumps(self._trusted.as_state()).encode(), good.position)
            self._remembered = good


async def _follow(follower: HubFollower, service: HubService, wake: asyncio.Event, poll_interval_s: float) -> None:
    failures = 0
    while True:
        wake.clear()
        try:
            tip = await asyncio.to_thread(follower.follow, time.time())
            service.publish(tip, [_refusal(r) for r in follower.refusals])
            failures = 0
            await asyncio.to_thread(follower.remember)
        except LivecfgError as error:
            failures += 1
            if failures == 1:
                log.warning("cannot follow: %s", error)
        except Exception:  # a fault of ours must not end the hub
            log.exception("unexpected error while following")
            failures += 1
        delay_s = min(60.0, poll_interval_s * 2.0 ** min(failures, 10)) if failures else poll_interval_s
        with suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), delay_s)


def _refusal(refusal: Refusal) -> hub_pb2.Refusal:
    return hub_pb2.Refusal(**refusal.as_dict())


async def _flush(service: HubService) -> None:
    while True:
        await asyncio.sleep(1.0)
        try:
            service.flush()
        except Exception:  # the store may come back; nothing but history waits for it
            log.exception("cannot write the hub's store")
