"""SSH signatures (SSHSIG, PROTOCOL.sshsig of OpenSSH) over `cryptography`: verify, and sign for the writer.

Strict: one armored block, version 1, the namespace asked for, `reserved` empty, sha256 or sha512, no trailing bytes, the key
compared as a raw blob. A signature kind is a row of KINDS.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_HASHES: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"sha256": lambda data: hashlib.sha256(data).digest(),
    b"sha512": lambda data: hashlib.sha512(data).digest(),
}
MAX_ARMOR_BYTES = 16 * 1024


class SignatureError(Exception):
    """A signature that is malformed or wrong; the text says why."""


@dataclass(frozen=True, slots=True)
class SshSignature:
    """A decoded signature: the key blob it claims, and what must be checked with it."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    kind: bytes
    signature: bytes


class _Reader:
    """Length-prefixed strings of the SSH wire format (RFC 4251 §5)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise SignatureError("truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self.at != len(self.data):
            raise SignatureError("trailing bytes")

    def mpint(self) -> int:
        raw = self.string()
        if not raw or raw[0] & 0x80 or (raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80)):
            raise SignatureError("a number that is not canonical")
        return int.from_bytes(raw, "big")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def decode(armored: bytes) -> SshSignature:
    """Decode one armored signature, strictly.

    Raises:
        SignatureError: it is not exactly one well-formed block.

    """
    if len(armored) > MAX_ARMOR_BYTES:
        raise SignatureError("the signature is too large")
    lines = armored.rstrip(b"\n").split(b"\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END or any(len(line) > 76 for line in lines[1:-1]):
        raise SignatureError("not an SSH signature block")
    try:
        raw = base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("not base64") from None
    reader = _Reader(raw)
    if reader.take(6) != _MAGIC or reader.number() != 1:
        raise SignatureError("not version 1 of SSHSIG")
    key, namespace, reserved, hash_name, blob = (reader.string() for _ in range(5))
    reader.end()
    if reserved:
        raise SignatureError("the reserved field is not empty")
    if hash_name not in _HASHES:
        raise SignatureError("an unknown hash")
    inner = _Reader(blob)
    kind, signature = inner.string(), inner.take(len(blob) - inner.at)
    return SshSignature(key, namespace, hash_name, kind, signature)


def signed_data(namespace: bytes, hash_name: bytes, payload: bytes) -> bytes:
    """Give the bytes that an SSHSIG signature is over."""
    return _MAGIC + b"".join(map(_string, (namespace, b"", hash_name, _HASHES[hash_name](payload))))


def verify_ssh(armored: bytes, payload: bytes, namespace: bytes = b"git") -> bytes:
    """Check a signature over `payload`; give the key blob that made it. Whose key that is, the caller decides.

    Raises:
        SignatureError: it does not hold.

    """
    found = decode(armored)
    if found.namespace != namespace:
        raise SignatureError("signed for another purpose (namespace)")
    key_kind = _Reader(found.key).string()
    row = KINDS.get(key_kind)
    if row is None:
        raise SignatureError("a key type that is not supported")
    row(found, signed_data(found.namespace, found.hash_name, payload))
    return found.key


def _one_string(found: SshSignature) -> bytes:
    reader = _Reader(found.signature)
    value = reader.string()
    reader.end()
    return value


def _key_string(found: SshSignature) -> _Reader:
    reader = _Reader(found.key)
    reader.string()
    return reader


def _ed25519(found: SshSignature, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - loaded with the first signature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    reader = _key_string(found)
    public = reader.string()
    reader.end()
    signature = _one_string(found)
    if found.kind != b"ssh-ed25519" or len(public) != 32 or len(signature) != 64:
        raise SignatureError("a malformed ed25519 signature")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature does not match the commit") from None


def _rsa(found: SshSignature, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers  # noqa: PLC0415 - as above

    reader = _key_string(found)
    e, n = reader.mpint(), reader.mpint()
    reader.end()
    algorithms = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
    algorithm = algorithms.get(found.kind)
    if algorithm is None:
        raise SignatureError("an RSA signature must be rsa-sha2-256 or rsa-sha2-512")
    if n.bit_length() < 2048 or n.bit_length() > 16384:
        raise SignatureError("an RSA key must have 2048 to 16384 bits")
    signature = _one_string(found)
    if len(signature) != (n.bit_length() + 7) // 8:
        raise SignatureError("a malformed RSA signature")
    try:
        RSAPublicNumbers(e, n).public_key().verify(signature, data, PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature does not match the commit") from None


def _ecdsa(found: SshSignature, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415 - as above

    curves: dict[bytes, tuple[ec.EllipticCurve, Any]] = {
        b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
        b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
        b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
    }
    reader = _key_string(found)
    name, point = reader.string(), reader.string()
    reader.end()
    if name not in curves or found.kind != b"ecdsa-sha2-" + name or not found.key[4:].startswith(found.kind):
        raise SignatureError("a malformed ECDSA key")
    curve, algorithm = curves[name]
    inner = _Reader(_one_string(found))
    r, s = inner.mpint(), inner.mpint()
    inner.end()
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature does not match the commit") from None


KINDS: dict[bytes, Callable[[SshSignature, bytes], None]] = {
    b"ssh-ed25519": _ed25519,
    b"ssh-rsa": _rsa,
    b"ecdsa-sha2-nistp256": _ecdsa,
    b"ecdsa-sha2-nistp384": _ecdsa,
    b"ecdsa-sha2-nistp521": _ecdsa,
}


def fingerprint(key: bytes) -> str:
    """Give the key's SHA-256 fingerprint as OpenSSH writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def public_blob(private_key: Any) -> bytes:
    """Give the raw public key blob of a private key of `cryptography`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - as above

    line = private_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def public_line(private_key: Any) -> str:
    """Give `<type> <base64>` of a private key, as allowed_signers wants it."""
    blob = public_blob(private_key)
    return f"{_Reader(blob).string().decode()} {base64.b64encode(blob).decode()}"


def sign(private_key: Any, namespace: str, payload: bytes) -> bytes:
    """Sign with a private key of `cryptography` (ed25519, ECDSA, RSA); give the armored block.

    Raises:
        SignatureError: another kind of key.

    """
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415 - as above

    data = signed_data(namespace.encode(), b"sha512", payload)
    blob = public_blob(private_key)
    kind = _Reader(blob).string()
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        raw = private_key.sign(data)
    elif isinstance(private_key, rsa.RSAPrivateKey):
        kind, raw = b"rsa-sha2-512", private_key.sign(data, PKCS1v15(), hashes.SHA512())
    elif isinstance(private_key, ec.EllipticCurvePrivateKey):
        algorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[private_key.curve.key_size]
        r, s = decode_dss_signature(private_key.sign(data, ec.ECDSA(algorithm)))
        raw = _mpint(r) + _mpint(s)
    else:
        raise SignatureError(f"cannot sign with a {type(private_key).__name__}")
    parts = (blob, namespace.encode(), b"", b"sha512", _string(kind) + _string(raw))
    whole = base64.b64encode(_MAGIC + struct.pack(">I", 1) + b"".join(map(_string, parts)))
    lines = [whole[at : at + 70] for at in range(0, len(whole), 70)]
    return b"\n".join([_BEGIN, *lines, _END, b""])


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))
