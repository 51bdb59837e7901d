"""Servers that speak only protocol version 0 or 1: what they tell first is every ref, of which the followed one is kept.

Packs come through dulwich's client over our own guarded connections. It reads the list of refs once more and keeps it, under no
cap but the time limit; pack caps hold all the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dulwich.client import GitClient, TraditionalGitClient, Urllib3HttpGitClient
from dulwich.object_store import ObjectStoreGraphWalker
from dulwich.objects import ObjectID
from dulwich.protocol import Protocol as DulwichProtocol

from livecfg.errors import FetchError
from livecfg.git import wire
from livecfg.git.faults import over_limit
from livecfg.git.http import HttpRemote
from livecfg.git.pack import check_header
from livecfg.git.transport import Deadline, Session, existing, open_pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from livecfg.git.source import GitSource

    FirstWords = Callable[[Deadline], AbstractContextManager[wire.Read]]


class OldRemote:
    """A remote of an old server; the same sessions as the others."""

    def __init__(self, source: GitSource) -> None:
        self._source = source
        self._http = HttpRemote(source, version="") if source.scheme in {"http", "https"} else None

    @contextmanager
    def session(self, deadline: Deadline) -> Iterator[Session]:
        """Make a dulwich client whose connections end with the deadline."""
        with deadline.explaining(f"talking to {self._source.url}"):
            if self._http is None:
                yield _OldSession(self._source, _StreamClient(self._source, deadline), deadline, self._first_words)
                return
            deadline.at_end(self._http.cut)
            self._http.pool.headers = self._http.authorization()
            client = Urllib3HttpGitClient(
                self._source.url, pool_manager=self._http.pool, timeout=deadline.limits.idle_s, thin_packs=True, quiet=True
            )
            yield _OldSession(self._source, client, deadline, self._first_words)

    @contextmanager
    def _first_words(self, deadline: Deadline) -> Iterator[wire.Read]:
        """Give what the server says first, to be read."""
        if self._http is not None:
            with self._http.advertisement("git-upload-pack", deadline) as answer:
                yield answer.read
                answer.drain()
            return
        pipe = open_pipe(self._source, deadline, "git-upload-pack")
        try:
            yield pipe.read
        finally:
            pipe.close()

    def close(self) -> None:
        """Drop kept connections."""
        if self._http is not None:
            self._http.close()


class _StreamClient(TraditionalGitClient):
    def __init__(self, source: GitSource, deadline: Deadline) -> None:
        super().__init__(thin_packs=True, quiet=True)
        self._source, self._deadline = source, deadline

    def _connect(
        self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
    ) -> tuple[DulwichProtocol, Callable[[], bool], IO[bytes] | None]:
        del cmd, path, protocol_version  # one repository, upload-pack, whatever the server speaks
        pipe = open_pipe(self._source, self._deadline, "git-upload-pack")

        def write(data: bytes) -> int:
            pipe.write(data)
            return len(data)

        return DulwichProtocol(pipe.read, write, pipe.close), lambda: False, None


class _OldSession:
    def __init__(self, source: GitSource, client: GitClient, deadline: Deadline, first_words: FirstWords) -> None:
        self._source, self._client, self._deadline, self._first_words = source, client, deadline, first_words
        self._path = unquote(urlsplit(source.url).path).encode()

    def tip(self) -> str:
        with self._first_words(self._deadline) as read:
            counted = wire.counted(read, self._deadline.limits.refs_bytes, "the list of refs is too long", "refs_bytes")
            found, _ = wire.read_advertised(counted, self._source.full_ref)
        return existing(found, self._source)

    def pack(self, want: str, have: str, edge: str = "") -> bytes:
        if edge == want:
            raise FetchError("a server of an old protocol version gives all of the history or none")
        if edge:
            have = ""  # it could not be told what is missing below
        limits, pack = self._deadline.limits, bytearray()

        def keep(data: bytes) -> int:
            nonlocal pack
            pack += data
            if len(pack) > limits.wire_bytes:
                raise over_limit("the remote sends a bigger pack than allowed", limits.wire_bytes, "wire_bytes")
            if len(pack) >= 12:
                check_header(pack, limits)
            return len(data)

        haves = [ObjectID(have.encode())] if have else []
        walker = ObjectStoreGraphWalker(haves, lambda _: [], shallow=set())
        wants = [ObjectID(want.encode())]
        self._client.fetch_pack(
            self._path, lambda *_, **__: wants, walker, keep, ref_prefix=[self._source.full_ref.encode()], progress=lambda _: None
        )
        return bytes(pack)
