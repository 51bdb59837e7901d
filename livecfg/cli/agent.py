"""The ssh-agent, spoken to over its Unix socket: which keys it holds, and signatures by them.

The protocol is draft-ietf-sshm-ssh-agent: a message is a 32-bit length, a type byte and a body; texts are length-prefixed.
Keys stay in the agent, so that a key with a passphrase or on a security key signs without being read.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
from dataclasses import dataclass

from livecfg.errors import LivecfgError

_FAILURE, _LIST, _LISTED, _SIGN, _SIGNED = 5, 11, 12, 13, 14
_RSA_SHA2_512 = 4  # without this flag an agent signs with SHA-1, which nobody accepts
_LARGEST_REPLY = 256 * 1024
_TIMEOUT_S = 60.0  # somebody may have to touch a security key or to confirm on the screen


class AgentError(LivecfgError):
    """The agent is not there, holds no such key, or refused to sign."""


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key that the agent holds, by its public blob; a signer like a key file."""

    public: bytes

    def sign(self, payload: bytes, namespace: str = "git") -> bytes:
        """Have the agent sign for a namespace; give the armored block.

        Raises:
            AgentError: it refused, for example since nobody touched the security key.

        """
        from livecfg.trust.signatures import signed_data

        flags = _RSA_SHA2_512 if _text(self.public)[0] == b"ssh-rsa" else 0
        name = namespace.encode()
        request = _string(self.public) + _string(signed_data(name, b"sha512", payload)) + struct.pack(">I", flags)
        kind, body = _ask(_SIGN, request)
        if kind != _SIGNED:
            raise AgentError("the ssh-agent refused to sign (was the key confirmed or touched?)")
        parts = (self.public, name, b"", b"sha512", _text(body)[0])
        whole = base64.b64encode(b"SSHSIG" + struct.pack(">I", 1) + b"".join(map(_string, parts)))
        lines = [whole[at : at + 70] for at in range(0, len(whole), 70)]
        return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


def held(public: bytes) -> AgentKey | None:
    """Give the key when the agent holds it; None when it does not, or there is no agent."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return None
    try:
        kind, body = _ask(_LIST, b"")
        if kind != _LISTED:
            return None
        count, rest = struct.unpack(">I", body[:4])[0], body[4:]
        for _ in range(count):
            blob, rest = _text(rest)
            _, rest = _text(rest)  # its comment
            if blob == public:
                return AgentKey(public)
    except (AgentError, struct.error):
        return None
    return None


def _ask(kind: int, body: bytes) -> tuple[int, bytes]:
    """Send one message and give the type and body of the answer."""
    path = os.environ.get("SSH_AUTH_SOCK", "")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(_TIMEOUT_S)
            agent.connect(path)
            agent.sendall(_string(bytes([kind]) + body))
            (length,) = struct.unpack(">I", _take(agent, 4))
            if not 0 < length <= _LARGEST_REPLY:
                raise AgentError(f"the ssh-agent at {path} gave a malformed answer")
            answer = _take(agent, length)
    except OSError as error:
        raise AgentError(f"the ssh-agent at {path} does not answer: {error.strerror or error}") from None
    return answer[0], answer[1:]


def _take(agent: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = agent.recv(count - len(data))
        if not more:
            raise AgentError("the ssh-agent closed the connection")
        data += more
    return data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _text(data: bytes) -> tuple[bytes, bytes]:
    """Split one length-prefixed text off."""
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise AgentError("the ssh-agent gave a malformed answer")
    return data[4 : 4 + length], data[4 + length :]
