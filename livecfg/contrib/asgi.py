"""LivecfgMiddleware: one request, one revision, for every ASGI framework (FastAPI, Starlette, Litestar, Quart, Django's ASGI).

Pure ASGI: it wraps nothing in tasks of its own, so context variables set by the application reach the response and back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from livecfg.client import LiveConfig

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADER = b"x-config-revision"


class LivecfgMiddleware:
    """Pins one snapshot for each request and websocket, and names its commit in the header `x-config-revision`.

    `app.add_middleware(LivecfgMiddleware, live=live)`. When nothing was read yet, the wait for the first revision takes place
    in a thread, not on the event loop.
    """

    def __init__(self, app: App, live: LiveConfig[Any]) -> None:
        self.app = app
        self.live = live

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; `lifespan` passes through untouched."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        live = self.live
        if live._applied is None and live._pinned.get(None) is None:  # noqa: SLF001 - asks without starting anything
            await asyncio.to_thread(live.start)
        with live.pin() as snapshot:
            commit = snapshot.revision.commit.encode()

            async def send_named(message: Message) -> None:
                if message["type"] in {"http.response.start", "websocket.accept"}:
                    message["headers"] = [*message.get("headers", ()), (HEADER, commit)]
                await send(message)

            await self.app(scope, receive, send_named)
