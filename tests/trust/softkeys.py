"""Keys, signatures and certificates of every kind, made field by field, so that each field can be made wrong."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from livecfg.trust.signatures import armor, signed_data
from livecfg.trust.wire import mpint, string

KINDS = ("ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "rsa3072", "sk-ed25519", "sk-ecdsa")
_CURVES = {
    "256": (ec.SECP256R1(), hashes.SHA256()),
    "384": (ec.SECP384R1(), hashes.SHA384()),
    "521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES = {
    b"ssh-rsa": hashes.SHA1(),  # noqa: S303 - made to be refused
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
}
FOREVER = 2**64 - 1


@dataclass(frozen=True)
class SoftKey:
    """A key pair; `name` is its type in a blob, `fields` are what follows it there, already encoded."""

    kind: str
    name: bytes
    fields: bytes
    private: Any
    application: bytes = b"ssh:"

    @property
    def blob(self) -> bytes:
        return string(self.name) + self.fields

    @property
    def line(self) -> str:
        return f"{self.name.decode()} {base64.b64encode(self.blob).decode()}"

    def raw(self, data: bytes, *, algorithm: bytes = b"rsa-sha2-512", flags: int = 1, counter: int = 7) -> bytes:
        """A raw SSH signature; `algorithm` is for RSA, `flags` and `counter` for security keys."""
        if not self.kind.startswith("sk-"):
            name, value = self._plain(data, algorithm)
            return string(name) + string(value)
        tail = bytes([flags]) + struct.pack(">I", counter)
        attested = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(data).digest()
        return string(self.name) + string(self._plain(attested, algorithm)[1]) + tail

    def _plain(self, data: bytes, algorithm: bytes) -> tuple[bytes, bytes]:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.name, self.private.sign(data)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return algorithm, self.private.sign(data, PKCS1v15(), _RSA_HASHES[algorithm])
        algorithm_of_curve = _CURVES[str(self.private.curve.key_size)][1]
        r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(algorithm_of_curve)))
        return self.name, mpint(r) + mpint(s)

    def sign(self, payload: bytes, *, namespace: bytes = b"git", hash_name: bytes = b"sha512", **how: Any) -> bytes:
        """An armored signature."""
        return armor(self.blob, namespace, hash_name, self.raw(signed_data(namespace, hash_name, payload), **how))


@cache
def soft_key(kind: str, number: int = 0) -> SoftKey:
    """The key of a kind and number: the same at every run, but for RSA."""
    seed = hashlib.sha256(f"{kind} {number}".encode()).digest()
    if kind.endswith("ed25519"):
        private: Any = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        fields = string(private.public_key().public_bytes_raw())
    elif kind.startswith("rsa"):
        private = rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))
        numbers = private.public_key().public_numbers()
        fields = mpint(numbers.e) + mpint(numbers.n)
    else:
        bits = kind.removeprefix("ecdsa") if kind.startswith("ecdsa") else "256"
        private = ec.derive_private_key(int.from_bytes(seed), _CURVES[bits][0])
        numbers = private.public_key().public_numbers()
        size = (int(bits) + 7) // 8
        fields = string(b"nistp" + bits.encode()) + string(b"\4" + numbers.x.to_bytes(size) + numbers.y.to_bytes(size))
    if kind.startswith("sk-"):
        fields += string(b"ssh:")
    return SoftKey(kind, _name(kind), fields, private)


def _name(kind: str) -> bytes:
    if kind.startswith("rsa"):
        return b"ssh-rsa"
    if kind.startswith("ecdsa"):
        return b"ecdsa-sha2-nistp" + kind.removeprefix("ecdsa").encode()
    return {
        "ed25519": b"ssh-ed25519",
        "sk-ed25519": b"sk-ssh-ed25519@openssh.com",
        "sk-ecdsa": b"sk-ecdsa-sha2-nistp256@openssh.com",
    }[kind]


@dataclass(frozen=True)
class SoftCertificate:
    """A certificate of `key` by `authority`; every field may be made wrong, `spoil` changes the signature of the authority."""

    key: SoftKey
    authority: SoftKey
    principals: tuple[bytes, ...] = (b"ana@acme",)
    purpose: int = 1
    valid_after: int = 0
    valid_before: int = FOREVER
    critical: tuple[tuple[bytes, bytes], ...] = ()
    extensions: tuple[tuple[bytes, bytes], ...] = ()
    reserved: bytes = b""
    nonce: bytes = b"n" * 32
    how: dict[str, Any] = field(default_factory=dict)
    raw_critical: bytes | None = None
    authority_blob: bytes = b""
    trailing: bytes = b""

    @property
    def name(self) -> bytes:
        return self.key.name.removesuffix(b"@openssh.com") + b"-cert-v01@openssh.com"

    @property
    def blob(self) -> bytes:
        critical = _options(self.critical) if self.raw_critical is None else self.raw_critical
        signed = (
            string(self.name)
            + string(self.nonce)
            + self.key.fields
            + struct.pack(">QI", 1, self.purpose)
            + string(b"key id")
            + string(b"".join(map(string, self.principals)))
            + struct.pack(">QQ", self.valid_after, self.valid_before)
            + string(critical)
            + string(_options(self.extensions))
            + string(self.reserved)
            + string(self.authority_blob or self.authority.blob)
        )
        return signed + string(self.authority.raw(signed, **self.how)) + self.trailing

    def sign(self, payload: bytes, **how: Any) -> bytes:
        data = signed_data(b"git", b"sha512", payload)
        return armor(self.blob, b"git", b"sha512", self.key.raw(data, **how))


def _options(options: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(string(name) + string(value) for name, value in options)
