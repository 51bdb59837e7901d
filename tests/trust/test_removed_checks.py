"""Every check is seen to matter: with it removed, and only then, the attack that it stops succeeds.

A row names the check by its text, what stands there when it is removed, and the attack: a case of `cases.py` that must be
refused, or a function that says whether it got through. An exception that is not one of ours counts as got through.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from livecfg.trust import allowed_signers, certificates, identify, keys, signatures, wire
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.signatures import armor, signed_data
from livecfg.trust.wire import mpint, string
from tests.trust.cases import ANA, BO, Case, T, commit, every_case
from tests.trust.peers import ours
from tests.trust.removed import Removed, without
from tests.trust.softkeys import SoftCertificate, SoftKey, soft_key

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, CA = soft_key("ed25519"), soft_key("ed25519", 9)
GOOD = SoftCertificate(KEY, CA)
PAYLOAD = commit(1)
OWN = f"{ANA} {KEY.line}\n"


@cache
def cases() -> dict[str, Case]:
    return {case.name: case for case in every_case(flips=0)}


def accepted(name: str) -> bool:
    """Whether a case that must be refused is accepted."""
    return ours(cases()[name])


def case(signers: str, signature: bytes, person: str = ANA, moment: int = T) -> Callable[[], bool]:
    return lambda: ours(Case("", signers, signature, PAYLOAD, person, moment))


def valid_file(text: str) -> Callable[[], bool]:
    return lambda: len(parse_allowed_signers(text.encode(), "allowed_signers")) >= 0


def ca_line(options: str = "", patterns: str = "*@acme") -> str:
    return f"{patterns} cert-authority{options} {CA.line}\n"


def pinned(critical: bytes) -> Callable[[], bool]:
    """A certificate of a security key whose PIN was given, with these critical options."""
    return case(ca_line(), replace(GOOD, raw_critical=critical, key=soft_key("sk-ed25519")).sign(PAYLOAD, flags=5))


def spare_bits() -> str:
    """A key whose base64 has bits beyond its last byte."""
    line = soft_key("sk-ed25519").line
    assert line.endswith("=")
    at = len(line.rstrip("=")) - 1
    return f"{ANA} {line[:at]}{chr(ord(line[at]) + 1)}{line[at + 1 :]}\n"


def compressed() -> SoftKey:
    key = soft_key("ecdsa256")
    point = key.private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return replace(key, fields=string(b"nistp256") + string(point))


@cache
def odd_rsa() -> SoftKey:
    """An RSA key with an exponent of more than 64 bits, which makes checking a signature slow."""
    numbers = soft_key("rsa2048").private.private_numbers()
    e = 2**80 + 13
    while True:
        e += 2
        try:
            d = pow(e, -1, (numbers.p - 1) * (numbers.q - 1))
            break
        except ValueError:
            continue
    public = rsa.RSAPublicNumbers(e, numbers.public_numbers.n)
    odd = rsa.RSAPrivateNumbers(numbers.p, numbers.q, d, d % (numbers.p - 1), d % (numbers.q - 1), numbers.iqmp, public)
    return SoftKey("rsa2048", b"ssh-rsa", mpint(e) + mpint(public.n), odd.private_key())


def confused_rsa() -> bytes:
    """An RSA signature with SHA-512 that calls itself ssh-rsa."""
    key = soft_key("rsa2048")
    raw = key.raw(signed_data(b"git", b"sha512", PAYLOAD)).replace(string(b"rsa-sha2-512"), string(b"ssh-rsa"))
    return armor(key.blob, b"git", b"sha512", raw)


def cut_off() -> bytes:
    """A signature that ends within its version."""
    whole = base64.b64encode(b"SSHSIG\0\0")
    return b"-----BEGIN SSH SIGNATURE-----\n" + whole + b"\n-----END SSH SIGNATURE-----\n"


def huge() -> bytes:
    return SoftCertificate(KEY, CA, extensions=((b"x", b"x" * 20_000),)).sign(PAYLOAD)


def listed(key: bytes) -> str:
    name = wire.Reader(key).string().decode()
    return f"{ANA} {name} {base64.b64encode(key).decode()}\n"


CHECKS = [
    # the armor
    Removed(signatures, "len(armored) > MAX_ARMOR_BYTES", "False", case(ca_line(), huge())),
    Removed(signatures, "lines[0] != _BEGIN or ", "", case(OWN, KEY.sign(PAYLOAD).replace(b"BEGIN", b"START"))),
    Removed(signatures, "lines[-1] != _END or ", "", case(OWN, KEY.sign(PAYLOAD).replace(b"END", b"STOP"))),
    Removed(signatures, "any(not 0 < len(line) <= 76 for line in lines[1:-1])", "False", partial(accepted, "armor too wide")),
    Removed(signatures, "not 0 < len(line) <= 76", "len(line) > 76", partial(accepted, "armor empty line inside")),
    Removed(signatures, "if base64.b64encode(raw) != text:", "if False:", partial(accepted, "armor spare bits")),
    # SSHSIG
    Removed(signatures, "reader.take(6) != _MAGIC", "not reader.take(6)", partial(accepted, "ed25519 magic")),
    Removed(signatures, "reader.number() != 1:", "reader.number() > 1:", partial(accepted, "ed25519 version 0")),
    Removed(signatures, "    reader.end()\n    if reserved:", "    if reserved:", partial(accepted, "ed25519 tail")),
    Removed(signatures, "if reserved:", "if False:", partial(accepted, "ed25519 reserved")),
    Removed(signatures, "if hash_name not in _HASHES:", "if False:", partial(accepted, "ed25519 hash sha384")),
    Removed(signatures, "if found.namespace != namespace:", "if False:", partial(accepted, "ed25519 namespace b'file'")),
    # keys and signatures of each type
    Removed(keys, "if name not in row.signatures:", "if False:", case(f"{ANA} {soft_key('rsa2048').line}\n", confused_rsa())),
    Removed(keys, "    reader.end()\n    return key", "    return key", valid_file(listed(KEY.blob + b"\0"))),
    Removed(keys, "if row is None:", "if False:", lambda: bool(keys.parse_key(string(b"ssh-dss") + string(b"x")))),
    Removed(keys, "if len(fields[0]) != 32:", "if False:", valid_file(listed(string(b"ssh-ed25519") + string(b"x" * 31)))),
    Removed(keys, "not MIN_RSA_BITS <= bits <= MAX_RSA_BITS", "False", partial(accepted, "rsa1024")),
    Removed(keys, " or exponent.bit_length() > 64", "", case(f"{ANA} {odd_rsa().line}\n", odd_rsa().sign(PAYLOAD))),
    Removed(keys, "exponent < 3 or ", "", valid_file(listed(string(b"ssh-rsa") + mpint(1) + mpint(2**2047 + 1)))),
    Removed(
        keys,
        "fields[0] != curve or len(fields[1]) != 1 + 2 * _CURVE_BYTES[curve] or fields[1][0] != 4",
        "False",
        case(f"{ANA} {compressed().line}\n", compressed().sign(PAYLOAD)),
    ),
    Removed(
        keys,
        "fields[0] != curve or ",
        "",
        valid_file(listed(string(b"ecdsa-sha2-nistp256") + string(b"nistp384") + string(b"\4" * 65))),
    ),
    Removed(wire, "raw[0] & 0x80 or ", "", valid_file(listed(string(b"ssh-rsa") + mpint(3) + string(b"\xff" * 256)))),
    Removed(wire, "(raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80))", "False", partial(accepted, "ecdsa256 padded r")),
    Removed(wire, "if end > len(self.data):", "if False:", pinned(string(b"verify-required") + b"\0\0\0\5")),
    Removed(wire, "if self.at + count > len(self.data):", "if False:", case(OWN, cut_off())),
    Removed(wire, "if self.at != len(self.data):", "if False:", partial(accepted, "ed25519 signature tail")),
    Removed(
        keys,
        "_ed25519_key(public).verify(signature, data)",
        "_ed25519_key(public)",
        partial(accepted, "ed25519 other payload"),
    ),
    Removed(
        keys,
        "_rsa_key(*fields).verify(signature, data, PKCS1v15(), algorithm)",
        "_rsa_key(*fields)",
        partial(accepted, "rsa2048 other payload"),
    ),
    Removed(
        keys,
        "public.verify(encode_dss_signature(r, s), data, algorithm)",
        "pass",
        partial(accepted, "ecdsa256 other payload"),
    ),
    # security keys
    Removed(keys, "+ flags + counter +", '+ b"\\1" + counter +', partial(accepted, "sk-ed25519 flags raised")),
    Removed(keys, "+ flags + counter +", '+ flags + b"\\0\\0\\0\\7" +', partial(accepted, "sk-ecdsa counter changed")),
    Removed(
        keys,
        "hashlib.sha256(application).digest()",
        "hashlib.sha256(b'ssh:other').digest()",
        partial(accepted, "sk-ed25519 of another application"),
    ),
    Removed(
        keys,
        "    reader.end()\n    return flags[0]",
        "    return flags[0]",
        partial(accepted, "sk-ed25519 tail after the counter"),
    ),
    # certificates
    Removed(certificates, "if purpose != _USER:", "if False:", partial(accepted, "ed25519 certificate of a host")),
    Removed(
        certificates,
        "if len(principals) > _MAX_PRINCIPALS:",
        "if False:",
        partial(accepted, "ed25519 certificate of too many names"),
    ),
    Removed(
        certificates,
        "if any(option != _VERIFY_REQUIRED for option in critical):",
        "if False:",
        partial(accepted, "ed25519 certificate forced"),
    ),
    Removed(
        certificates,
        "parse_key(found.authority).check(signature, signed)",
        "parse_key(found.authority)",
        partial(accepted, "ed25519 certificate with the authority swapped"),
    ),
    Removed(certificates, "    reader.end()\n", "", partial(accepted, "ed25519 certificate with a tail")),
    Removed(certificates, "if len(fields) % 2:", "if False:", pinned(string(b"verify-required"))),
    # who it is
    Removed(
        identify,
        "if self.valid_after <= moment <= self.valid_before:",
        "if True:",
        partial(accepted, "time valid-before 20260101Z +1"),
    ),
    Removed(
        identify,
        "if self.valid_after <= moment <= self.valid_before:",
        "if moment <= self.valid_before:",
        partial(accepted, "time valid-after 20260101Z -1"),
    ),
    Removed(identify, "if signer is None:", "if False:", partial(accepted, "ed25519 unknown key")),
    Removed(identify, "if authority is None:", "if False:", partial(accepted, "ed25519 certificate by another authority")),
    Removed(identify, "if not signer.for_commits:", "if False:", partial(accepted, "line other namespace")),
    Removed(identify, "    _check_purpose(authority, person)\n", "", partial(accepted, "ed25519 certificate other namespace")),
    Removed(
        identify,
        "if len(people) != 1:",
        "if not people:",
        case(ca_line(), replace(GOOD, principals=(BO.encode(), ANA.encode())).sign(PAYLOAD)),
    ),
    Removed(
        identify,
        "if signers.authorities_of(person) != [authority]:",
        "if False:",
        partial(accepted, "ed25519 certificate and own key"),
    ),
    Removed(
        identify,
        "if certificate.verify_required and not proof.pin:",
        "if False:",
        partial(accepted, "sk-ed25519 certificate verify-required"),
    ),
    Removed(
        identify,
        "max(authority.valid_after, certificate.valid_after)",
        "authority.valid_after",
        partial(accepted, "time certificate -1"),
    ),
    Removed(
        identify,
        "max(authority.valid_after, certificate.valid_after)",
        "certificate.valid_after",
        partial(accepted, "time CA valid-after 20260101Z -1"),
    ),
    Removed(
        identify,
        "min(authority.valid_before, certificate.valid_before - 1)",
        "authority.valid_before",
        partial(accepted, "time certificate +100"),
    ),
    Removed(identify, "certificate.valid_before - 1", "certificate.valid_before", partial(accepted, "time certificate +100")),
    Removed(
        identify,
        "min(authority.valid_before, certificate.valid_before - 1)",
        "certificate.valid_before - 1",
        partial(accepted, "time CA valid-before 20260101Z +1"),
    ),
    # allowed_signers
    Removed(
        allowed_signers,
        "PERSON.match(person) is not None and ",
        "",
        case(ca_line(), replace(GOOD, principals=(b"a\n@acme",)).sign(PAYLOAD), "a\n@acme"),
    ),
    Removed(allowed_signers, 'if pattern.startswith("!"):', "if False:", partial(accepted, "line namespace excluded")),
    Removed(allowed_signers, "if found.key in lines:", "if False:", valid_file(OWN + OWN.replace(ANA, BO))),
    Removed(allowed_signers, "if not PERSON.match(who):", "if False:", valid_file(f"*,{BO} {KEY.line}\n")),
    Removed(allowed_signers, "if not _PATTERNS.match(text) or", "if", valid_file(f"[a-z]* cert-authority {KEY.line}\n")),
    Removed(
        allowed_signers,
        'or all(pattern.startswith("!") for pattern in text.split(","))',
        "",
        valid_file(f"!bo cert-authority {KEY.line}\n"),
    ),
    Removed(allowed_signers, "if name in seen:", "if False:", partial(accepted, "line time twice")),
    Removed(
        allowed_signers,
        "if options.is_authority:",
        "if False:",
        case(f"{ANA} cert-authority {KEY.line}\n", KEY.sign(PAYLOAD)),
    ),
    Removed(
        allowed_signers,
        "if base64.b64encode(blob).decode() != words[1]:",
        "if False:",
        valid_file(spare_bits()),
    ),
    Removed(allowed_signers, "if key.kind != kind:", "if False:", partial(accepted, "line wrong type")),
    Removed(
        allowed_signers, 'if not line.replace("\\t", " ").isprintable():', "if False:", partial(accepted, "line carriage returns")
    ),
    Removed(allowed_signers, "[] if person in self.people else ", "", partial(accepted, "ed25519 certificate and own key")),
    Removed(allowed_signers, "if len(data) > MAX_BYTES or ", "if ", valid_file("#" * (1 << 20) + "\n")),
    Removed(allowed_signers, 'data.count(b"\\n") > MAX_LINES', "False", valid_file("#\n" * 10_001)),
]


@pytest.mark.parametrize("removed", CHECKS, ids=lambda r: f"{r.module.__name__.rpartition('.')[2]}: {r.check[:60]}")
def test_an_attack_succeeds_only_without_its_check(removed: Removed) -> None:
    removed.prove()


@pytest.mark.parametrize("text", ["no such text", "raise", '_MAGIC = b"SSHSIG"'])
def test_a_text_that_no_longer_names_one_check_is_an_error(text: str) -> None:
    with pytest.raises(LookupError), without(signatures, text, "pass"):
        pass
