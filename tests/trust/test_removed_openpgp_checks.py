"""Every check of an OpenPGP signature or certificate is seen to matter: without it, and only then, its attack succeeds."""

from __future__ import annotations

import base64
import zlib
from functools import cache
from typing import TYPE_CHECKING

import pysequoia
import pytest
from pysequoia.packet import PacketPile

from livecfg.revision import Commit
from livecfg.trust import identify, openpgp
from livecfg.trust.allowed_signers import Signers
from livecfg.trust.wire import SignatureError
from tests.trust.cases import ANA, BO, T
from tests.trust.gpg import FIXTURES, PAYLOAD
from tests.trust.removed import Removed

if TYPE_CHECKING:
    from collections.abc import Callable


def kept(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def opens(name: str, change: Callable[[bytes], bytes] = bytes, key: str = "key.asc") -> Callable[[], bool]:
    """Whether a kept OpenPGP signature, changed, is taken as one by ana."""

    def accepted() -> bool:
        signers = Signers(openpgp=openpgp.parse_openpgp({f"{openpgp.FOLDER}{ANA}.asc": kept(key)}))
        made = Commit("0" * 40, "", (), "", 0, "", T, "", PAYLOAD, change(kept(name)), "")
        return isinstance(identify.identify(made, signers), identify.Signed)

    return accepted


def _rewrapped(armored: bytes, body: Callable[[bytes], bytes]) -> bytes:
    head, _, rest = armored.partition(b"\n\n")
    text, _, tail = rest.partition(b"\n=")
    return head + b"\n\n" + body(text.replace(b"\n", b"")) + b"\n=" + tail


def widened(armored: bytes) -> bytes:
    """The same in one line."""
    return _rewrapped(armored, lambda text: text)


def spare_openpgp(armored: bytes) -> bytes:
    """The same with a bit beyond the last byte."""

    def spoil(text: bytes) -> bytes:
        at = len(text.rstrip(b"=")) - 1
        assert text.endswith(b"=")
        spoiled = text[:at] + bytes([text[at] + 1]) + text[at + 1 :]
        return b"\n".join(spoiled[i : i + 64] for i in range(0, len(spoiled), 64))

    return _rewrapped(armored, spoil)


def public_armor(raw: bytes) -> bytes:
    return pysequoia.armor(raw, pysequoia.ArmorKind.PublicKey).replace("\r", "").encode()


@cache
def tsk() -> pysequoia.Tsk:
    return pysequoia.Tsk.generate(ANA, validity_seconds=10_000)


def certifying_only() -> bytes:
    """A certificate whose primary key may only certify, without its subkeys."""
    packets = [bytes(p) for p in PacketPile.from_bytes(bytes(tsk().extract_certificate()))]
    first_subkey = next(i for i, p in enumerate(PacketPile.from_bytes(b"".join(packets))) if str(p.tag) == "Tag.PublicSubkey")
    return public_armor(b"".join(packets[:first_subkey]))


def two_files() -> dict[str, openpgp.OpenPgpKey]:
    return openpgp.parse_openpgp({f"{openpgp.FOLDER}{person}.asc": kept("key.asc") for person in (ANA, BO)})


def secret_key() -> bool:
    return bool(openpgp.parse_openpgp({f"{openpgp.FOLDER}{ANA}.asc": public_armor(bytes(tsk()))}))


def revoked() -> dict[str, openpgp.OpenPgpKey]:
    return openpgp.parse_openpgp({f"{openpgp.FOLDER}{ANA}.asc": kept("revoked.asc")})


def bo(data: bytes) -> openpgp.OpenPgpKey:
    """The one key of a certificate."""
    (key,) = openpgp.parse_openpgp({f"{openpgp.FOLDER}{BO}.asc": data}).values()
    return key


def prolonged() -> bytes:
    """A certificate whose subkey expires, and a later signature by somebody else that says it does not."""
    block = kept("subkey.asc").partition(b"\n\n")[2].partition(b"\n=")[0]
    foreign = list(PacketPile.from_bytes(bytes(pysequoia.Tsk.generate("eve@evil").extract_certificate())))
    says = next(p for p in foreign if str(p.signature_type) == "SignatureType.SubkeyBinding" and p.key_flags.signing)
    assert says.key_validity_period is None
    return public_armor(base64.b64decode(block) + bytes(says))


def inflates() -> bool:
    """Whether Sequoia, which inflates whatever is compressed, ever sees a signature of 1 KB that stands for 16 MB."""
    deflated = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"\x01" + deflated.compress(b"\xcb\xff\x01\0\0\0" + bytes(1 << 24)) + deflated.flush()
    for _ in range(2):
        packet = b"\xc8\xff" + len(body).to_bytes(4) + body
        deflated = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = b"\x01" + deflated.compress(packet) + deflated.flush()
    bomb = b"\xc8\xff" + len(body).to_bytes(4) + body
    assert len(bomb) < 1024
    text = base64.b64encode(bomb)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    with pytest.raises(SignatureError) as caught:
        openpgp.issuer(b"\n".join([b"-----BEGIN PGP SIGNATURE-----", b"", *lines, b"-----END PGP SIGNATURE-----"]))
    return "of another kind" not in str(caught.value)


CHECKS = [
    Removed(openpgp, "tag not in _TAGS or ", "", inflates),
    Removed(
        openpgp,
        "if len(armored) > most:",
        "if False:",
        opens("good.sig", lambda s: s.replace(b"\n\n", b"\nA: b" * 4000 + b"\n\n")),
    ),
    Removed(
        openpgp, 'lines[0] != b"-----BEGIN %b-----" % what or ', "", opens("good.sig", lambda s: s.replace(b"-----\n", b"!\n", 1))
    ),
    Removed(openpgp, 'lines[-1] != b"-----END %b-----" % what or ', "", opens("good.sig", lambda s: s.replace(b"END", b"STOP"))),
    Removed(openpgp, 'or b"" not in lines', "", opens("good.sig", lambda s: s.replace(b"\n\n", b"\n"))),
    Removed(
        openpgp,
        "not all(map(_HEADER.match, lines[1:blank])) or ",
        "",
        opens("good.sig", lambda s: s.replace(b"\n\n", b"\n\0\n\n")),
    ),
    Removed(openpgp, "not all(0 < len(line) <= 76 for line in body)", "False", opens("good.sig", widened)),
    Removed(openpgp, "base64.b64encode(raw) != text", "False", opens("good.sig", spare_openpgp)),
    Removed(openpgp, "if len(packets) != 1:", "if False:", opens("two.sig")),
    Removed(openpgp, 'packet.kind != "Binary" or ', "", opens("text.sig")),
    Removed(openpgp, "if packet.expires:", "if False:", opens("expiring.sig")),
    Removed(openpgp, "if packet.hash_name not in _SHA2:", "if False:", opens("sha224.sig")),
    Removed(openpgp, "if not name:", "if False:", lambda: bool(openpgp.parse_openpgp({"x/../y": kept("key.asc")}))),
    Removed(
        openpgp,
        "if not found:",
        "if False:",
        lambda: openpgp.parse_openpgp({openpgp.FOLDER + "ana.asc": certifying_only()}) == {},
    ),
    Removed(openpgp, "if key.fingerprint in keys:", "if False:", lambda: bool(two_files())),
    Removed(
        openpgp,
        'if any(packet.tag in {"Tag.SecretKey", "Tag.SecretSubkey"} for packet in _packets(raw)):',
        "if False:",
        secret_key,
    ),
    Removed(
        openpgp,
        "own.signs and ",
        "",
        lambda: bool(openpgp.parse_openpgp({openpgp.FOLDER + "ana.asc": certifying_only()})),
    ),
    Removed(
        openpgp,
        "revoked = bool(ended or _REVOCATIONS & component.signatures.keys())",
        "revoked = False",
        lambda: not any(k.revoked for k in revoked().values()),
    ),
    Removed(
        openpgp,
        "min(component.expiry(own), primary.expiry(primary.latest(primary.key)))",
        'float("inf")',
        lambda: bo(kept("subkey.asc")).valid_before > 2e9,
    ),
    Removed(
        openpgp,
        " if s.issuer in owner",
        "",
        lambda: bo(prolonged()).valid_before > 2e9,
    ),
]


@pytest.mark.parametrize("removed", CHECKS, ids=lambda r: r.check[:60])
def test_an_attack_succeeds_only_without_its_check(removed: Removed) -> None:
    removed.prove()
