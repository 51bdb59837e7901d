"""Smart HTTP in protocol version 2 over one keep-alive connection: a poll is one POST, a new commit a second one.

Redirects are never followed: the credentials and the trust in a host belong to the address that was configured.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from livecfg.errors import FetchError
from livecfg.forking import at_fork
from livecfg.git import wire
from livecfg.git.transport import Deadline, Session, existing
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.git.source import GitSource

_HANDSHAKE_BYTES = 65536
_CHUNK_BYTES = 65536
_MEANS = {
    401: "it wants other credentials (GitSource auth or auth_file)",
    403: "these credentials may not read it",
    404: "there is no such repository, or these credentials may not see it",
    407: "the proxy wants credentials",
    429: "it wants fewer requests",
}


_connections: WeakSet[HTTPConnection] = WeakSet()
_handles: WeakSet[socket.socket] = WeakSet()


def _let_go() -> None:
    """In a forked child: give the parent's connections up, without a word to the server, who still talks with the parent."""
    for opened in (*_handles, *(connection.sock for connection in tuple(_connections))):
        if opened is not None and opened.fileno() >= 0:
            with suppress(OSError):
                os.close(opened.detach())


at_fork(_let_go)


class HttpRemote:
    """One remote over http or https; keeps its connection and what it learned between sessions."""

    def __init__(self, source: GitSource, version: str = wire.VERSION) -> None:
        self._source = source
        self._version = version
        self._base = source.url.rstrip("/")
        self._guards: list[socket.socket] = []
        self.pool = self._make_pool()
        self._capabilities: wire.Capabilities | None = None

    def _make_pool(self) -> urllib3.PoolManager:
        guards = self._guards

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                _connections.add(self)
                return _guard(super()._new_conn(), guards)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                _connections.add(self)
                return _guard(super()._new_conn(), guards)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        options: dict[str, Any] = {"num_pools": 2, "maxsize": 1, "retries": False}
        if self._source.ca_file:
            options["ca_certs"] = self._source.ca_file
        parts = urlsplit(self._base)
        proxy = getproxies().get(parts.scheme)
        usable = proxy is not None and not proxy_bypass(parts.netloc)
        pool = urllib3.ProxyManager(cast("str", proxy), **options) if usable else urllib3.PoolManager(**options)
        pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        return pool

    @contextmanager
    def session(self, deadline: Deadline) -> Iterator[Session]:
        """Talk over the kept connection; whatever goes wrong drops it."""
        deadline.at_end(self.cut)
        try:
            with deadline.explaining(f"talking to {self._source.url}"):
                yield _HttpSession(self, deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection and what was learned from it."""
        self.pool.clear()
        self._capabilities = None
        while self._guards:
            self._guards.pop().close()

    def cut(self) -> None:
        """End every open connection, from any thread."""
        for guard in tuple(self._guards):
            with suppress(OSError):
                guard.shutdown(socket.SHUT_RDWR)

    def capabilities(self, deadline: Deadline) -> wire.Capabilities:
        """What the server can do; asked once per kept connection's life."""
        if self._capabilities is None:
            with self.advertisement("git-upload-pack", deadline) as answer:
                read = wire.counted(answer.read, _HANDSHAKE_BYTES, "the greeting is too long", "-")
                self._capabilities = wire.read_capabilities(read)
                answer.drain()
        return self._capabilities

    @contextmanager
    def advertisement(self, service: str, deadline: Deadline) -> Iterator[Answer]:
        """Ask what a service can do (and, when pushing, where the refs are)."""
        with self._ask(
            "GET", f"/info/refs?service={service}", None, f"application/x-{service}-advertisement", deadline
        ) as answer:
            yield answer

    @contextmanager
    def command(self, service: str, body: bytes, deadline: Deadline) -> Iterator[Answer]:
        """Send one request to a service."""
        with self._ask("POST", f"/{service}", body, f"application/x-{service}-result", deadline) as answer:
            yield answer

    @contextmanager
    def _ask(self, method: str, path: str, body: bytes | None, expected: str, deadline: Deadline) -> Iterator[Answer]:
        headers = {"User-Agent": "git/2.40 livecfg", "Accept": expected} | self.authorization()
        if "upload-pack" in path and self._version:
            headers["Git-Protocol"] = self._version
        if body is not None:
            headers["Content-Type"] = expected.replace("-result", "-request")
        timeout = urllib3.Timeout(connect=deadline.idle_s, read=deadline.idle_s)
        response = self.pool.request(
            method,
            self._base + path,
            body=body,
            headers=headers,
            preload_content=False,
            decode_content=False,  # no encoding was asked for, and a small one may come to gigabytes
            redirect=False,
            retries=False,
            timeout=timeout,
        )
        try:
            self._check(response, expected)
            yield Answer(response)
        except BaseException:
            response.close()
            raise
        else:
            response.release_conn()

    def _check(self, response: urllib3.BaseHTTPResponse, expected: str) -> None:
        status, kind = response.status, response.headers.get("Content-Type", "")
        if 300 <= status < 400:
            where = printable(response.headers.get("Location", "nowhere").partition("/info/refs")[0])
            raise FetchError(f"the remote has moved to {where}: put that address into GitSource if you trust it")
        if status != 200:
            raise FetchError(f"the remote answers {status}: {_MEANS.get(status, 'it is out of order')}")
        if kind.partition(";")[0].strip() != expected:
            raise FetchError(f"the remote is no smart Git server: expected {expected}, got {printable(kind) or 'nothing'}")

    def authorization(self) -> dict[str, str]:
        """Give the header that carries the credentials; the file is read anew each time."""
        source = self._source
        text = Path(source.auth_file).read_text("utf-8").strip() if source.auth_file else source.auth
        if not text:
            return {}
        if not text.isprintable():  # said without the text: the HTTP library would quote it
            raise FetchError(f"the credentials in {source.auth_file or 'auth'} hold a control character, a line end perhaps")
        is_pair = ":" in text.partition(" ")[0]  # "user:password", not "Bearer …"
        value = f"Basic {b64encode(text.encode()).decode()}" if is_pair else text
        return {"Authorization": value}


class Answer:
    """The body of an answer as a buffered stream."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = cast("urllib3.HTTPResponse", response)
        self._buffer = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Give `size` bytes, fewer only at the end."""
        while len(self._buffer) - self._at < size:
            part = self._response.read1(_CHUNK_BYTES)
            if not part:
                break
            self._buffer, self._at = self._buffer[self._at :] + part, 0
        found = self._buffer[self._at : self._at + size]
        self._at += len(found)
        return found

    def drain(self) -> None:
        """Read to the end, so that the connection can be used again; a long rest is not worth it, and ends the connection."""
        for _ in range(16):
            if not self._response.read1(_CHUNK_BYTES):
                return
        self._response.close()


class _HttpSession:
    def __init__(self, remote: HttpRemote, deadline: Deadline) -> None:
        self._remote, self._deadline = remote, deadline

    def tip(self) -> str:
        source, limit = self._remote._source, self._deadline.limits.refs_bytes  # noqa: SLF001 - the same module
        capabilities = self._remote.capabilities(self._deadline)
        with self._remote.command(
            "git-upload-pack", wire.ls_refs_request(capabilities, source.full_ref), self._deadline
        ) as answer:
            read = wire.counted(answer.read, limit, "the list of refs is too long", "refs_bytes")
            tip = wire.read_ref(wire.packets(read), capabilities, source.full_ref)
            answer.drain()
        return existing(tip, source)

    def pack(self, want: str, have: str, edge: str = "") -> bytes:
        request = wire.fetch_request(self._remote.capabilities(self._deadline), want, have, edge)
        with self._remote.command("git-upload-pack", request, self._deadline) as answer:
            pack = wire.read_pack_answer(answer.read, self._deadline.limits)
            answer.drain()
        return pack


def _guard(opened: socket.socket, guards: list[socket.socket]) -> socket.socket:
    """Keep a second handle on a new connection, through which the deadline can cut it even inside TLS."""
    while guards:
        guards.pop().close()
    guards.append(opened.dup())
    _handles.update((opened, guards[-1]))  # an answer that ends the connection takes the first from it
    return opened
