"""Which key signs: a key file, or one that the ssh-agent holds; found as git finds it, and loaded before anything is edited."""

from __future__ import annotations

import base64
import binascii
import os
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from livecfg.cli.output import asked_of, fail, may_ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.cli.clone import Clone

F = TypeVar("F", bound="Callable[..., Any]")

_MAGIC = b"openssh-key-v1\0"
_TRIES = 3
LITERAL = ("key::", "ssh-", "ecdsa-", "sk-")  # a public key itself in user.signingkey, as git takes it


class Signer(Protocol):
    """Makes armored SSH signatures; `public` is the raw blob of its key."""

    @property
    def public(self) -> bytes:
        """The raw public key blob."""
        ...

    def sign(self, payload: bytes, namespace: str = "git") -> bytes:
        """Give the armored signature of a payload, good for one namespace."""
        ...


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key that was read from a file."""

    private: Any
    public: bytes

    def sign(self, payload: bytes, namespace: str = "git") -> bytes:
        """Sign with the key itself."""
        from livecfg.trust.signatures import sign

        return sign(self.private, namespace, payload)


def key_option(command: F) -> F:
    """Add --key and, for those who look for it here, --no-input."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            asked_of(ctx).no_input = True

    path = click.Path(path_type=Path, dir_okay=False)
    command = click.option("--no-input", is_flag=True, callback=remember, expose_value=False, help="Never ask for anything.")(
        command
    )
    return click.option("--key", type=path, help="SSH key to sign with; default: LIVECFG_KEY, then Git's user.signingkey.")(
        command
    )


def public_line(signer: Signer) -> str:
    """Give `<type> <base64>` of a signer's key, as allowed_signers wants it."""
    (length,) = struct.unpack(">I", signer.public[:4])
    return f"{signer.public[4 : 4 + length].decode()} {base64.b64encode(signer.public).decode()}"


def public_text(given: str) -> str:
    """Give `<type> <base64>` of a public key, or of the `.pub` file that is named; ends the command when it is neither."""
    text = _read(Path(given).expanduser()).decode(errors="replace") if given.endswith(".pub") else given
    _blob_of(text, given)
    return " ".join(text.split()[:2])


def signing_key(clone: Clone | None, given: Path | None) -> Signer:
    """Find the key to sign with: `--key`, LIVECFG_KEY, or Git's `user.signingkey`; ask for its passphrase on a terminal.

    Raises:
        CommandError: there is none, or it cannot be used; the text says what to give.

    """
    configured = clone.config(("user",), "signingkey") if clone is not None else ""
    name = str(given or "") or os.environ.get("LIVECFG_KEY", "") or configured
    if not name:
        fail("no key to sign with: give --key, set LIVECFG_KEY, or `git config user.signingkey PATH` with gpg.format=ssh")
    if name.startswith(LITERAL):
        return _from_agent(_blob_of(name.removeprefix("key::"), name), name)
    return load_key(Path(name).expanduser())


def load_key(path: Path) -> Signer:
    """Load a key file in OpenSSH's format, private or `.pub`; the agent's where it holds what the file does not give openly."""
    if path.suffix == ".pub":
        blob = _blob_of(_read(path).decode(errors="replace"), str(path))
        beside = path.with_suffix("")
        return load_key(beside) if beside.exists() else _from_agent(blob, str(path))
    return _load_private(path, _read(path))


def _load_private(path: Path, data: bytes) -> Signer:
    """Read the key; the agent first where the file is locked, or is the handle of a security key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    from livecfg.cli.agent import held

    blob, locked = _peek(data)
    if blob is None:
        fail(f"{path} is not an OpenSSH private key (an ed25519, ECDSA or RSA one is expected)")
    if locked and (key := held(blob)) is not None:
        return key
    try:
        return KeyFile(_unlock(path, data) if locked else _parse(data, None), blob)
    except UnsupportedAlgorithm:  # a security key: only the agent can use it
        return _from_agent(blob, str(path))
    except (TypeError, ValueError):
        fail(f"{path} is not an OpenSSH private key that can be used (an ed25519, ECDSA or RSA one is expected)")


def _unlock(path: Path, data: bytes) -> Any:
    advice = f"`ssh-add {path}` and run this with its SSH_AUTH_SOCK, or give another --key"
    if find_spec("bcrypt") is None:
        fail(f"{path} has a passphrase, and reading it needs bcrypt (pip install 'livecfg[cli]'): {advice}")
    if not may_ask():
        fail(f"{path} has a passphrase and nobody can be asked: {advice}")
    for left in range(_TRIES, 0, -1):
        try:
            return _parse(data, click.prompt(f"Passphrase of {path}", hide_input=True, err=True).encode())
        except ValueError:
            click.echo("that is not its passphrase" + ("; try again" if left > 1 else ""), err=True)
    return fail(f"{path} stays locked")


def _parse(data: bytes, passphrase: bytes | None) -> Any:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    return load_ssh_private_key(data, passphrase)


def _peek(data: bytes) -> tuple[bytes | None, bool]:
    """Give the public blob in the open part of a private key file, and whether the rest is encrypted; None: no such file."""
    lines = data.strip().split(b"\n")
    try:
        raw = base64.b64decode(b"".join(line.strip() for line in lines[1:-1]))
        if lines[0].strip() != b"-----BEGIN OPENSSH PRIVATE KEY-----" or not raw.startswith(_MAGIC):
            return None, False
        rest, parts = raw[len(_MAGIC) :], list[bytes]()
        while len(parts) < 4:  # cipher, key derivation, its options, [count of keys] public key
            at = 4 if len(parts) == 3 else 0
            (length,) = struct.unpack(">I", rest[at : at + 4])
            parts.append(rest[at + 4 : at + 4 + length])
            rest = rest[at + 4 + length :]
    except (binascii.Error, struct.error, ValueError, IndexError):
        return None, False
    return parts[3], parts[0] != b"none"


def _from_agent(blob: bytes, name: str) -> Signer:
    from livecfg.cli.agent import held

    key = held(blob)
    if key is None:
        fail(f"the ssh-agent does not hold the key {name}: `ssh-add` it, or give --key with a private key file")
    return key


def _blob_of(text: str, name: str) -> bytes:
    """The key blob of a line `<type> <base64> [comment]`."""
    kind, _, rest = text.strip().partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
        (length,) = struct.unpack(">I", blob[:4])
        named = blob[4 : 4 + length].decode()
    except (ValueError, struct.error):
        named = ""
    return blob if named and named == kind else fail(f"{name} is not a public key (`ssh-ed25519 AAAA…` is expected)")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"cannot read the key {path}: {error.strerror}")
