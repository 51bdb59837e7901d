"""Signing through a real ssh-agent: the private key never leaves it."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livecfg.cli.agent import held
from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SET = ("set", "a", "1", "--service", "checkout", "--env", "prod")


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An agent in the foreground, answering on a socket of its own."""
    path = tmp_path_factory.mktemp("a") / "s"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()  # it listens once it has said where
        yield {"SSH_AUTH_SOCK": str(path)}
        running.terminate()


def hold(agent: dict[str, str], key: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], env=os.environ | agent, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("named", ["public file", "literal", "key::literal"])
def test_a_key_that_only_the_agent_holds_signs(desk: Desk, agent: dict[str, str], kind: str, named: str) -> None:
    private = desk.key("bo", kind)
    public = desk.path / "bo.pub"
    hold(agent, private)
    desk.run("keys", "add", "bo@acme", str(public))
    private.unlink()
    line = public.read_text().strip()
    desk.git("config", "user.signingkey", {"public file": str(public), "literal": line, "key::literal": f"key::{line}"}[named])
    desk.run(*SET, **agent)
    assert 'Good "git" signature for bo@acme' in desk.git("log", "-1", "--show-signature")
    assert desk.json("log", "-n", "1")["data"][0]["signer"] == "bo@acme"
    desk.run("verify")


def test_a_locked_key_file_is_signed_for_by_the_agent_without_a_question(desk: Desk, agent: dict[str, str]) -> None:
    open_key = desk.key("bo")
    hold(agent, open_key)
    desk.run("keys", "add", "bo@acme", f"{open_key}.pub")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-P", "", "-f", str(open_key)], check=True, capture_output=True)
    desk.run(*SET, "--key", str(open_key), **agent)
    assert desk.json("log", "-n", "1")["data"][0]["signer"] == "bo@acme"
    desk.run("set", "a", "2", "--key", str(open_key), code=2)
    assert "ssh-add" in desk.talk


def test_an_agent_without_the_key_or_without_an_answer_is_said(desk: Desk, agent: dict[str, str]) -> None:
    before = desk.state()
    public = f"{desk.key('eve')}.pub"
    desk.key("eve").unlink()
    for environ in (agent, {}, {"SSH_AUTH_SOCK": "/nonexistent"}):
        desk.run(*SET, "--key", public, code=2, **environ)
        assert "the ssh-agent does not hold the key" in desk.talk
    assert desk.state() == before
    assert not (desk.conf / PROD).exists()


def test_an_agent_that_refuses_leaves_everything_as_it_was(desk: Desk, agent: dict[str, str]) -> None:
    private = desk.key("bo")
    subprocess.run(["ssh-add", "-q", "-c", str(private)], env=os.environ | agent, check=True, capture_output=True)
    desk.run("keys", "add", "bo@acme", f"{private}.pub")
    private.unlink()
    before = desk.state()
    environ = agent | {"SSH_ASKPASS": "/bin/false", "DISPLAY": ""}  # it wants somebody to confirm and there is nobody
    desk.run(*SET, "--key", f"{private}.pub", code=2, **environ)
    assert "refused to sign" in desk.talk
    assert desk.state() == before


def test_a_security_key_s_signature_passes_through_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Ed25519PrivateKey.generate()
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    blob = b"".join(map(_string, (kind, device.public_key().public_bytes_raw(), application)))

    def answer(request: bytes) -> bytes:
        if request == b"\x0b":  # which keys are there?
            return b"\x0c" + struct.pack(">I", 1) + _string(blob) + _string(b"a key to touch")
        (length,) = struct.unpack(">I", request[5 + len(blob) : 9 + len(blob)])
        data = request[9 + len(blob) : 9 + len(blob) + length]
        seen = b"\x01" + struct.pack(">I", 7)  # it was touched; the seventh signature
        signature = device.sign(hashlib.sha256(application).digest() + seen + hashlib.sha256(data).digest())
        return b"\x0e" + _string(_string(kind) + _string(signature) + seen)

    with _Answering(tmp_path / "s", answer) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        key = held(blob)
        assert key is not None
        (tmp_path / "sig").write_bytes(key.sign(b"payload"))
    signers = tmp_path / "signers"
    signers.write_text(f"bo@acme {kind.decode()} {base64.b64encode(blob).decode()}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "bo@acme", "-n", "git", "-s", str(tmp_path / "sig")]
    subprocess.run(verify, input=b"payload", check=True, capture_output=True)


@pytest.mark.parametrize("reply", [b"", b"\x0c", b"\x0c\0\0\0\1", b"\x0c\0\0\0\1\xff\xff\xff\xff", b"\x05"])
def test_an_agent_that_talks_nonsense_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    with _Answering(tmp_path / "s", lambda _: reply) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert held(b"blob") is None


class _Answering:
    """A socket that answers each message as it is told: a security key's agent without the hardware."""

    def __init__(self, path: Path, answer: Callable[[bytes], bytes]) -> None:
        self.path, self.answer = str(path), answer
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        self.thread.start()
        return self.path

    def __exit__(self, *_: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as words:
                (length,) = struct.unpack(">I", words.read(4))
                connection.sendall(_string(self.answer(words.read(length))))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
