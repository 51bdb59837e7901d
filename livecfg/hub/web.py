"""The hub over HTTP: health, metrics, and webhooks of Git hosts. Read-only, but for the hint to look at the remote.

`/healthz` the process runs · `/readyz` it has something to offer and the remote answers · `/metrics` for Prometheus ·
`/hooks/<github|gitlab|gitea|bitbucket|generic>` POSTed by a Git host after a push, proven by the shared secret.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from livecfg.errors import LivecfgError
from livecfg.hub.connections import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from livecfg.hub.following import Following
    from livecfg.hub.service import HubService

_BODY_BYTES = 1 << 20
_BODY_S = 10.0
_REPLAY_S = 300.0
_STALE_S = 300.0
_HINT_EVERY_S = 0.5


def _signed(header: str, prefix: str = "") -> Callable[[Mapping[str, str], bytes, bytes, float], bool]:
    """Check a hex HMAC-SHA-256 of the body in a header."""

    def check(headers: Mapping[str, str], body: bytes, secret: bytes, _now: float) -> bool:
        return _equal(headers.get(header, ""), prefix + hmac.new(secret, body, sha256).hexdigest())

    return check


def _gitlab(headers: Mapping[str, str], _body: bytes, secret: bytes, _now: float) -> bool:
    """GitLab sends the secret itself."""
    return _equal(headers.get("x-gitlab-token", ""), secret.decode("utf-8", "replace"))


def _generic(headers: Mapping[str, str], body: bytes, secret: bytes, now: float) -> bool:
    """`X-Livecfg-Signature: sha256=<HMAC of "<timestamp>.<body>">`, the timestamp in X-Livecfg-Timestamp, at most 5 min off."""
    stamp = headers.get("x-livecfg-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now - int(stamp[:15])) > _REPLAY_S:
        return False
    wanted = "sha256=" + hmac.new(secret, stamp.encode() + b"." + body, sha256).hexdigest()
    return _equal(headers.get("x-livecfg-signature", ""), wanted)


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


HOOKS: dict[str, Callable[[Mapping[str, str], bytes, bytes, float], bool]] = {
    "github": _signed("x-hub-signature-256", "sha256="),
    "gitlab": _gitlab,
    "gitea": _signed("x-gitea-signature"),
    "bitbucket": _signed("x-hub-signature", "sha256="),
    "generic": _generic,
}


class _Hints:
    """Passes hints on twice a second at most, so that replayed hooks are no flood at the remote; the last one is never lost."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._last_s = -_HINT_EVERY_S
        self._waiting = False

    def hint(self) -> None:
        """Look now, or as soon as it is time again."""
        if self._waiting:
            return
        self._waiting = True
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, self._last_s + _HINT_EVERY_S - loop.time()), self._pass_on, loop)

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting, self._last_s = False, loop.time()
        self._look()


def make_app(service: HubService, following: Following, webhook_secret: bytes) -> Starlette:
    """Give the application; without a secret there are no hooks."""
    hints = _Hints(following.look)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        why = _not_ready(service, following)
        return PlainTextResponse(f"{why or 'ok'}\n", 503 if why else 200)

    async def metrics(_request: Request) -> Response:
        return PlainTextResponse(_metrics(service, following), media_type="text/plain; version=0.0.4")

    async def hook(request: Request) -> Response:
        check = HOOKS.get(request.path_params["kind"])
        try:
            async with asyncio.timeout(_BODY_S):
                body = await _body(request)
        except TimeoutError:
            return PlainTextResponse("too slow\n", 408, {"Connection": "close"})
        if check is None or body is None:
            return PlainTextResponse("not found\n", 404) if check is None else PlainTextResponse("too large\n", 413)
        if not check(request.headers, body, webhook_secret, time.time()):
            service.counts["hooks_refused"] += 1
            return PlainTextResponse("the signature does not match\n", 401)
        service.counts["hooks"] += 1
        hints.hint()  # what is there is fetched and judged as ever
        return PlainTextResponse("thank you\n", 202)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(routes=[*routes, *([Route("/hooks/{kind}", hook, methods=["POST"])] if webhook_secret else [])])


class _Server(uvicorn.Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a context manager, however made
        """Leave the signals to the hub."""
        return nullcontext()


async def serve(address: str, app: Starlette) -> None:
    """Serve on `host:port` until cancelled.

    Raises:
        LivecfgError: the address cannot be used.

    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise LivecfgError(f"expected host:port, got {address}")
    config = uvicorn.Config(
        app,
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        http=Connection,
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
    server = _Server(config)
    server.servers = []
    try:
        await server.serve()
    except SystemExit as error:  # its way to say that the address cannot be used
        raise LivecfgError(f"cannot listen on {address}") from error
    finally:
        for listener in server.servers:  # it leaves them open when it is cancelled
            listener.close()


async def _body(request: Request) -> bytes | None:
    """Give the body, None when it is over 1 MiB."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _BODY_BYTES:
            return None
    return bytes(body)


def _not_ready(service: HubService, following: Following) -> str:
    if service.draining:
        return "draining"
    if not service.tip.commit or following.answered_at is None:
        return "nothing was fetched yet"
    if following.refuses_all:
        return "the hub's trusted root refuses every commit"
    age_s = time.monotonic() - following.answered_at
    return f"the remote has not answered for {age_s:.0f} s" if age_s > _STALE_S else ""


def _metrics(service: HubService, following: Following) -> str:
    answered = following.answered_at
    conditions = {f'{{condition="{_label(name)}"}}': count for name, count in service.fleet.conditions().items()}
    age_s = {"": time.monotonic() - answered} if answered is not None else {}
    beat_at = following.beats.newest_at if following.beats is not None else None
    beat_s = {"": time.monotonic() - beat_at} if beat_at is not None else {}
    rows: list[tuple[str, str, str, Mapping[str, float]]] = [
        ("streams", "gauge", "hosts connected", {"": service.streams}),
        ("processes", "gauge", "processes known, by condition", conditions),
        ("tip_position", "gauge", "commits up to the tip; -1 when the hub refuses it", {"": service.tip.position}),
        ("remote_failures", "gauge", "failed questions to the remote in a row", {"": following.failures}),
        ("remote_age_seconds", "gauge", "since the remote answered", age_s),
        ("heartbeat_age_seconds", "gauge", "since a heartbeat was signed", beat_s),
        ("reports_rejected_total", "counter", "processes dropped: another's, or too many", {"": service.fleet.rejected}),
        ("counts_rejected_total", "counter", "counts of arms that are unsound, or another's", {"": service.tally.rejected}),
    ]
    kinds = ("offers", "reports", "objects", "throttled", "dropped", "unauthenticated", "hooks", "hooks_refused")
    rows += [(f"{kind}_total", "counter", kind.replace("_", " "), {"": service.counts[kind]}) for kind in kinds]
    lines = []
    for name, kind, text, values in rows:
        lines += [f"# HELP livecfg_hub_{name} {text}", f"# TYPE livecfg_hub_{name} {kind}"]
        lines += [f"livecfg_hub_{name}{labels} {value:g}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in "_-"))[:40]
