"""Pushing one ref with compare-and-swap: Git's receive-pack in version 0, which is the only one there is for pushes.

The server is told the old value it must find; a ref that moved is a PushConflictError, never an overwrite.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, PushConflictError
from livecfg.git import wire
from livecfg.git.transport import Deadline, open_pipe
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.git.source import GitSource

    Read = Callable[[int], bytes]
    Exchange = tuple[Read, Callable[[bytes], Read]]

_NEEDED = b"report-status"
_REPORT_BYTES = 1 << 20


def push(source: GitSource, ref: str, old: str, new: str, pack: bytes) -> None:
    """Move `ref` of the remote from `old` (empty: it must not exist) to `new`, whose objects are in `pack`.

    Raises:
        PushConflictError: the ref is not at `old`.
        FetchError: the remote does not answer well or refuses the push; the ref has not moved as far as it said.

    """
    zero = "0" * len(new)
    with (
        Deadline(source.limits) as deadline,
        deadline.explaining(f"pushing to {source.url}"),
        _exchange(source, deadline) as (read, send),
    ):
        counted = wire.counted(read, source.limits.refs_bytes, "the list of refs is too long", "refs_bytes")
        found, capabilities = wire.read_advertised(counted, ref)
        if found != old:
            raise PushConflictError(f"{ref} of {source.url} is at {found[:10] or 'nothing'}; expected {old[:10] or 'nothing'}")
        if _NEEDED not in capabilities:
            raise FetchError("the remote does not report the outcome of pushes")
        wanted = [b"report-status", b"agent=livecfg"]
        if len(new) == 64:
            wanted.append(b"object-format=sha256")
        line = f"{old or zero} {new} {ref}".encode() + b"\0 " + b" ".join(wanted) + b"\n"
        _read_report(send(wire.packet(line) + wire.FLUSH + pack), ref)


@contextmanager
def _exchange(source: GitSource, deadline: Deadline) -> Iterator[Exchange]:
    """Open receive-pack: what the server says first, and a function that sends the request and gives the answer."""
    if source.scheme in {"http", "https"}:
        from livecfg.git.http import HttpRemote  # noqa: PLC0415 - urllib3 only when it is used

        remote = HttpRemote(source)
        deadline.at_end(remote.cut)
        try:
            with remote.advertisement("git-receive-pack", deadline) as first:

                def send(data: bytes) -> Read:
                    first.drain()
                    with remote.command("git-receive-pack", data, deadline) as answer:
                        whole = wire.Buffer(answer.read(_REPORT_BYTES))
                    return whole.read

                yield first.read, send
        finally:
            remote.close()
        return
    pipe = open_pipe(source, deadline, "git-receive-pack")

    def write(data: bytes) -> Read:
        pipe.write(data)
        return pipe.read

    try:
        yield pipe.read, write
    finally:
        pipe.close()


def _read_report(read: Read, ref: str) -> None:
    unpacked, outcome = "", ""
    for line in wire.packets(read):
        if line is None:
            break
        word, _, rest = line.decode(errors="replace").strip().partition(" ")
        if word == "unpack":
            unpacked = rest
        elif word in {"ok", "ng"} and rest.partition(" ")[0] == ref:
            outcome = "ok" if word == "ok" else rest.partition(" ")[2] or "no reason given"
    if unpacked != "ok":
        raise FetchError(f"the remote could not unpack the push: {printable(unpacked) or 'no report'}")
    if outcome == "ok":
        return
    # What git says when another push came between our look and our swap.
    if any(
        sign in outcome
        for sign in ("failed to update ref", "failed to lock", "fetch first", "incorrect old value", "cannot lock")
    ):
        raise PushConflictError(f"{ref} moved while pushing: {printable(outcome)}")
    raise FetchError(f"the remote refuses the push of {ref}: {printable(outcome) or 'no report'}")
