"""SSH public keys: one table of the types that may sign, each with the shape of its blob and its check.

A security key signs SHA256(application) ‖ flags ‖ counter ‖ SHA256(data) and says in its flags whether somebody touched it (1)
and gave its PIN (4); OpenSSH itself accepts both bits unset, so what a rule needs is decided above.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from livecfg.trust.wire import Reader, SignatureError, positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384
_KEYS_MOST = 256
"""How many keys of each type stay made: a history is signed by few people, and making a key may cost more than its check."""
_BLOBS_MOST = 64
"""How many raw keys stay parsed: few, since whoever can push may make each of them 16 KiB long."""
_CURVE_BYTES = {b"nistp256": 32, b"nistp384": 48, b"nistp521": 66}


@dataclass(frozen=True, slots=True)
class Kind:
    """One key type: how many strings follow its name in a blob, what it says of their form, and how a signature is checked.

    `bits` gives the size of the key and raises SignatureError for a malformed one. `check` takes the strings, the rest of the
    signature after its own name, and the signed data; it gives the flags of a security key, or 0.
    """

    fields: int
    signatures: tuple[bytes, ...]
    bits: Callable[[tuple[bytes, ...]], int]
    check: Callable[[tuple[bytes, ...], bytes, Reader, bytes], int]


@dataclass(frozen=True, slots=True)
class Key:
    """A well-formed public key of one of KINDS."""

    kind: bytes
    fields: tuple[bytes, ...]
    bits: int

    def check(self, signature: bytes, data: bytes) -> int:
        """Check a raw SSH signature over `data`; give the flags of a security key, or 0.

        Raises:
            SignatureError: it does not hold.

        """
        reader = Reader(signature)
        name, row = reader.string(), KINDS[self.kind]
        if name not in row.signatures:
            raise SignatureError("a signature of another type than its key")
        return row.check(self.fields, name, reader, data)


@lru_cache(_BLOBS_MOST)
def parse_key(blob: bytes) -> Key:
    """Read a raw public key blob.

    Raises:
        SignatureError: it is of no type of KINDS, malformed, or too short.

    """
    reader = Reader(blob)
    key = read_key(reader.string(), reader)
    reader.end()
    return key


def read_key(kind: bytes, reader: Reader) -> Key:
    """Read the fields of a key whose type is known, and no more.

    Raises:
        SignatureError: as in `parse_key`.

    """
    row = KINDS.get(kind)
    if row is None:
        raise SignatureError("a key type that is not supported")
    fields = tuple(reader.string() for _ in range(row.fields))
    return Key(kind, fields, row.bits(fields))


def key_bits(blob: bytes) -> int:
    """Give the size of a raw public key in bits: of an RSA modulus, or of a curve (256, 384, 521).

    Raises:
        SignatureError: it is not a key that may sign.

    """
    return parse_key(blob).bits


_MISMATCH = "the signature does not match what was signed"


def _ed25519_bits(fields: tuple[bytes, ...]) -> int:
    if len(fields[0]) != 32:
        raise SignatureError("a malformed ed25519 key")
    return 256


def _ed25519(fields: tuple[bytes, ...], _: bytes, reader: Reader, data: bytes) -> int:
    signature = reader.string()
    reader.end()
    _verify_ed25519(fields[0], signature, data)
    return 0


def _verify_ed25519(public: bytes, signature: bytes, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - loaded with the first signature

    try:
        _ed25519_key(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise SignatureError(_MISMATCH) from None


@lru_cache(_KEYS_MOST)
def _ed25519_key(public: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    return Ed25519PublicKey.from_public_bytes(public)


def _rsa_bits(fields: tuple[bytes, ...]) -> int:
    exponent, bits = positive(fields[0]), positive(fields[1]).bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or exponent < 3 or exponent.bit_length() > 64:
        raise SignatureError(f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits and a small exponent")
    return bits


def _rsa(fields: tuple[bytes, ...], name: bytes, reader: Reader, data: bytes) -> int:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - as above

    signature = reader.string()
    reader.end()
    algorithm = hashes.SHA256() if name == b"rsa-sha2-256" else hashes.SHA512()
    try:
        _rsa_key(*fields).verify(signature, data, PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):
        raise SignatureError(_MISMATCH) from None
    return 0


@lru_cache(_KEYS_MOST)
def _rsa_key(exponent: bytes, modulus: bytes) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers  # noqa: PLC0415 - as above

    return RSAPublicNumbers(positive(exponent), positive(modulus)).public_key()


def _ecdsa_bits(curve: bytes, fields: tuple[bytes, ...]) -> int:
    if fields[0] != curve or len(fields[1]) != 1 + 2 * _CURVE_BYTES[curve] or fields[1][0] != 4:
        raise SignatureError("a malformed ECDSA key")
    return int(curve.removeprefix(b"nistp"))


def _ecdsa(fields: tuple[bytes, ...], _: bytes, reader: Reader, data: bytes) -> int:
    signature = reader.string()
    reader.end()
    _verify_ecdsa(fields, signature, data)
    return 0


def _verify_ecdsa(fields: tuple[bytes, ...], signature: bytes, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415 - as above

    reader = Reader(signature)
    r, s = positive(reader.string()), positive(reader.string())
    reader.end()
    try:
        public, algorithm = _ecdsa_key(fields[0], fields[1])
        public.verify(encode_dss_signature(r, s), data, algorithm)
    except (InvalidSignature, ValueError):
        raise SignatureError(_MISMATCH) from None


@lru_cache(_KEYS_MOST)
def _ecdsa_key(curve: bytes, point: bytes) -> tuple[EllipticCurvePublicKey, ECDSA]:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    form, algorithm = {
        b"nistp256": (ec.SECP256R1, hashes.SHA256),
        b"nistp384": (ec.SECP384R1, hashes.SHA384),
        b"nistp521": (ec.SECP521R1, hashes.SHA512),
    }[curve]
    return ec.EllipticCurvePublicKey.from_encoded_point(form(), point), ec.ECDSA(algorithm())


def _attested(application: bytes, reader: Reader, data: bytes) -> tuple[int, bytes]:
    """Give the flags of a security key and what it signed; the reader stands after its signature."""
    flags, counter = reader.take(1), reader.take(4)
    reader.end()
    return flags[0], hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(data).digest()


def _sk_ed25519(fields: tuple[bytes, ...], _: bytes, reader: Reader, data: bytes) -> int:
    signature = reader.string()
    flags, attested = _attested(fields[1], reader, data)
    _verify_ed25519(fields[0], signature, attested)
    return flags


def _sk_ecdsa(fields: tuple[bytes, ...], _: bytes, reader: Reader, data: bytes) -> int:
    signature = reader.string()
    flags, attested = _attested(fields[2], reader, data)
    _verify_ecdsa(fields, signature, attested)
    return flags


def _ecdsa_kind(curve: bytes) -> tuple[bytes, Kind]:
    name = b"ecdsa-sha2-" + curve
    return name, Kind(2, (name,), partial(_ecdsa_bits, curve), _ecdsa)


_SK_ED25519, _SK_ECDSA = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
KINDS: dict[bytes, Kind] = {
    b"ssh-ed25519": Kind(1, (b"ssh-ed25519",), _ed25519_bits, _ed25519),
    b"ssh-rsa": Kind(2, (b"rsa-sha2-256", b"rsa-sha2-512"), _rsa_bits, _rsa),
    **dict(map(_ecdsa_kind, _CURVE_BYTES)),
    _SK_ED25519: Kind(2, (_SK_ED25519,), _ed25519_bits, _sk_ed25519),
    _SK_ECDSA: Kind(3, (_SK_ECDSA,), partial(_ecdsa_bits, b"nistp256"), _sk_ecdsa),
}
