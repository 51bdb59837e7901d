"""SSH user certificates (PROTOCOL.certkeys of OpenSSH): a key, whose it is and when, in the word of a certificate authority.

The form and the authority's signature are checked here; whether the authority is anybody's, `identify` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from livecfg.trust.keys import KINDS, Key, parse_key, read_key
from livecfg.trust.wire import Reader, SignatureError

CERTIFICATES = {kind.removesuffix(b"@openssh.com") + b"-cert-v01@openssh.com": kind for kind in KINDS}
_USER = 1
_MAX_PRINCIPALS = 256
_VERIFY_REQUIRED = b"verify-required"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an authority says: `key` is that of one of `principals`, from `valid_after` until before `valid_before`.

    Times are Unix seconds. `verify_required`: a signature by the key counts only with the PIN of its security key. `authority`
    is the raw key blob of who says so.
    """

    key: Key
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    verify_required: bool
    authority: bytes


def is_certificate(blob: bytes) -> bool:
    """Whether a raw key blob says that it is a certificate.

    Raises:
        SignatureError: it says nothing.

    """
    return Reader(blob).string() in CERTIFICATES


def authority_of(blob: bytes) -> bytes:
    """Give the raw key blob of the authority that a certificate names; nothing of it is proved.

    Raises:
        SignatureError: it is malformed.

    """
    return _read(blob)[0].authority


@lru_cache(maxsize=1024)
def parse_certificate(blob: bytes) -> Certificate:
    """Read a certificate and check the signature of its authority.

    Raises:
        SignatureError: it is malformed, no user certificate, asks for what is not understood, or its authority did not sign it.

    """
    found, signed, signature = _read(blob)
    parse_key(found.authority).check(signature, signed)
    return found


def _read(blob: bytes) -> tuple[Certificate, bytes, bytes]:
    """Read a certificate; give it with what its authority signed, and how."""
    reader = Reader(blob)
    kind = CERTIFICATES.get(reader.string(), b"")
    reader.string()  # the nonce
    key = read_key(kind, reader)
    reader.long()  # the serial number
    purpose = reader.number()
    reader.string()  # the key id, for people
    principals = Reader(reader.string()).strings()
    valid_after, valid_before = reader.long(), reader.long()
    critical = _options(reader.string())
    _options(reader.string())  # extensions grant what has no meaning here
    reader.string()  # reserved: to be ignored
    authority = reader.string()
    signed = blob[: reader.at]
    signature = reader.string()
    reader.end()
    if purpose != _USER:
        raise SignatureError("not a user certificate")
    if len(principals) > _MAX_PRINCIPALS:
        raise SignatureError("a certificate with too many principals")
    if any(option != _VERIFY_REQUIRED for option in critical):
        raise SignatureError("a certificate with a critical option that is not understood")
    names = tuple(name.decode("utf-8", "backslashreplace") for name in principals)
    return Certificate(key, names, valid_after, valid_before, _VERIFY_REQUIRED in critical, authority), signed, signature


def _options(data: bytes) -> list[bytes]:
    """Give the names in a list of names and values."""
    fields = Reader(data).strings()
    if len(fields) % 2:
        raise SignatureError("malformed options in a certificate")
    return fields[::2]
