"""Remotes over the network: smart HTTP with one keep-alive connection, git:// and ssh, all in protocol version 2.

A `Remote` is asked inside `with remote.session(deadline)`: first `tip()`, then at most one `pack()`. The deadline holds for
the whole session, however slowly bytes drip: when it passes, the connection is shut down from another thread.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - what the first look-up of a host would import, in another thread
import os
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol, Self, cast
from urllib.parse import unquote, urlsplit

from livecfg.errors import FetchError
from livecfg.git import wire
from livecfg.git.faults import over_limit, translating
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from livecfg.git.source import GitSource, Limits

_HANDSHAKE_BYTES = 65536


class Session(Protocol):
    """One conversation with a remote."""

    def tip(self) -> str:
        """Give the commit id of the source's ref.

        Raises:
            FetchError: the remote does not answer well, or has no such branch.

        """
        ...

    def pack(self, want: str, have: str, edge: str = "") -> bytes:
        """Give a pack of what `want` reaches and `have` (may be empty) does not; may be thin on `have`.

        `edge`: what lies below it is not here; when it is what is wanted, it is wanted without that.
        """
        ...


class Remote(Protocol):
    """A remote repository; cheap to make, connects in `session`."""

    def session(self, deadline: Deadline) -> AbstractContextManager[Session]:
        """Open a conversation."""
        ...

    def close(self) -> None:
        """Drop kept connections."""
        ...


class Deadline:
    """The end of a fetch as a whole: when it passes, everything registered with `at_end` is called, from another thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._cut = False
        self._end = time.monotonic() + limits.time_s
        self._calls: list[Callable[[], object]] = []
        self._timer: threading.Timer | None = None

    def at_end(self, call: Callable[[], object]) -> None:
        """Call this when time is up, at once if it is."""
        self._calls.append(call)
        if self._timer is None:  # a thread, so only for those who need it
            self._timer = threading.Timer(self._end - time.monotonic(), self._expire)
            self._timer.daemon = True
            self._timer.start()
        if self.passed:
            call()

    @property
    def idle_s(self) -> float:
        """How long one silence may last now, in seconds."""
        return max(0.01, min(self.limits.idle_s, self._end - time.monotonic() + 1.0))  # the timer cuts first, and says why

    def cut(self) -> None:
        """End what is going on now: something better has come."""
        self._expire()

    @property
    def passed(self) -> bool:
        """Whether the time is up, or the conversation was cut."""
        return self._cut or time.monotonic() >= self._end

    def _expire(self) -> None:
        self._cut = True
        for call in tuple(self._calls):
            with suppress(OSError):
                call()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """Translate foreign errors; when time is up, say that instead of what the cut connection looked like."""
        try:
            with translating(doing):
                yield
        except FetchError as error:
            if self.passed:
                raise over_limit(f"{doing}: it takes too long", self.limits.time_s, "time_s") from error
            if type(error) is FetchError and not str(error).startswith(doing):
                raise FetchError(f"{doing}: {error}") from error
            raise


def connect(source: GitSource) -> Remote:
    """Give the remote for a network URL."""
    if source.scheme in {"http", "https"}:
        from livecfg.git.http import HttpRemote  # noqa: PLC0415 - urllib3 only when it is used

        return HttpRemote(source)
    return StreamRemote(source)


class StreamRemote:
    """git:// and ssh: one connection per session, which the server's end keeps state on."""

    def __init__(self, source: GitSource) -> None:
        self._source = source

    @contextmanager
    def session(self, deadline: Deadline) -> Iterator[Session]:
        """Connect, say hello, and hang up at the end."""
        with deadline.explaining(f"connecting to {self._source.url}"):
            pipe = open_pipe(self._source, deadline, "git-upload-pack", wire.VERSION)
        try:
            with deadline.explaining(f"talking to {self._source.url}"):
                capabilities = wire.read_capabilities(wire.counted(pipe.read, _HANDSHAKE_BYTES, "the greeting is too long", "-"))
                yield _StreamSession(self._source, pipe, capabilities, deadline)
        finally:
            pipe.close()

    def close(self) -> None:
        """Nothing is kept."""


class Pipe(Protocol):
    """A two-way stream of bytes."""

    def read(self, size: int) -> bytes:
        """Give `size` bytes, fewer only at the end."""
        ...

    def write(self, data: bytes) -> None:
        """Send everything."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _StreamSession:
    def __init__(self, source: GitSource, pipe: Pipe, capabilities: wire.Capabilities, deadline: Deadline) -> None:
        self._source, self._pipe, self._capabilities, self._deadline = source, pipe, capabilities, deadline
        self._other_refs: Iterator[bytes | None] = iter((None,))

    def tip(self) -> str:
        ref, limit = self._source.full_ref, self._deadline.limits.refs_bytes
        self._pipe.write(wire.ls_refs_request(self._capabilities, ref))
        self._other_refs = wire.packets(wire.counted(self._pipe.read, limit, "the list of refs is too long", "refs_bytes"))
        return existing(wire.read_ref(self._other_refs, self._capabilities, ref), self._source)

    def pack(self, want: str, have: str, edge: str = "") -> bytes:
        wire.skip_section(self._other_refs)
        self._pipe.write(wire.fetch_request(self._capabilities, want, have, edge))
        return wire.read_pack_answer(self._pipe.read, self._deadline.limits)


def existing(tip: str, source: GitSource) -> str:
    """Refuse a ref the remote does not have.

    Raises:
        FetchError: `tip` is empty.

    """
    if not tip:
        raise FetchError(f"{source.url} has no branch {source.ref}")
    return tip


def open_pipe(source: GitSource, deadline: Deadline, service: str, version: str = "") -> Pipe:
    """Connect to a service of a git://, ssh or local repository; `service` is git-upload-pack or git-receive-pack.

    `version` is for fetching alone: pushing has no version 2.
    """
    if source.scheme == "git":
        return Tcp(source, deadline, service, version)
    if source.scheme == "file":
        # Through git, not by hand: its hooks, its locks and its refusal to move a checked-out branch belong to the owner.
        path = unquote(urlsplit(source.url).path) if "://" in source.url else source.url
        return Program(["git", service.removeprefix("git-"), path], deadline, version)
    target, port, path = _ssh_address(source.url)
    words = [*source.ssh_command, "-o", "SendEnv=GIT_PROTOCOL", *(["-p", str(port)] if port else []), target]
    return Program([*words, f"{service} {shlex.quote(path)}"], deadline, version)


class Tcp:
    """git://: a greeting on a plain socket."""

    def __init__(self, source: GitSource, deadline: Deadline, service: str, version: str) -> None:
        parts = urlsplit(source.url)
        host, port = parts.hostname or "", parts.port or 9418
        self._deadline = deadline
        self._socket = socket.create_connection((host, port), timeout=deadline.idle_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline.at_end(lambda: self._socket.shutdown(socket.SHUT_RDWR))
        self._file = self._socket.makefile("rb", buffering=65536)
        where = f"{host}:{parts.port}" if parts.port else host
        wish = f"\0{version}\0" if version else ""
        hello = f"{service} {unquote(parts.path)}\0host={where}\0{wish}"
        self._socket.sendall(wire.packet(hello.encode()))

    def read(self, size: int) -> bytes:
        """Give `size` bytes, fewer only at the end."""
        self._socket.settimeout(self._deadline.idle_s)
        return self._file.read(size) or b""

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.sendall(wire.FLUSH)  # the polite end: git daemon logs a hang-up otherwise
        self._file.close()
        self._socket.close()


_COMPLAINT_BYTES = 4096


class Program:
    """A program that speaks Git on its standard streams: ssh, or git itself.

    GIT_PROTOCOL asks for a version; ssh servers that drop it answer in version 0.
    """

    def __init__(self, command: list[str], deadline: Deadline, version: str = "") -> None:
        self._name = command[0]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close; a pipe nobody reads could stall ssh
        self._process = subprocess.Popen(  # noqa: S603 - a list of words, no shell; the host cannot be an option
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, env=_environment(version)
        )
        self._out, self._in = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stdin)
        deadline.at_end(self._process.kill)
        self._heard = False

    def read(self, size: int) -> bytes:
        """Give `size` bytes, fewer only at the end."""
        part = self._out.read(size)
        if not part and not self._heard:
            raise FetchError(f"{self._name} ended without an answer: {self._complaint()}")
        self._heard = True
        return part

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._in.write(data)
        self._in.flush()

    def _complaint(self) -> str:
        """The program's last words: ssh says why at the end, below its banners."""
        self._process.wait(1.0)
        self._complaints.seek(max(0, self._complaints.seek(0, os.SEEK_END) - _COMPLAINT_BYTES))
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return printable("; ".join(said[-2:])[-400:]) or "no message"

    def close(self) -> None:
        """Hang up."""
        for stream in (self._in, self._out, self._complaints):
            with suppress(OSError):
                stream.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment(version: str) -> dict[str, str]:
    # ssh needs HOME, PATH and the agent's socket as they are.
    return {**os.environ, **({"GIT_PROTOCOL": version} if version else {})}


def _ssh_address(url: str) -> tuple[str, int | None, str]:
    if "://" not in url:
        target, _, path = url.partition(":")
        return target, None, path
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    path = unquote(parts.path)
    return user + (parts.hostname or ""), parts.port, path[1:] if path.startswith("/~") else path
