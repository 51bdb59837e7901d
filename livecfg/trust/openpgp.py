"""OpenPGP through Sequoia (`pysequoia`, the extra `openpgp`): certificates of `.livecfg/openpgp/<person>.asc`, and signatures.

No keyring and no network: a file holds one or more certificates (of a forge, or of somebody who signs with gpg) and its name says
whose they are. The packets say while a key holds: from its creation until the latest signature of its owner on it ends it. Any
revocation ends it for ever. A signature is one binary signature that never expires itself, over SHA-2.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.errors import LivecfgError, RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.wire import Reader, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = ".livecfg/openpgp/"
MAX_SIGNATURE_BYTES, MAX_FILE_BYTES = 16 * 1024, 256 * 1024
_PERSON = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+@-]{0,127})\.asc\Z")
_HEADER = re.compile(rb"[A-Za-z]+: [ -~]*\Z")
_SIGNATURE, _KEYS = b"PGP SIGNATURE", b"PGP PUBLIC KEY BLOCK"
_SHA2 = ("SHA256", "SHA384", "SHA512")
_TAGS = frozenset({2, 5, 6, 7, 12, 13, 14, 17})  # signature; keys and subkeys, secret and public; trust, user id and attribute
_NO_SIZE = -1


@dataclass(frozen=True, slots=True)
class OpenPgpKey:
    """A key of a person that may sign, from `valid_after` to `valid_before` (inclusive Unix seconds), unless revoked."""

    person: str
    fingerprint: str
    valid_after: float
    valid_before: float
    revoked: bool
    certificate: Any

    def __repr__(self) -> str:
        return f"OpenPgpKey({self.person!r}, {self.fingerprint})"


def is_openpgp(signature: bytes) -> bool:
    """Whether a signature of a commit claims to be OpenPGP."""
    return signature.startswith(b"-----BEGIN PGP ")


def parse_openpgp(files: Mapping[str, bytes]) -> dict[str, OpenPgpKey]:
    """Give the keys that may sign, by fingerprint, of the files below `FOLDER` (path → content).

    Raises:
        RefusedError: a file that is malformed, holds a secret key or no key that may sign, or a key that stands in two files.
        LivecfgError: `pysequoia` is not installed.

    """
    keys: dict[str, OpenPgpKey] = {}
    for path, data in sorted(files.items()):
        name = _PERSON.match(path.removeprefix(FOLDER))
        if not name:
            raise _fault(path, "expected a file name of the form person.asc")
        try:
            found = list(_keys(name[1], data))
        except SignatureError as error:
            raise _fault(path, str(error)) from None
        if not found:
            raise _fault(path, "no key in it may sign")
        for key in found:
            if key.fingerprint in keys:
                raise _fault(path, f"the key {key.fingerprint} stands twice; a key is one person's, in one file")
            keys[key.fingerprint] = key
    return keys


def issuer(armored: bytes) -> str:
    """Give the fingerprint of the key that a signature names, or its last 16 digits; unproven.

    Raises:
        SignatureError: it is malformed, or of a form that is not accepted.

    """
    return _signature_packet(_dearmor(armored, _SIGNATURE, MAX_SIGNATURE_BYTES)).issuer or ""


def verify_openpgp(armored: bytes, payload: bytes, keys: Mapping[str, OpenPgpKey]) -> str:
    """Check a signature over `payload` by one of `keys`; give the fingerprint. When that key holds, the caller decides.

    Raises:
        SignatureError: it does not hold.

    """
    raw = _dearmor(armored, _SIGNATURE, MAX_SIGNATURE_BYTES)
    _signature_packet(raw)
    sequoia = _sequoia()
    certificates = [key.certificate for key in keys.values()]
    try:
        found = sequoia.verify(payload, store=lambda _: certificates, signature=sequoia.Sig.from_bytes(raw)).valid_sigs
    except Exception:  # noqa: BLE001 - the one kind it raises is RuntimeError, with a text that is not ours to show
        raise SignatureError("the signature does not match what was signed, or its key could not sign then") from None
    if len(found) != 1 or str(found[0].signing_key) not in keys:
        raise SignatureError("made by another key than it names")
    return str(found[0].signing_key)


def _fault(path: str, message: str) -> RefusedError:
    advice = "expected: one or more armored public keys, as `gpg --armor --export` writes them"
    return RefusedError(Refusal(Code.POLICY, message, path=path, line=1, column=1, advice=advice))


def _sequoia() -> Any:
    try:
        import pysequoia  # noqa: PLC0415 - an extra, and only repositories with OpenPGP keys need it
    except ImportError:
        message = "the repository's policy lists OpenPGP keys, and the package pysequoia, which reads them, is not installed"
        raise LivecfgError(f"{message}: install livecfg[openpgp]") from None
    return pysequoia


class _Packet(NamedTuple):
    """What is read of a packet: a key, or a signature; times are Unix seconds, `period` is how long a key holds."""

    tag: str
    fingerprint: str | None
    key_created: float | None
    key_id: str | None
    kind: str
    created: float | None
    issuer: str | None
    hash_name: str
    expires: bool
    period: float | None
    signs: bool


def _packets(raw: bytes) -> list[_Packet]:
    _check_frames(raw)
    _sequoia()
    from pysequoia.packet import PacketPile  # noqa: PLC0415 - as above

    try:
        return [_packet(packet) for packet in PacketPile.from_bytes(raw)]
    except Exception:  # noqa: BLE001 - as in verify_openpgp
        raise SignatureError("malformed OpenPGP data") from None


def _check_frames(raw: bytes) -> None:
    """Go from packet to packet (RFC 9580 §4.2) and refuse all that no key and no signature is made of.

    A compressed packet above all: a thousand bytes of it inflate to gigabytes, before anything else is known of them.
    """
    reader = Reader(raw)
    while reader.at < len(raw):
        head = reader.take(1)[0]
        if head & 0xC0 == 0xC0:
            tag, first = head & 0x3F, reader.take(1)[0]
            if first < 192:
                size = first
            elif first < 224:
                size = ((first - 192) << 8) + reader.take(1)[0] + 192
            else:
                size = reader.number() if first == 255 else _NO_SIZE
        else:
            tag, width = head >> 2 & 0xF, (1, 2, 4, 0)[head & 3]
            size = int.from_bytes(reader.take(width)) if width else _NO_SIZE
        if not head & 0x80 or tag not in _TAGS or size == _NO_SIZE:
            raise SignatureError("OpenPGP data of another kind than keys and signatures")
        reader.take(size)


def _packet(packet: Any) -> _Packet:
    created, born, period = packet.signature_created, packet.key_created, packet.key_validity_period
    return _Packet(
        tag=str(packet.tag),
        fingerprint=packet.fingerprint,
        key_created=born.timestamp() if born is not None else None,
        key_id=packet.key_id,
        kind=str(packet.signature_type).removeprefix("SignatureType."),
        created=created.timestamp() if created is not None else None,
        issuer=packet.issuer_fingerprint or packet.issuer_key_id,
        hash_name=str(packet.hash_algorithm).removeprefix("HashAlgorithm."),
        expires=packet.signature_validity_period is not None,
        period=period.total_seconds() if period is not None else None,
        signs=packet.key_flags is None or packet.key_flags.signing,
    )


def _dearmor(armored: bytes, what: bytes, most: int) -> bytes:
    """Decode one armored block, strictly; the checksum at its end is not looked at, since a signature follows."""
    if len(armored) > most:
        raise SignatureError("too large")
    lines = armored.rstrip(b"\n").split(b"\n")
    if lines[0] != b"-----BEGIN %b-----" % what or lines[-1] != b"-----END %b-----" % what or b"" not in lines:
        raise SignatureError(f"not one armored {what.decode()}")
    blank = lines.index(b"")
    body = lines[blank + 1 : -1]
    if body and re.fullmatch(rb"=[A-Za-z0-9+/]{4}", body[-1]):
        body.pop()
    if not all(map(_HEADER.match, lines[1:blank])) or not all(0 < len(line) <= 76 for line in body):
        raise SignatureError(f"a malformed {what.decode()}")
    text = b"".join(body)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("not base64") from None
    if not raw or base64.b64encode(raw) != text:
        raise SignatureError("not canonical base64")
    return raw


def _signature_packet(raw: bytes) -> _Packet:
    packets = _packets(raw)
    if len(packets) != 1:
        raise SignatureError("not exactly one signature")
    packet = packets[0]
    if packet.kind != "Binary" or packet.created is None:
        raise SignatureError("not a dated signature over binary data")
    if packet.expires:
        raise SignatureError("a signature that expires")
    if packet.hash_name not in _SHA2:
        raise SignatureError("a signature over another hash than SHA-256, SHA-384 or SHA-512")
    return packet


def _keys(person: str, data: bytes) -> Iterator[OpenPgpKey]:
    sequoia = _sequoia()
    raw = _dearmor(data, _KEYS, MAX_FILE_BYTES)
    if any(packet.tag in {"Tag.SecretKey", "Tag.SecretSubkey"} for packet in _packets(raw)):
        raise SignatureError("it holds a secret key: revoke it, it is no longer secret")
    try:
        certificates = sequoia.Cert.split_bytes(raw)
        canonical = [bytes(certificate) for certificate in certificates]
    except Exception:  # noqa: BLE001 - as in verify_openpgp
        raise SignatureError("malformed OpenPGP certificates") from None
    if not certificates:
        raise SignatureError("it holds no certificate")
    for certificate, packets in zip(certificates, map(_packets, canonical), strict=True):
        yield from _signing_keys(person, certificate, packets)


def _signing_keys(person: str, certificate: Any, packets: list[_Packet]) -> Iterator[OpenPgpKey]:
    """Give the primary key and the subkeys that may sign, of the packets of one certificate."""
    primary, *subkeys = _components(packets)
    ended = _REVOCATIONS & primary.signatures.keys()
    for component in (primary, *subkeys):
        own = component.latest(primary.key)
        name, born = component.key.fingerprint, component.key.key_created
        if own is not None and own.signs and name is not None and born is not None:
            before = min(component.expiry(own), primary.expiry(primary.latest(primary.key)))
            revoked = bool(ended or _REVOCATIONS & component.signatures.keys())
            yield OpenPgpKey(person, name, born, before, revoked, certificate)


@dataclass(frozen=True, slots=True)
class _Component:
    """A key packet and the signatures on it and on the user ids of a primary key, by their type."""

    key: _Packet
    signatures: dict[str, list[_Packet]]

    def latest(self, primary: _Packet) -> _Packet | None:
        """The newest signature by which the owner says what the key is for, and until when; None when there is none."""
        owner = {primary.fingerprint, primary.key_id}
        own = [s for kind in _OWN[self.key.tag] for s in self.signatures.get(kind, []) if s.issuer in owner]
        return max(own, key=lambda signature: signature.created or 0.0, default=None)

    def expiry(self, own: _Packet | None) -> float:
        """The last second at which the key holds, by that signature."""
        if own is None or own.period is None or self.key.key_created is None:
            return float("inf")
        return self.key.key_created + own.period - 1


_REVOCATIONS = {"KeyRevocation", "SubkeyRevocation"}
_CERTIFICATIONS = tuple(f"{kind}Certification" for kind in ("Generic", "Persona", "Casual", "Positive"))
_OWN = {"Tag.PublicKey": ("DirectKey", *_CERTIFICATIONS), "Tag.PublicSubkey": ("SubkeyBinding",)}


def _components(packets: list[_Packet]) -> list[_Component]:
    components: list[_Component] = []
    for packet in packets:
        if packet.tag in _OWN:
            components.append(_Component(packet, {}))
        elif packet.tag == "Tag.Signature" and components:
            components[-1].signatures.setdefault(packet.kind, []).append(packet)
    return components
