"""SSH signatures against ssh-keygen itself, both ways, and parsers that meet hostile bytes."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.errors import RefusedError
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.commits import parse_commit, trailers
from livecfg.trust.signatures import SignatureError, decode, fingerprint, public_line, sign, verify_ssh
from livecfg.trust.tree import TreeFaultError, parse

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [("ed25519", "0"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048"), ("rsa", "3072")]


class Keygen:
    """A key made by ssh-keygen, and what ssh-keygen says of signatures by it."""

    def __init__(self, folder: Path, kind: str, bits: str) -> None:
        self.path = folder / f"{kind}{bits}"
        size = ["-b", bits] if bits != "0" else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "", "-f", self.path], check=True)
        self.public = self.path.with_suffix(".pub").read_text().strip()
        self.signers = folder / f"{kind}{bits}.signers"
        self.signers.write_text(f"ana@acme {self.public}\n")

    def sign(self, payload: bytes, namespace: str = "git", hash_name: str = "sha512") -> bytes:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-O", f"hashalg={hash_name}", "-f", str(self.path)]
        return subprocess.run(command, input=payload, capture_output=True, check=True).stdout

    def accepts(self, signature: bytes, payload: bytes, namespace: str = "git") -> bool:
        path = self.path.with_suffix(".sig")
        path.write_bytes(signature)
        command = ["ssh-keygen", "-Y", "verify", "-f", str(self.signers), "-I", "ana@acme", "-n", namespace, "-s", str(path)]
        return subprocess.run(command, input=payload, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=KEYS, ids="-".join)
def key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Keygen:
    return Keygen(tmp_path_factory.mktemp("keys"), *request.param)


def we_accept(signature: bytes, payload: bytes) -> bool:
    try:
        verify_ssh(signature, payload)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_we_accept_with_the_key_that_made_it(key: Keygen, hash_name: str) -> None:
    blob = verify_ssh(key.sign(b"payload", hash_name=hash_name), b"payload").key
    fingerprints = subprocess.run(["ssh-keygen", "-l", "-f", f"{key.path}.pub"], capture_output=True, check=True, text=True)
    assert fingerprint(blob) in fingerprints.stdout


def test_what_we_sign_ssh_keygen_accepts(key: Keygen) -> None:
    private = load_ssh_private_key(key.path.read_bytes(), None)
    assert key.public.startswith(public_line(private))
    assert key.accepts(sign(private, "git", b"payload"), b"payload")


def test_another_purpose_is_refused(key: Keygen) -> None:
    with pytest.raises(SignatureError, match="another purpose"):
        verify_ssh(key.sign(b"payload", namespace="file"), b"payload")


def test_on_changed_bytes_ssh_keygen_and_we_agree(key: Keygen) -> None:
    payload = b"tree 123\nauthor ana\n\nmessage\n"
    signature = key.sign(payload)
    lines = signature.split(b"\n")
    rng = random.Random(key.public)
    for _ in range(20):
        changed = [bytearray(line) for line in lines]
        line = changed[rng.randrange(1, len(changed) - 2)]
        at = rng.randrange(len(line))
        line[at] = rng.choice(b"ABCDEFGHabcdefgh0123456789+/")
        forged = b"\n".join(map(bytes, changed))
        assert we_accept(forged, payload) == key.accepts(forged, payload), forged
    assert not we_accept(signature, payload + b"\n")
    assert not key.accepts(signature, payload + b"\n")


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    key = Keygen(tmp_path, "rsa", "1024")
    with pytest.raises(SignatureError, match="2048"):
        verify_ssh(key.sign(b"payload"), b"payload")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s + s,
        lambda s: b"\n" + s,
        lambda s: s.replace(b"BEGIN SSH", b"BEGIN PGP"),
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s[:-40],
        lambda s: s.replace(b"-----END", b"AAAA\n-----END"),
        lambda _: b"",
    ],
)
def test_armor_is_read_strictly(key: Keygen, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(SignatureError):
        decode(spoil(key.sign(b"payload")))


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=300))
def test_hostile_bytes_raise_nothing_but_our_own_errors(data: bytes) -> None:
    commit = parse_commit("0" * 40, data)
    trailers(commit.message)
    for read, error in ((decode, SignatureError), (lambda d: parse(d, 20), TreeFaultError)):
        try:
            read(data)
        except error:
            continue
    try:
        parse_allowed_signers(data, "allowed_signers")
    except RefusedError:
        return


@pytest.mark.parametrize(
    "line",
    [
        "ana@acme",
        "ana@acme ssh-ed25519",
        "ana@acme ssh-ed25519 %%%",
        "*@acme {key}",
        "ana@acme,bo@acme {key}",
        '"ana" {key}',
        "*@acme,!bo@acme cert-authority ssh-dss AAAA",
        "!bo@acme cert-authority {key}",
        'ana@acme cert-authority="yes" {key}',
        'ana@acme valid-before="tomorrow" {key}',
        'ana@acme valid-before="20260101" {key}',
        'ana@acme namespaces="git" namespaces="git" {key}',
        "ana@acme ssh-rsa {blob}",
        "bo@acme {key}\nana@acme {key}",
    ],
)
def test_any_malformed_line_makes_the_whole_file_invalid(tmp_path: Path, line: str) -> None:
    key = Keygen(tmp_path, "ed25519", "0")
    text = line.format(key=key.public, blob=key.public.split()[1])
    with pytest.raises(RefusedError) as caught:
        parse_allowed_signers(f"# people\n{text}\n".encode(), "allowed_signers")
    assert caught.value.refusals[0].line >= 2
