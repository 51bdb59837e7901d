"""What `livecfg hub serve` runs: follow Git, verify like everyone, offer, gather. Owns the event loop.

The hub is optional and trusted by no one: it holds no desired state, and whatever it sends passes the same verification in the
client.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from livecfg.errors import LivecfgError
from livecfg.hub import wire
from livecfg.hub.access import Access, make_access
from livecfg.hub.beats import Beats, read_signer
from livecfg.hub.following import Following
from livecfg.hub.service import HubService
from livecfg.hub.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from livecfg.git.source import GitSource
    from livecfg.refusal import Refusal

log = logging.getLogger(__name__)

_DRAIN_S = 5.0
_FLUSH_EVERY_S = 1.0
_TICK_S = 1.0
_FAN_OUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Settings of one hub.

    `tls_cert`, `tls_key` are PEM files, read again when they change; without them only loopback addresses are accepted.
    With `tls_client_ca` every client must show a certificate of that authority. `token` may do everything; the
    file `tokens` lists digests with roles. `http` is `host:port` of health, metrics and webhooks; empty: none. `heartbeat_key`
    is a private key of policy's `timestamp` role; without it nothing is attested.
    """

    source: GitSource
    trusted_root: bytes
    listen: str
    store: str
    home: Path
    poll_interval_s: float = 2.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token: str = ""
    tokens: Path | None = None
    http: str = ""
    webhook_secret: bytes = b""
    heartbeat_key: Path | None = None
    heartbeat_interval_s: float = 30.0


async def serve(settings: HubSettings, ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain; `ready` gets `host:port` once streams are accepted.

    Raises:
        LivecfgError: the address cannot be used, or the trusted root, the tokens or the store are not usable.

    """
    _use_all_descriptors()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.http:
        _check_http()
    tokens = settings.tokens.read_bytes() if settings.tokens is not None else None
    access = make_access(settings.token, tokens, certificates=settings.tls_client_ca is not None)
    beats = None
    if settings.heartbeat_key is not None:
        beats = Beats(settings.source, read_signer(settings.heartbeat_key), settings.heartbeat_interval_s)
    following = Following(settings.source, settings.home, settings.trusted_root, settings.poll_interval_s, beats)
    store = open_store(settings.store)
    service = HubService(following.mirror, store, following.root.repo_id, settings.source.ref, access, following.place)
    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((service.handler(),))
    health = await _add_health(server)
    port = _bind(server, settings, access)
    await server.start()
    if beats is not None:
        beats.start(_on(loop, service.attest))
    following.start(_offer_to(loop, service), _on(loop, _publish_to(service)))
    tasks = [asyncio.create_task(_flush(service)), asyncio.create_task(_tick(service))]
    if settings.http:
        tasks.append(asyncio.create_task(_serve_http(settings, service, following)))
    _settle()
    ready(f"{settings.listen.rpartition(':')[0]}:{port}")
    try:
        await _first_of(stop, tasks)
    finally:
        log.info("draining")
        if health is not None:
            await health.enter_graceful_shutdown()
        service.drain()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(_DRAIN_S)
        await asyncio.to_thread(following.stop)
        with _logged("cannot write the hub's store"):  # nothing but history is lost
            await service.flush(is_last=True)
        store.close()
    for problem in ended:
        if isinstance(problem, LivecfgError):
            raise problem


async def _first_of(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait to be told to stop, or for a part of the hub to give up."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _settle() -> None:
    """Keep the collector from walking everything that lives as long as the hub, and from stopping a fan-out for it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., object]) -> Callable[..., None]:
    """Have something called on the loop, from another thread."""

    def later(*arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(call, *arguments)

    return later


def _offer_to(loop: asyncio.AbstractEventLoop, service: HubService) -> Callable[[str, str, bytes], None]:
    """Have a tip offered; comes back when every stream was handed it, or after a while."""
    offer = _on(loop, service.offer)

    def offered(tip: str, have: str, made: bytes) -> None:
        sent = threading.Event()
        offer(tip, have, made, sent.set)
        sent.wait(_FAN_OUT_S)  # what follows is work, and would take the interpreter from the fan-out

    return offered


def _publish_to(service: HubService) -> Callable[..., None]:
    from livecfg.hub._pb import hub_pb2  # noqa: PLC0415 - loaded by then
    from livecfg.hub.report import clean  # noqa: PLC0415 - as above

    def publish(tip: hub_pb2.Commit, refusals: tuple[Refusal, ...]) -> None:
        told = [hub_pb2.Refusal(**refusal.as_dict()) for refusal in refusals]
        for refusal in told:  # names in a repository may be as long as a message
            clean(refusal)
        service.publish(tip, told)

    return publish


def _use_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one: each host is a connection, and 1,024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("at most %d files and connections can be open: %s", soft, error)


# --- the parts ----------------------------------------------------------------------------------------------------------


def _bind(server: grpc.aio.Server, settings: HubSettings, access: Access) -> int:
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            port = server.add_secure_port(settings.listen, _tls(settings))
        elif wire.is_loopback(settings.listen):
            log.info("listening on loopback without TLS%s", " and without credentials" if access.is_open else "")
            port = server.add_insecure_port(settings.listen)
        else:
            raise LivecfgError(f"{settings.listen} is not loopback: give --tls-cert and --tls-key")
    except (RuntimeError, OSError) as error:
        raise LivecfgError(f"cannot listen on {settings.listen}: {error}") from error
    if not port:
        raise LivecfgError(f"cannot listen on {settings.listen}: the address is in use or not of this machine")
    if access.is_open and not wire.is_loopback(settings.listen):
        log.warning("listening on %s without credentials: whoever reaches it may report and see the fleet", settings.listen)
    return port


def _tls(settings: HubSettings) -> grpc.ServerCredentials:
    """TLS that follows its files: a renewed certificate is used for the next connection."""
    paths = [path for path in (settings.tls_key, settings.tls_cert, settings.tls_client_ca) if path is not None]

    def read() -> grpc.ServerCertificateConfiguration:
        key, certificate, *authority = [path.read_bytes() for path in paths]
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=authority[0] if authority else None
        )

    def stamp() -> list[tuple[int, int]]:
        return [(path.stat().st_mtime_ns, path.stat().st_ino) for path in paths]

    known = stamp()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        try:
            now = stamp()
            if now == known:
                return None
            found, known = read(), now
        except OSError as error:  # being replaced just now, or gone: the old one stays
            log.warning("cannot read the certificate: %s", error.strerror)
            return None
        log.info("the certificate was read again")
        return found

    required = settings.tls_client_ca is not None
    return grpc.dynamic_ssl_server_credentials(read(), renewed, required)  # type: ignore[arg-type]  # None: as before


async def _add_health(server: grpc.aio.Server) -> Any:
    """The standard health and reflection services, where the extra `hub` is installed."""
    try:
        from grpc_health.v1 import _async, health, health_pb2, health_pb2_grpc  # noqa: PLC0415 - an extra
        from grpc_reflection.v1alpha import reflection as typeless  # noqa: PLC0415 - as above
    except ImportError:
        log.info("no health and reflection services: pip install 'livecfg[hub]'")
        return None
    reflection: Any = typeless  # these packages have no types
    add: Any = health_pb2_grpc.add_HealthServicer_to_server
    servicer = _async.HealthServicer()
    add(servicer, server)
    reflection.enable_server_reflection((wire.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await servicer.set(wire.SERVICE, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _check_http() -> None:
    """Find out before anybody connects whether HTTP can be served."""
    try:
        import_module("livecfg.hub.web")  # starlette and uvicorn are an extra
    except ImportError as error:
        raise LivecfgError("--http needs starlette and uvicorn: pip install 'livecfg[hub]'") from error


async def _serve_http(settings: HubSettings, service: HubService, following: Following) -> None:
    from livecfg.hub import web  # noqa: PLC0415 - an extra

    await web.serve(settings.http, web.make_app(service, following, settings.webhook_secret))


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("%s", what)


async def _tick(service: HubService) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        with _logged("cannot look after the streams"):
            service.tick()


async def _flush(service: HubService) -> None:
    while True:
        await asyncio.sleep(_FLUSH_EVERY_S)
        with _logged("cannot write the hub's store"):  # it may come back; nothing but history waits for it
            await service.flush()
