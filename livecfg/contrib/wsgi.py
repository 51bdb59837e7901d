"""LivecfgMiddleware: one request, one revision, for every WSGI framework (Flask, Django, Pyramid, Bottle).

In Flask `app.wsgi_app = LivecfgMiddleware(app.wsgi_app, live)`; in Django's wsgi.py `application =
LivecfgMiddleware(get_wsgi_application(), live)`. Not needed to read
configuration, only to read one revision all through a request.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from livecfg.client import LiveConfig

HEADER = "X-Config-Revision"


class LivecfgMiddleware:
    """Pins one snapshot for each request, the streamed body too, and names its commit in the header `X-Config-Revision`."""

    def __init__(self, app: WSGIApplication, live: LiveConfig[Any]) -> None:
        self.app = app
        self.live = live

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        snapshot = self.live.current
        context = copy_context()  # of this request alone: a body is made after this call, piece by piece
        context.run(self.live._pinned.set, snapshot)  # noqa: SLF001 - `pin` ends with its block, this one with the context

        def start_named(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, (HEADER, snapshot.revision.commit)], *error)

        body = context.run(self.app, environ, start_named)
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
            return body  # made already; servers look at the type to send it fast
        return _Body(body, context)


class _Body:
    """A body whose every piece is made in the request's context."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self._body = body
        self._context = context
        self._pieces: Iterator[bytes] = context.run(iter, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._pieces)

    def close(self) -> None:
        """Let the application clean up, as the server asks."""
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)
