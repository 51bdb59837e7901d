"""SSH signatures (SSHSIG, PROTOCOL.sshsig of OpenSSH): verify, and sign for the writer.

Strict: one armored block, version 1, the namespace asked for, `reserved` empty, sha256 or sha512, no trailing bytes, the key
compared as a raw blob. Key types are the rows of `keys.KINDS`; certificates are `certificates`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livecfg.trust.certificates import Certificate, is_certificate, parse_certificate
from livecfg.trust.keys import KINDS, Key, parse_key
from livecfg.trust.wire import Reader, SignatureError, mpint, string

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_HASHES: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"sha256": lambda data: hashlib.sha256(data).digest(),
    b"sha512": lambda data: hashlib.sha512(data).digest(),
}
MAX_ARMOR_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SshSignature:
    """A decoded signature: the key blob it claims, and what must be checked with it."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """What a signature that holds proves: the raw blob of the key, its certificate if it came with one, presence and PIN."""

    key: bytes
    certificate: Certificate | None = None
    touch: bool = False
    pin: bool = False


def decode(armored: bytes) -> SshSignature:
    """Decode one armored signature, strictly.

    Raises:
        SignatureError: it is not exactly one well-formed block.

    """
    if len(armored) > MAX_ARMOR_BYTES:
        raise SignatureError("the signature is too large")
    lines = armored.removesuffix(b"\n").split(b"\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END or any(not 0 < len(line) <= 76 for line in lines[1:-1]):
        raise SignatureError("not an SSH signature block")
    text = b"".join(lines[1:-1])
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("not base64") from None
    if base64.b64encode(raw) != text:
        raise SignatureError("not canonical base64")
    reader = Reader(raw)
    if reader.take(6) != _MAGIC or reader.number() != 1:
        raise SignatureError("not version 1 of SSHSIG")
    key, namespace, reserved, hash_name, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved:
        raise SignatureError("the reserved field is not empty")
    if hash_name not in _HASHES:
        raise SignatureError("an unknown hash")
    return SshSignature(key, namespace, hash_name, signature)


def armor(public_blob: bytes, namespace: bytes, hash_name: bytes, signature_blob: bytes) -> bytes:
    """Wrap a raw SSH signature over `signed_data`, as an ssh-agent gives it, into an armored block."""
    parts = (public_blob, namespace, b"", hash_name, signature_blob)
    whole = base64.b64encode(_MAGIC + struct.pack(">I", 1) + b"".join(map(string, parts)))
    lines = [whole[at : at + 70] for at in range(0, len(whole), 70)]
    return b"\n".join([_BEGIN, *lines, _END, b""])


def signed_data(namespace: bytes, hash_name: bytes, payload: bytes) -> bytes:
    """Give the bytes that an SSHSIG signature is over."""
    return _MAGIC + b"".join(map(string, (namespace, b"", hash_name, _HASHES[hash_name](payload))))


def verify_ssh(armored: bytes, payload: bytes, namespace: bytes = b"git") -> Proof:
    """Check a signature over `payload`; tell which key made it. Whose key that is, and when it holds, the caller decides.

    Of a certificate only its own form and the signature of its authority are checked here, not who the authority is.

    Raises:
        SignatureError: it does not hold.

    """
    return check(decode(armored), payload, namespace)


def check(found: SshSignature, payload: bytes, namespace: bytes = b"git") -> Proof:
    """Check a decoded signature over `payload`, as `verify_ssh` does.

    Raises:
        SignatureError: it does not hold.

    """
    if found.namespace != namespace:
        raise SignatureError("signed for another purpose (namespace)")
    key, certificate = _claimed(found.key)
    flags = key.check(found.signature, signed_data(found.namespace, found.hash_name, payload))
    return Proof(found.key, certificate, touch=bool(flags & 1), pin=bool(flags & 4))


def _claimed(blob: bytes) -> tuple[Key, Certificate | None]:
    """The key that must have signed: the blob's own, or the one that a certificate speaks of."""
    if not is_certificate(blob):
        return parse_key(blob), None
    certificate = parse_certificate(blob)
    return certificate.key, certificate


def fingerprint(key: bytes) -> str:
    """Give the key's SHA-256 fingerprint as OpenSSH writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def public_blob(private_key: Any) -> bytes:
    """Give the raw public key blob of a private key of `cryptography`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - loaded with the first key

    line = private_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def public_line(private_key: Any) -> str:
    """Give `<type> <base64>` of a private key, as allowed_signers wants it."""
    blob = public_blob(private_key)
    return f"{Reader(blob).string().decode()} {base64.b64encode(blob).decode()}"


def sign(private_key: Any, namespace: str, payload: bytes) -> bytes:
    """Sign with a private key of `cryptography` (ed25519, ECDSA, RSA); give the armored block.

    Raises:
        SignatureError: another kind of key.

    """
    name = namespace.encode()
    return armor(public_blob(private_key), name, b"sha512", sign_blob(private_key, signed_data(name, b"sha512", payload)))


def sign_blob(private_key: Any, data: bytes) -> bytes:
    """Give the raw SSH signature over `data`, as an ssh-agent would.

    Raises:
        SignatureError: another kind of key than ed25519, ECDSA or RSA.

    """
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415 - as above

    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return string(b"ssh-ed25519") + string(private_key.sign(data))
    if isinstance(private_key, rsa.RSAPrivateKey):
        return string(b"rsa-sha2-512") + string(private_key.sign(data, PKCS1v15(), hashes.SHA512()))
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        algorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[private_key.curve.key_size]
        r, s = decode_dss_signature(private_key.sign(data, ec.ECDSA(algorithm)))
        return string(Reader(public_blob(private_key)).string()) + string(mpint(r) + mpint(s))
    raise SignatureError(f"cannot sign with a {type(private_key).__name__}")


__all__ = [
    "KINDS",
    "Proof",
    "SignatureError",
    "SshSignature",
    "armor",
    "check",
    "decode",
    "fingerprint",
    "public_blob",
    "public_line",
    "sign",
    "sign_blob",
    "signed_data",
    "verify_ssh",
]
