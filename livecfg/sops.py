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
    from collections.abc import Callable, Iterable

    from livecfg.document import Position
    from livecfg.secrets import SecretSource

Known = tuple[str, str, bytes]  # additional data, type, plain bytes

COMMENT = "comment"
_TYPES = ("str", "int", "int64", "float", "bool", "bytes", "time")
VALUE = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:([a-z0-9]+)\]")
ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
KEY_BYTES, TAG_BYTES, _IV_BYTES = 32, 16, range(8, 129)


class _Recipient(BaseModel, frozen=True):
    recipient: Annotated[str, Field(max_length=4096)] = ""
    enc: Annotated[str, Field(max_length=1 << 16)]


class Metadata(BaseModel, frozen=True, extra="ignore"):
    """What reading needs of the `sops` part."""

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
    match = VALUE.fullmatch(item) if isinstance(item, str) else None
    return match is not None and match[4] == COMMENT


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
    if identities is None:
        return Document(document.path, document.data, _sealed(plain_part(document)))
    metadata = metadata_of(document)
    value = Opening(document, metadata, data_key(document, metadata, identities), _secret).run()
    return Document(document.path, document.data, value)


def plain_part(document: Document) -> dict[str, Any]:
    """Give a document's value without its `sops` part."""
    return {key: inner for key, inner in document.value.items() if key != "sops"}


def metadata_of(document: Document) -> Metadata:
    """Give what the `sops` part says.

    Raises:
        RefusedError: it is malformed; with the place.

    """

    def locate(loc: Loc, at_key: bool) -> tuple[str, Position]:  # noqa: FBT001 - the shape of Locate
        full = ("sops", *loc)
        return document.path, document.key_position(full) if at_key else document.position(full)

    return validate_value(Metadata, {k: v for k, v in document.value["sops"].items() if k in Metadata.model_fields}, locate)


def age() -> Any:
    """Give pyrage, an extra for those who have such documents.

    Raises:
        ImportError: it is not installed.

    """
    return import_module("pyrage")


def path_of(keys: tuple[str, ...]) -> str:
    """Give the additional data of what stands under these keys."""
    return ":".join(keys) + ":"


def _sealed(value: Any) -> Any:
    """The value with every encrypted part told apart by its ciphertext, and not shown."""
    if isinstance(value, dict):
        return {key: _sealed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sealed(inner) for inner in value if not is_comment(inner)]
    if isinstance(value, str) and VALUE.fullmatch(value):
        return Sealed(f"encrypted {hashlib.sha256(value.encode()).hexdigest()[:8]}")
    return value


def data_key(document: Document, metadata: Metadata, identities: tuple[SecretStr, ...]) -> bytes:
    """Give the key of the document, by the first of its recipients that one of the identities is.

    Raises:
        RefusedError: none of them is, or the document has no age recipient, or pyrage is not installed.

    """

    def refused(message: str, advice: str) -> RefusedError:
        return RefusedError(document.refusal(Code.SECRET, ("sops",), message, advice=advice))

    if metadata.key_groups:
        raise refused("SOPS key groups are not supported", "encrypt it for age recipients, without a Shamir threshold")
    if not metadata.age:
        raise refused("it is encrypted for no age recipient", "add one: sops updatekeys, with an age recipient in .sops.yaml")
    try:
        pyrage = age()
    except ImportError:
        raise refused("reading SOPS documents needs pyrage", "pip install 'livecfg[sops]'") from None
    keys, malformed = [], False
    for identity in identities:
        try:
            keys.append(pyrage.x25519.Identity.from_str(identity.get_secret_value()))
        except pyrage.IdentityError:
            malformed = True  # or of a kind that is not served here: another one may open it
    for recipient in metadata.age if keys else ():
        try:
            key: bytes = pyrage.decrypt(recipient.enc.encode(), keys)
        except pyrage.DecryptError:
            continue
        if len(key) == KEY_BYTES:
            return key
    if malformed:
        raise refused("an age key here is malformed, and no other opens it", "look at SOPS_AGE_KEY and SOPS_AGE_KEY_FILE")
    wanted = ", ".join(r.recipient[:80] for r in metadata.age[:5])
    raise refused(f"no age key here opens it; it is for {wanted}", "set SOPS_AGE_KEY or SOPS_AGE_KEY_FILE")


def _secret(_: str, plain: bytes) -> SecretStr:
    return SecretStr(plain.decode())


class Opening:
    """Decrypts one document and computes the MAC of what it holds on the way; `make` gives the value of a type and plain bytes.

    `known` gathers the ciphertext of everything that was decrypted.
    """

    def __init__(self, document: Document, metadata: Metadata, key: bytes, make: Callable[[str, bytes], Any]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - loaded with the first such document

        self._document = document
        self._metadata = metadata
        self._make = make
        self._cipher = AESGCM(key)
        self._hash = hashlib.sha512(ONLY_ENCRYPTED if metadata.mac_only_encrypted else b"")
        self._faults: list[Refusal] = []
        self.known: dict[Known, str] = {}

    def run(self) -> dict[str, Any]:
        """Give the document's plain value, without the `sops` part.

        Raises:
            RefusedError: it was changed after it was encrypted; with every place.

        """
        value: dict[str, Any] = self._open(plain_part(self._document), (), ())
        mac = self._decrypt(self._metadata.mac, self._metadata.lastmodified, ("sops", "mac"))
        if mac is not None and not hmac.compare_digest(mac, self._hash.hexdigest().upper().encode()):
            message = "the MAC does not match: a value was added, removed, moved or changed after the document was encrypted"
            self._fault(("sops", "mac"), message)
        if self._faults:
            raise RefusedError(*self._faults)
        return value

    def comment(self, value: str, places: Iterable[tuple[str, ...]]) -> str | None:
        """Give an encrypted comment in plain, when it belongs to one of the places; comments are no part of the MAC."""
        for keys in places:
            plain = self._tried(value, path_of(keys))
            if plain is not None:
                self.known[path_of(keys), COMMENT, plain] = value
                return plain.decode(errors="replace")
        return None

    def _open(self, value: Any, loc: Loc, keys: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._open(inner, (*loc, key), (*keys, key)) for key, inner in value.items()}
        if isinstance(value, list):  # all items of a list have the path of the list
            return [self._open(inner, (*loc, index), keys) for index, inner in enumerate(value) if not is_comment(inner)]
        if isinstance(value, str) and VALUE.fullmatch(value):
            return self._secret(value, loc, keys)
        if not self._metadata.mac_only_encrypted:
            self._hash.update(bytes_of(value))
        return value

    def _secret(self, value: str, loc: Loc, keys: tuple[str, ...]) -> Any:
        plain = self._decrypt(value, path_of(keys), loc)
        if plain is None:
            return None
        self._hash.update(plain)
        kind = value[value.rindex(":") + 1 : -1]
        self.known[path_of(keys), kind, plain] = value
        try:
            return self._make(kind, plain)
        except ValueError:
            self._fault(
                loc,
                f"it is no {'text' if kind in {'str', 'bytes'} else kind}",
                "a secret is text; encode bytes, for instance in base64",
            )
            return None

    def _decrypt(self, value: str, additional: str, loc: Loc) -> bytes | None:
        match = VALUE.fullmatch(value)
        if match is None or match[4] not in _TYPES or _parts(value) is None:
            self._fault(loc, "a malformed encrypted value")
            return None
        plain = self._tried(value, additional)
        if plain is None:
            self._fault(loc, "it cannot be decrypted: it was changed, or moved to another key, after it was encrypted")
        return plain

    def _tried(self, value: str, additional: str) -> bytes | None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as AESGCM

        parts = _parts(value)
        try:
            return None if parts is None else self._cipher.decrypt(parts[1], parts[0] + parts[2], additional.encode())
        except InvalidTag:
            return None

    def _fault(self, loc: Loc, message: str, advice: str = "encrypt the document again with sops") -> None:
        dotted = ".".join(map(str, loc))
        self._faults.append(self._document.refusal(Code.SECRET, loc, f"{dotted}: {message}", advice=advice))


def _parts(value: str) -> tuple[bytes, bytes, bytes] | None:
    """Data, initialisation vector and tag of an encrypted value; None for a malformed one."""
    match = VALUE.fullmatch(value)
    try:
        data, iv, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3]) if match else (b"", b"", b"")
    except binascii.Error:
        return None
    return (data, iv, tag) if len(iv) in _IV_BYTES and len(tag) == TAG_BYTES else None


def bytes_of(value: Any) -> bytes:
    """Give a plain value as SOPS encrypts and hashes it."""
    if value is None:
        return b""
    if isinstance(value, Tagged):
        return value.text.encode()
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    return str(value).encode()  # booleans as True and False
