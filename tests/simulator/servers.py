"""Real Git servers on loopback: smart HTTP through `git http-backend`, and `git daemon`; both can be told to misbehave."""

from __future__ import annotations

import os
import random
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tests.simulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.simulator.tls import Tls

BAD_PACK = frozenset({Fault.TRUNCATE, Fault.FLIP})


def closed_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _git_env(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    # Tests may run as another user than the one that owns the temporary folder: safe.directory would refuse.
    safe = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    return kept | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"} | safe | dict(extra)


def spoil(body: bytes, fault: Fault) -> bytes:
    """Cut the body in the middle, or change one byte there."""
    middle = len(body) * 2 // 3
    if fault is Fault.TRUNCATE:
        return body[:middle]
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, owner: GitHttpServer) -> None:
        self.owner = owner
        self.open_sockets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.owner.tls is not None:  # the handshake belongs to the connection's own thread: it happens at the first read
            sock = self.owner.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.open_sockets.add(sock)
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not worth a traceback."""


class GitHttpServer:
    """Smart HTTP for every repository under `root`, on 127.0.0.1; a context manager.

    `requests` lists what was asked as `(method, path with query, protocol header)`, `authorizations` with which
    credentials. With `auth="user:password"` it wants
    basic credentials; with `old_protocol` it speaks version 0 only,
    with `tls` it is https. `fault` may be set at any time; TRUNCATE
    and FLIP spoil answers with a pack only.
    """

    def __init__(
        self, root: Path, *, auth: str = "", delay_s: float = 0.0, old_protocol: bool = False, tls: Tls | None = None
    ) -> None:
        self.root = root
        self.auth = auth
        self.delay_s = delay_s
        self.old_protocol = old_protocol
        self.tls: ssl.SSLContext | None = None
        if tls is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(tls.certificate, tls.key)
        self.fault: Fault | None = None
        self.requests: list[tuple[str, str, str]] = []
        self.authorizations: list[str] = []
        self.stopped = threading.Event()
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="git-http", daemon=True
        )

    def url(self, repository: Path) -> str:
        """The URL of a repository under the root."""
        scheme = "https" if self.tls is not None else "http"
        return f"{scheme}://127.0.0.1:{self.port}/{repository.relative_to(self.root).as_posix()}"

    def drop_connections(self) -> None:
        """Hang up on every kept connection, as servers and balancers do to idle ones."""
        for sock in list(self._server.open_sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self.drop_connections()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: requests are recorded by the owner."""

    def do_GET(self) -> None:
        """Serve a ref advertisement."""
        self._serve()

    def do_POST(self) -> None:
        """Serve upload-pack or receive-pack."""
        self._serve()

    def _serve(self) -> None:
        owner = self.server.owner
        body = self._body()
        owner.authorizations.append(self.headers.get("Authorization", ""))
        owner.requests.append((self.command, self.path, self.headers.get("Git-Protocol", "")))
        fault = owner.fault
        if fault is not None and fault not in BAD_PACK:
            self._misbehave(fault)
            return
        if owner.auth and not self._authorised(owner.auth):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"', "Content-Type": "text/plain"}, b"who are you?")
            return
        if owner.delay_s:
            owner.stopped.wait(owner.delay_s)
        status, headers, answer = self._backend(body)
        if fault is not None and b"PACK" in answer:
            answer = spoil(answer, fault)
        self._answer(status, headers, answer)

    def _authorised(self, auth: str) -> bool:
        from base64 import b64encode

        return self.headers.get("Authorization", "") == f"Basic {b64encode(auth.encode()).decode()}"

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.path)
        protocol = "" if self.server.owner.old_protocol else self.headers.get("Git-Protocol", "")
        env = {
            "GIT_PROJECT_ROOT": str(self.server.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": protocol,
            "GIT_PROTOCOL": protocol,
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "test",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=_git_env(env), capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return int(headers.pop("Status", "200").split()[0]), headers, answer

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} Answer", *(f"{k}: {v}" for k, v in headers.items()), f"Content-Length: {len(body)}"]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def _misbehave(self, fault: Fault) -> None:
        plain = {"Content-Type": "text/plain"}
        service = "receive" if "receive" in self.path else "upload"
        kind = "advertisement" if self.command == "GET" else "result"
        git = {"Content-Type": f"application/x-git-{service}-pack-{kind}"}
        if fault is Fault.HTTP_500:
            self._answer(500, plain, b"out of order")
        elif fault is Fault.UNAUTHORIZED:
            self._answer(401, plain | {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
        elif fault is Fault.HTML:
            self._answer(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
        elif fault is Fault.GARBAGE:
            self._answer(200, git, random.Random(7).randbytes(4096))
        elif fault is Fault.REDIRECT:
            self._answer(302, plain | {"Location": f"http://127.0.0.1:{closed_port()}{self.path}"}, b"")
        elif fault is Fault.HANG:
            self.server.owner.stopped.wait(60)
            self.close_connection = True
        elif fault is Fault.DRIP:
            self._drip(git)
        else:
            self.close_connection = True

    def _drip(self, headers: Mapping[str, str]) -> None:
        head = ["HTTP/1.1 200 Answer", *(f"{k}: {v}" for k, v in headers.items()), "Content-Length: 100000", "", ""]
        self.wfile.write("\r\n".join(head).encode())
        with suppress(OSError):
            self.wfile.write(b"fff0")
            for _ in range(1200):
                self.wfile.write(b"x")
                if self.server.owner.stopped.wait(0.05):
                    break
        self.close_connection = True


class GitDaemon:
    """`git daemon` for every repository under `root`, one process per connection, on 127.0.0.1; a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fault: Fault | None = None
        self.connections = 0
        self._stop = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="git-daemon", daemon=True)

    def url(self, repository: Path) -> str:
        """The git:// URL of a repository under the root."""
        return f"git://127.0.0.1:{self.port}/{repository.relative_to(self.root).as_posix()}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()
        for process in self._running:
            process.kill()
            process.wait(5)

    def _accept(self) -> None:
        held = []
        while not self._stop.is_set():
            self._running = {p for p in self._running if p.poll() is None}
            try:
                sock, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.connections += 1
            sock.setblocking(True)  # noqa: FBT003 - the standard library's signature
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.fault is Fault.HANG:
                held.append(sock)
                continue
            with sock:
                self._one(sock)
        for sock in held:
            sock.close()

    def _one(self, sock: socket.socket) -> None:
        if self.fault is Fault.GARBAGE:
            with suppress(OSError):
                sock.sendall(random.Random(7).randbytes(4096))
            return
        if self.fault is not None:
            return
        words = ["git", "daemon", "--inetd", "--export-all", "--enable=receive-pack", f"--base-path={self.root}"]
        self._running.add(
            subprocess.Popen(words, stdin=sock.fileno(), stdout=sock.fileno(), stderr=subprocess.DEVNULL, env=_git_env({}))
        )
