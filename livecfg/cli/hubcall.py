"""Ask a hub something, with the credentials that the environment names; what goes wrong ends the command in one line."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from livecfg.cli.output import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc
    from google.protobuf.message import Message

    from livecfg.hub._pb import hub_pb2

    Metadata = tuple[tuple[str, str], ...]

R = TypeVar("R", bound="Message")
A = TypeVar("A", "hub_pb2.FleetReply", "hub_pb2.CountsReply")
_ANSWER_S = 30.0
_ANSWER_BYTES = 256 << 20

hub_option = click.option("--hub", default="", help="host:port of the hub; default: LIVECFG_HUB or 127.0.0.1:7443.")


def ask(hub: str, method: str, request: Message, reply: type[A], timeout_s: float = _ANSWER_S) -> A:
    """Give the one answer to a question.

    Raises:
        CommandError: the hub cannot be reached, does not answer this caller, or does not come to an end.

    """
    for answer in answers(watch(hub, method, request, reply, timeout_s)):
        return answer
    raise CommandError(f"the hub at {_address(hub)} did not answer within {timeout_s:g} s", Exit.UNREACHABLE)


def answers(replies: Iterator[A]) -> Iterator[A]:
    """Put the replies of each answer together.

    Raises:
        CommandError: an answer does not end.

    """
    whole, size = None, 0
    for reply in replies:
        size += reply.ByteSize()
        if size > _ANSWER_BYTES:
            raise CommandError("the hub's answer is larger than 256 MiB; ask with --service or --env", Exit.UNREACHABLE)
        if whole is None:
            whole = reply
        else:
            whole.MergeFrom(reply)
        if not reply.more:
            yield whole
            whole, size = None, 0


def watch(hub: str, method: str, request: Message, reply: type[R], timeout_s: float) -> Iterator[R]:
    """Give every reply until the time is up.

    Raises:
        CommandError: the hub cannot be reached, or does not answer this caller.

    """

    def many(channel: grpc.Channel, path: str, metadata: Metadata) -> Iterator[R]:
        call = channel.unary_stream(path, type(request).SerializeToString, reply.FromString)
        with _interrupts_after():
            answers = call(request, timeout=timeout_s, metadata=metadata)
        yield from answers

    yield from _called(hub, method, many)


def _called(hub: str, method: str, call: Callable[[grpc.Channel, str, Metadata], Iterator[R]]) -> Iterator[R]:
    import grpc

    from livecfg.environment import read_environment
    from livecfg.hub import wire
    from livecfg.hub.link import Identity, open_channel

    address, env = _address(hub), read_environment(os.environ)
    identity = Identity(env.hub_ca, env.hub_certificate, env.hub_key, env.hub_token)
    with open_channel(address, identity) as channel:
        try:
            yield from call(channel, f"/{wire.SERVICE}/{method}", identity.metadata)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _refused(address, error.code()) from None


@contextmanager
def _interrupts_after() -> Iterator[None]:
    """Let Ctrl-C wait until a call has begun.

    A channel's close() waits for the thread that ends the channel's calls; an interrupt between a call and the start of that
    thread would have it wait for ever.
    """
    met: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: met.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if met:
        signal.raise_signal(signal.SIGINT)


def _refused(address: str, code: grpc.StatusCode) -> CommandError:
    import grpc

    name = code.name.lower().replace("_", " ")
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        advice = "LIVECFG_HUB_TOKEN or LIVECFG_HUB_CERT and LIVECFG_HUB_KEY say who you are"
        return CommandError(f"the hub at {address} does not answer this caller ({name}); {advice}", Exit.UNREACHABLE)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return CommandError(
            f"the hub at {address} is asked too much at once, or its answer is too large; try again", Exit.UNREACHABLE
        )
    advice = "start one with `livecfg hub serve`, or give --hub"
    return CommandError(f"the hub at {address} cannot be reached ({name}); {advice}", Exit.UNREACHABLE)


def _address(hub: str) -> str:
    return hub or os.environ.get("LIVECFG_HUB", "") or "127.0.0.1:7443"
