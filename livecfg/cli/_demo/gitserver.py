"""A Git server on loopback: smart HTTP through `git http-backend` where there is a git program, else through dulwich.

It accepts pushes from whoever asks, as the demo's own repository may: what is pushed has to convince the applications.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from pathlib import Path
    from socketserver import BaseServer


class GitServer:
    """Serves every repository under `root` until `stop`; `program` says what answers."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.program = "git http-backend" if shutil.which("git") else "dulwich"
        self._server = _cgi_server(root, port) if shutil.which("git") else _dulwich_server(root, port)
        self.port = int(self._server.server_address[1])  # type: ignore[index]  # an AF_INET address
        self._thread = threading.Thread(target=self._serve, name="demo-git", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """Answer nobody any more, connections that are open included."""
        self._server.shutdown()
        for connection in tuple(_Handler.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(5)


class _CgiServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    root: Path

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not worth a traceback."""


def _cgi_server(root: Path, port: int) -> BaseServer:
    server = _CgiServer(("127.0.0.1", port), _Handler)
    server.root = root
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections: ClassVar[set[socket.socket]] = set()
    server: _CgiServer

    def setup(self) -> None:
        super().setup()
        self.connections.add(self.connection)

    def finish(self) -> None:
        self.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: the story has the terminal."""

    def do_GET(self) -> None:
        """Serve a ref advertisement."""
        self._backend(b"")

    def do_POST(self) -> None:
        """Serve upload-pack or receive-pack."""
        self._backend(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _backend(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "demo",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)  # noqa: S607 - found on PATH by `which`
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class _ThreadingWsgi(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not worth a traceback."""


class _QuietHandler(WSGIRequestHandler):
    def get_stderr(self) -> Any:
        """As above, for what the application meets."""
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


def _dulwich_server(root: Path, port: int) -> BaseServer:
    """Serve with dulwich alone; the handlers of its smart protocol include receive-pack."""
    from dulwich.repo import Repo
    from dulwich.server import Backend
    from dulwich.web import make_wsgi_chain

    class Folder(Backend):
        def open_repository(self, path: Any) -> Any:
            name = path if isinstance(path, str) else path.decode()
            return Repo(str(root / name.strip("/").split("/")[0]))

    return make_server("127.0.0.1", port, make_wsgi_chain(Folder()), _ThreadingWsgi, _QuietHandler)
