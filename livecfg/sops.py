"""SOPS documents with age recipients, decrypted in memory: every encrypted value becomes a SecretStr.

The format: each value is `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]` under the document's data key, with its path as additional
data; `sops.age` holds the data key for each recipient; `sops.mac` is a SHA-512 over all values in their order, encrypted with
`sops.lastmodified` as additional data. A document whose MAC does not match is refused whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, SecretStr

from livecfg.document import Document, Loc, Tagged
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.secrets import Sealed, UnresolvedError
from livecfg.validation import validate_value

if TYPE_CHECKING:
    from livecfg.document import Position
    from livecfg.secrets import SecretSource

_COMMENT = "comment"
_TYPES = ("str", "int", "int64", "float", "bool", "bytes", "time")
_VALUE = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:([a-z0-9]+)\]")
_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
_KEY_BYTES, _TAG_BYTES, _IV_BYTES = 32, 16, range(8, 129)


class _Recipient(BaseModel, frozen=True):
    recipient: Annotated[str, Field(max_length=4096)] = ""
    enc: Annotated[str, Field(max_length=1 << 16)]


class _Metadata(BaseModel, frozen=True, extra="ignore"):
    age: Annotated[list[_Recipient], Field(max_length=100)] | None = None
    key_groups: list[Any] | None = None
    lastmodified: str
    mac: str
    mac_only_encrypted: bool = False


def is_encrypted(value: Any) -> bool:
    """Whether a document's value is that of a SOPS document."""
    return isinstance(value, dict) and isinstance(value.get("sops"), dict) and "mac" in value["sops"]


def is_comment(item: Any) -> bool:
    """Whether an item of a list is an encrypted comment."""
    match = _VALUE.fullmatch(item) if isinstance(item, str) else None
    return match is not None and match[4] == _COMMENT


def decrypt(document: Document, source: SecretSource) -> Document:
    """Give a SOPS document with a SecretStr for each encrypted value, without its `sops` part.

    Where the source has no keys by intent, the values stay sealed and nothing is verified.

    Raises:
        RefusedError: no key here opens it, or it was changed after it was encrypted; with the place.

    """
    try:
        identities = source.age_identities()
    except UnresolvedError as error:
        raise RefusedError(document.refusal(Code.SECRET, ("sops",), error.message, advice=error.advice)) from None
    plain = {key: inner for key, inner in document.value.items() if key != "sops"}
    if identities is None:
        return Document(document.path, document.data, _sealed(plain))

    def locate(loc: Loc, at_key: bool) -> tuple[str, Position]:  # noqa: FBT001 - the shape of Locate
        full = ("sops", *loc)
        return document.path, document.key_position(full) if at_key else document.position(full)

    metadata = validate_value(_Metadata, {k: v for k, v in document.value["sops"].items() if k in _Metadata.model_fields}, locate)
    return _Opening(document, metadata, _data_key(document, metadata, identities)).run(plain)


def _sealed(value: Any) -> Any:
    """The value with every encrypted part told apart by its ciphertext, and not shown."""
    if isinstance(value, dict):
        return {key: _sealed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sealed(inner) for inner in value if not is_comment(inner)]
    if isinstance(value, str) and _VALUE.fullmatch(value):
        return Sealed(f"encrypted {hashlib.sha256(value.encode()).hexdigest()[:8]}")
    return value


def _data_key(document: Document, metadata: _Metadata, identities: tuple[SecretStr, ...]) -> bytes:
    """The key of the document, by the first of its recipients that one of the identities is."""

    def refused(message: str, advice: str) -> RefusedError:
        return RefusedError(document.refusal(Code.SECRET, ("sops",), message, advice=advice))

    if metadata.key_groups:
        raise refused("SOPS key groups are not supported", "encrypt it for age recipients, without a Shamir threshold")
    if not metadata.age:
        raise refused("it is encrypted for no age recipient", "add one: sops updatekeys, with an age recipient in .sops.yaml")
    try:
        pyrage: Any = import_module("pyrage")  # an extra, for those who have such documents
    except ImportError:
        raise refused("reading SOPS documents needs pyrage", "pip install 'livecfg[sops]'") from None
    keys = []
    for identity in identities:
        try:
            keys.append(pyrage.x25519.Identity.from_str(identity.get_secret_value()))
        except pyrage.IdentityError:
            raise refused("an age key here is malformed", "look at SOPS_AGE_KEY and SOPS_AGE_KEY_FILE") from None
    for recipient in metadata.age if keys else ():
        try:
            key: bytes = pyrage.decrypt(recipient.enc.encode(), keys)
        except pyrage.DecryptError:
            continue
        if len(key) == _KEY_BYTES:
            return key
    wanted = ", ".join(r.recipient[:80] for r in metadata.age[:5])
    raise refused(f"no age key here opens it; it is for {wanted}", "set SOPS_AGE_KEY or SOPS_AGE_KEY_FILE")


class _Opening:
    """Decrypts one document and computes the MAC of what it holds on the way."""

    def __init__(self, document: Document, metadata: _Metadata, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as pyrage

        self._document = document
        self._metadata = metadata
        self._cipher = AESGCM(key)
        self._hash = hashlib.sha512(_ONLY_ENCRYPTED if metadata.mac_only_encrypted else b"")
        self._faults: list[Refusal] = []

    def run(self, plain: dict[str, Any]) -> Document:
        value = self._open(plain, (), ())
        mac = self._decrypt(self._metadata.mac, self._metadata.lastmodified, ("sops", "mac"))
        if mac is not None and not hmac.compare_digest(mac, self._hash.hexdigest().upper().encode()):
            message = "the MAC does not match: a value was added, removed, moved or changed after the document was encrypted"
            self._fault(("sops", "mac"), message)
        if self._faults:
            raise RefusedError(*self._faults)
        return Document(self._document.path, self._document.data, value)

    def _open(self, value: Any, loc: Loc, keys: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._open(inner, (*loc, key), (*keys, key)) for key, inner in value.items()}
        if isinstance(value, list):  # all items of a list have the path of the list
            return [self._open(inner, (*loc, index), keys) for index, inner in enumerate(value) if not is_comment(inner)]
        if isinstance(value, str) and _VALUE.fullmatch(value):
            return self._secret(value, loc, keys)
        if not self._metadata.mac_only_encrypted:
            self._hash.update(_bytes_of(value))
        return value

    def _secret(self, value: str, loc: Loc, keys: tuple[str, ...]) -> SecretStr | None:
        plain = self._decrypt(value, "".join(f"{key}:" for key in keys), loc)
        if plain is None:
            return None
        self._hash.update(plain)
        try:
            return SecretStr(plain.decode())
        except UnicodeDecodeError:
            self._fault(loc, "it is no text", "a secret is text; encode bytes, for instance in base64")
            return None

    def _decrypt(self, value: str, additional: str, loc: Loc) -> bytes | None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as pyrage

        match = _VALUE.fullmatch(value)
        try:
            data, iv, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3]) if match else (b"", b"", b"")
        except binascii.Error:
            data = iv = tag = b""
        if match is None or match[4] not in _TYPES or len(iv) not in _IV_BYTES or len(tag) != _TAG_BYTES:
            self._fault(loc, "a malformed encrypted value")
            return None
        try:
            return self._cipher.decrypt(iv, data + tag, additional.encode())
        except InvalidTag:
            self._fault(loc, "it cannot be decrypted: it was changed, or moved to another key, after it was encrypted")
            return None

    def _fault(self, loc: Loc, message: str, advice: str = "encrypt the document again with sops") -> None:
        dotted = ".".join(map(str, loc))
        self._faults.append(self._document.refusal(Code.SECRET, loc, f"{dotted}: {message}", advice=advice))


def _bytes_of(value: Any) -> bytes:
    """A plain value as SOPS hashes it."""
    if value is None:
        return b""
    if isinstance(value, Tagged):
        return value.text.encode()
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    return str(value).encode()  # booleans as True and False
