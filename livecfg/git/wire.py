"""Git's protocol version 2, as far as a mirror needs it: which commit is a ref at, and one pack for one want and one have.

Bytes only, no sockets: `read(n)` gives up to n bytes, fewer only at the end. See gitprotocol-v2 and gitprotocol-pack.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from livecfg.errors import FetchError
from livecfg.git.faults import over_limit
from livecfg.git.pack import check_header
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.git.source import Limits

    Read = Callable[[int], bytes]

FLUSH, DELIMITER, RESPONSE_END = b"0000", b"0001", b"0002"
VERSION = "version=2"
"""How the wish for version 2 is told; without it every server speaks version 0."""
AGENT = b"agent=livecfg\n"
_PROGRESS_BYTES = 1 << 20
_HEX = frozenset(b"0123456789abcdef")


class OldProtocolError(FetchError):
    """The server does not speak version 2; `fallback` can talk to it."""


def packet(payload: bytes) -> bytes:
    """One pkt-line."""
    return b"%04x" % (len(payload) + 4) + payload


def packets(read: Read) -> Iterator[bytes | None]:
    """Give pkt-lines; None stands for flush, delimiter and response end. Ends with the stream, which must end between two.

    Raises:
        FetchError: the stream is no sequence of pkt-lines, or ends inside one.

    """
    while head := read(4):
        if head in {FLUSH, DELIMITER, RESPONSE_END}:
            yield None
            continue
        try:
            size = int(head, 16)
        except ValueError:
            size = 0
        if len(head) != 4 or not 4 < size <= 65520:
            raise FetchError(f"the remote does not speak Git: expected a packet length, got {head!r}")
        payload = read(size - 4)
        if len(payload) != size - 4:
            raise FetchError("the remote's answer is truncated")
        if payload.startswith(b"ERR "):
            raise FetchError(f"the remote says: {printable(payload[4:204].decode(errors='replace').strip())}")
        yield payload


def counted(read: Read, limit: int, what: str, name: str) -> Read:
    """A `read` that gives up beyond `limit` bytes."""
    left = limit

    def bounded(size: int) -> bytes:
        nonlocal left
        part = read(size)
        left -= len(part)
        if left < 0:
            raise over_limit(what, limit, name)
        return part

    return bounded


class Buffer:
    """Bytes that are here already, behind a `read`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes."""
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return part


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a version 2 server said about itself."""

    object_format: str = "sha1"

    @property
    def id_length(self) -> int:
        """Hexadecimal digits of an object id."""
        return 64 if self.object_format == "sha256" else 40


def _first_line(lines: Iterator[bytes | None]) -> bytes:
    first = next(lines, None)
    if first is not None and first.startswith(b"# service="):
        next(lines, None)  # the flush after smart HTTP's service line
        first = next(lines, None)
    if first is None:
        raise FetchError("the remote hung up without a word")
    return first


def read_capabilities(read: Read) -> Capabilities:
    """Read the capability advertisement.

    Raises:
        OldProtocolError: the server speaks version 0 or 1.
        FetchError: it is no Git server.

    """
    lines = packets(read)
    if _first_line(lines).strip() != b"version 2":
        raise OldProtocolError("the remote speaks an old protocol version")
    form, commands = "sha1", set()
    for line in lines:
        if line is None:
            break
        key, _, value = line.strip().partition(b"=")
        commands.add(key)
        if key == b"object-format":
            form = value.decode("ascii", "replace")
    if not {b"ls-refs", b"fetch"} <= commands:
        raise OldProtocolError("the remote offers neither ls-refs nor fetch")
    if form not in {"sha1", "sha256"}:
        raise FetchError(f"the remote's object format {printable(form)!r} is unknown")
    return Capabilities(form)


def _command(name: bytes, capabilities: Capabilities, *arguments: bytes) -> bytes:
    head = packet(b"command=" + name + b"\n") + packet(AGENT)
    head += packet(b"object-format=" + capabilities.object_format.encode() + b"\n")
    return head + DELIMITER + b"".join(packet(a + b"\n") for a in arguments) + FLUSH


def ls_refs_request(capabilities: Capabilities, ref: str) -> bytes:
    """Ask for one ref only, so that the answer does not grow with the repository's tags."""
    return _command(b"ls-refs", capabilities, b"ref-prefix " + ref.encode())


def read_ref(lines: Iterator[bytes | None], capabilities: Capabilities, ref: str) -> str:
    """Give the id the ref is at, or an empty string; stops at the ref or at the flush.

    Whoever may push makes any number of branches whose names begin like the ref's. Git sorts: its own comes first.
    """
    wanted = ref.encode()
    for line in lines:
        if line is None:
            return ""
        name, full = ref_of(line.rstrip(b"\n"))
        if full == wanted:
            if len(name) != capabilities.id_length:
                raise FetchError(f"the remote names no object id for {ref}")
            return name
    raise FetchError("the remote's answer is truncated")


def ref_of(line: bytes) -> tuple[str, bytes]:
    """Give the id and the name in a line of a list of refs. What is shorter than these could cost a read a byte.

    Raises:
        FetchError: the line has no id at its front.

    """
    name, _, rest = line.partition(b" ")
    if len(name) not in {40, 64} or not _HEX.issuperset(name):
        raise FetchError(f"the remote's list of refs names no object id: {printable(line[:100].decode(errors='replace'))!r}")
    return name.decode("ascii"), rest.partition(b" ")[0]


def skip_section(lines: Iterator[bytes | None]) -> None:
    """Read to the flush, and keep nothing."""
    for line in lines:
        if line is None:
            return
    raise FetchError("the remote's answer is truncated")


def read_advertised(read: Read, ref: str) -> tuple[str, set[bytes]]:
    """Read what a service says first where there is no version 2: every ref. Give the id of one, or an empty string.

    Also gives what the service can do. Nothing else is kept, however many refs there are.
    """
    lines = packets(read)
    first, _, offered = _first_line(lines).partition(b"\0")
    found, wanted = "", ref.encode()
    for line in chain((first,), lines):
        if line is None:
            return found, set(offered.split())
        name, full = ref_of(line.rstrip(b"\n").removeprefix(b"shallow "))
        if full == wanted:
            found = name
    raise FetchError("the remote's list of refs is truncated")


def fetch_request(capabilities: Capabilities, want: str, have: str, edge: str = "") -> bytes:
    """Ask for one pack: `want` without what `have` reaches; no negotiation round.

    What lies below `edge` is not here; where `edge` is what is wanted, it is wanted alone.
    """
    haves = (b"have " + have.encode(),) if have else ()
    edges = (b"deepen 1" if edge == want else b"shallow " + edge.encode(),) if edge else ()
    wants = (b"want " + want.encode(), *haves, *edges)
    return _command(b"fetch", capabilities, b"thin-pack", b"ofs-delta", b"no-progress", *wants, b"done")


def read_pack_answer(read: Read, limits: Limits) -> bytes:
    """Give the pack of a fetch answer, read under caps.

    Raises:
        FetchError: the answer is malformed, truncated, over a cap, or an error of the remote.

    """
    lines = packets(read)
    for line in lines:
        if line is not None and line.strip() == b"packfile":
            break
    else:
        raise FetchError("the remote sent no pack")
    pack, checked, said = bytearray(), False, 0
    for line in lines:
        if line is None:
            break
        band = line[0]
        if band == 1:
            pack += memoryview(line)[1:]
            if len(pack) > limits.wire_bytes:
                raise over_limit("the remote sends a bigger pack than allowed", limits.wire_bytes, "wire_bytes")
            if not checked and len(pack) >= 12:
                check_header(pack, limits)
                checked = True
        elif band == 3:
            raise FetchError(f"the remote says: {printable(line[1:201].decode(errors='replace').strip())}")
        elif band != 2:
            raise FetchError(f"the remote's answer has an unknown band {band}")
        elif (said := said + len(line)) > _PROGRESS_BYTES:  # none was asked for
            raise FetchError(f"the remote sends more than {_PROGRESS_BYTES:,} bytes of progress")
    return bytes(pack)
