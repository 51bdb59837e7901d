"""Cases for OpenSSH and for us: signatures, keys, certificates and allowed_signers, right and wrong in every field.

A case is expected to get the same verdict from both, unless it names, in `stricter`, a way in which we are stricter on purpose.
"""

from __future__ import annotations

import base64
import random
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from livecfg.trust.signatures import armor, signed_data
from livecfg.trust.wire import Reader, mpint, string
from tests.trust.softkeys import KINDS, SoftCertificate, SoftKey, soft_key

if TYPE_CHECKING:
    from collections.abc import Iterator

T = 1_767_225_600  # 2026-01-01T00:00:00Z
ANA, BO, CA = "ana@acme", "bo@acme", "*@acme"

STRICTER = {
    "version": "the version of a signature is 1, not lower",
    "reserved": "the reserved field of a signature is empty",
    "armor": "the armor is one block of lines of at most 76 characters, with nothing around it and no blanks or carriage returns",
    "padded numbers": "numbers in keys and signatures have no padding, and an RSA signature has the length of its modulus",
    "malleated ed25519": "an ed25519 signature has one form only (S below the group order)",
    "short RSA keys": "RSA keys have at least 2048 bits",
    "certificate SHA-1": "an authority signs with SHA-2 only",
    "critical options": "a certificate with a critical option other than verify-required is refused",
    "verify-required": "verify-required in a certificate demands the PIN bit of the security key",
    "one person": "a certificate names exactly one person that its authority may speak for",
    "own key": "a certificate does not speak for a person who has a key of their own",
    "literal people": "patterns and lists of people stand on cert-authority lines only",
    "odd names": "people and patterns are of [A-Za-z0-9._+@-], in allowed_signers and in certificates",
    "whole file": "one malformed line, or a key that stands twice, makes the whole file invalid",
    "UTC": "times in allowed_signers end in Z",
}


@dataclass(frozen=True)
class Case:
    """One question: does `signature` over `payload` prove `person` at `moment`, by these allowed signers?"""

    name: str
    signers: str
    signature: bytes
    payload: bytes
    person: str = ANA
    moment: int = T
    stricter: str = ""


def commit(number: int, moment: int = T) -> bytes:
    """The payload of an ordinary commit."""
    who = f"Ana <ana@acme> {moment} +0000"
    return f"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor {who}\ncommitter {who}\n\nCase {number}\n".encode()


def every_case(seed: int = 0, flips: int = 6) -> Iterator[Case]:
    """All cases, `flips` random changes of each kind's signature among them, in an order that does not change."""
    yield from _all(random.Random(seed), flips)


def _all(rng: random.Random, flips: int) -> Iterator[Case]:
    for kind in KINDS:
        key, other = soft_key(kind), soft_key(kind, 1)
        yield from _plain(key, other)
        yield from _structure(key)
        yield from _flips(key.sign, f"{kind} flip", f"{ANA} {key.line}\n", rng, flips)
        yield from _certificates(key, soft_key("ed25519", 9))
    for kind in ("rsa2048", "ecdsa384", "sk-ed25519"):
        yield from _authority_kinds(soft_key(kind, 8))
    yield from _signature_forms()
    yield from _security_keys()
    yield from _armor()
    yield from _lines()
    yield from _times()
    certificate = SoftCertificate(soft_key("ed25519"), soft_key("ed25519", 9))
    yield from _flips(certificate.sign, "certificate flip", _ca_line(soft_key("ed25519", 9)), rng, flips * 8)


def _ca_line(authority: SoftKey, patterns: str = CA, options: str = "") -> str:
    return f"{patterns} cert-authority{',' + options if options else ''} {authority.line}\n"


def _plain(key: SoftKey, other: SoftKey) -> Iterator[Case]:
    line, payload, kind = f"{ANA} {key.line}\n", commit(1), key.kind
    for hash_name in (b"sha256", b"sha512"):
        yield Case(f"{kind} {hash_name.decode()}", line, key.sign(payload, hash_name=hash_name), payload)
    for namespace in (b"file", b"", b"git\0", b"GIT", b"git,file"):
        yield Case(f"{kind} namespace {namespace!r}", line, key.sign(payload, namespace=namespace), payload)
    yield Case(f"{kind} other payload", line, key.sign(payload), payload + b"\n")
    yield Case(f"{kind} unknown key", line, other.sign(payload), payload)
    yield Case(f"{kind} other person", line, key.sign(payload), payload, person=BO)
    yield Case(f"{kind} two people", line + f"{BO} {other.line}\n", other.sign(payload), payload, person=BO)
    data = signed_data(b"git", b"sha512", payload)
    yield Case(f"{kind} swapped key", line, armor(key.blob, b"git", b"sha512", other.raw(data)), payload)
    yield Case(f"{kind} foreign signature", line, armor(other.blob, b"git", b"sha512", key.raw(data)), payload)
    yield Case(f"{kind} named as CA", f"{ANA} cert-authority {key.line}\n", key.sign(payload), payload)


def _sshsig(maker: SoftKey, payload: bytes, **wrong: bytes) -> bytes:
    """An SSHSIG with single fields replaced: magic, version, key, namespace, reserved, hash, signature, tail."""
    data = signed_data(b"git", b"sha512", payload)
    fields = {"key": maker.blob, "namespace": b"git", "reserved": b"", "hash": b"sha512", "signature": maker.raw(data)} | wrong
    raw = wrong.get("magic", b"SSHSIG") + wrong.get("version", struct.pack(">I", 1))
    raw += b"".join(string(fields[name]) for name in ("key", "namespace", "reserved", "hash", "signature"))
    return wrap(raw + wrong.get("tail", b""))


def wrap(raw: bytes, width: int = 70) -> bytes:
    """Armor raw bytes."""
    text = base64.b64encode(raw)
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


def unwrap(armored: bytes) -> bytes:
    """The raw bytes of an armored block."""
    return base64.b64decode(b"".join(armored.split(b"\n")[1:-2]))


def _structure(key: SoftKey) -> Iterator[Case]:
    line, payload, kind = f"{ANA} {key.line}\n", commit(2), key.kind
    raw = key.raw(signed_data(b"git", b"sha512", payload))
    name = Reader(raw).string()
    rest = raw[4 + len(name) :]
    whole = unwrap(key.sign(payload))
    wrong: dict[str, bytes] = {
        "magic": _sshsig(key, payload, magic=b"SSHSIH"),
        "version 2": _sshsig(key, payload, version=struct.pack(">I", 2)),
        "hash sha1": _sshsig(key, payload, hash=b"sha1"),
        "hash sha384": _sshsig(key, payload, hash=b"sha384"),
        "hash sha256 claimed": _sshsig(key, payload, hash=b"sha256"),
        "hash empty": _sshsig(key, payload, hash=b""),
        "tail": _sshsig(key, payload, tail=b"\0"),
        "empty signature": _sshsig(key, payload, signature=b""),
        "signature tail": _sshsig(key, payload, signature=raw + b"\0"),
        "signature cut": _sshsig(key, payload, signature=raw[:-1]),
        "signature of no type": _sshsig(key, payload, signature=string(b"") + rest),
        "signature of another type": _sshsig(key, payload, signature=string(b"ssh-dss") + rest),
        "key tail": _sshsig(key, payload, key=key.blob + b"\0"),
        "key cut": _sshsig(key, payload, key=key.blob[:-1]),
        "key empty": _sshsig(key, payload, key=b""),
        "key of another type": _sshsig(key, payload, key=string(b"ssh-dss") + key.fields),
    }
    for what, signature in wrong.items():
        yield Case(f"{kind} {what}", line, signature, payload)
    lower = _sshsig(key, payload, version=struct.pack(">I", 0))
    yield Case(f"{kind} version 0", line, lower, payload, stricter="version")
    yield Case(f"{kind} reserved", line, _sshsig(key, payload, reserved=b"x"), payload, stricter="reserved")
    for size in (0, 5, 6, 9, 10, 14, len(whole) // 2, len(whole) - 1):
        yield Case(f"{kind} cut at {size}", line, wrap(whole[:size]), payload)


def _flips(sign: object, name: str, line: str, rng: random.Random, count: int) -> Iterator[Case]:
    assert callable(sign)
    payload = commit(3)
    whole = unwrap(sign(payload))
    for number in range(count):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        yield Case(f"{name} {number}", line, wrap(bytes(raw)), payload)


def _signature_forms() -> Iterator[Case]:
    """One value, other encodings; and the forms that some verifiers take for the same."""
    payload = commit(4)
    data = signed_data(b"git", b"sha512", payload)
    for kind, order in (("ecdsa256", 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),):
        key = soft_key(kind)
        line = f"{ANA} {key.line}\n"
        inner = Reader(Reader(key.raw(data)[4 + len(key.name) :]).string())
        r, s = (int.from_bytes(inner.string()) for _ in range(2))

        def made(value: bytes, key: SoftKey = key) -> bytes:
            return armor(key.blob, b"git", b"sha512", string(key.name) + string(value))

        def padded(number: int) -> bytes:
            raw = number.to_bytes(number.bit_length() // 8 + 1)
            return string(b"\0" + raw)

        yield Case(f"{kind} other s", line, made(mpint(r) + mpint(order - s)), payload)
        yield Case(f"{kind} padded r", line, made(padded(r) + mpint(s)), payload, stricter="padded numbers")
        yield Case(f"{kind} padded s", line, made(mpint(r) + padded(s)), payload, stricter="padded numbers")
        yield Case(f"{kind} r plus order", line, made(mpint(r + order) + mpint(s)), payload)
        yield Case(f"{kind} r is zero", line, made(string(b"") + mpint(s)), payload)
        yield Case(f"{kind} s is zero", line, made(mpint(r) + string(b"")), payload)
        yield Case(f"{kind} negative r", line, made(string(b"\x80" + mpint(r)[5:]) + mpint(s)), payload)
        yield Case(f"{kind} tail after s", line, made(mpint(r) + mpint(s) + b"\0"), payload)
        yield Case(f"{kind} DER", line, made(key.private.sign(data, ec.ECDSA(hashes.SHA256()))), payload)
    yield from _ed25519_forms(payload, data)
    yield from _rsa_forms(payload, data)


def _ed25519_forms(payload: bytes, data: bytes) -> Iterator[Case]:
    key = soft_key("ed25519")
    line = f"{ANA} {key.line}\n"
    value = key.private.sign(data)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(value[32:], "little")
    for number in (1, 2, 7):
        other = value[:32] + (s + number * order).to_bytes(32, "little")
        signature = armor(key.blob, b"git", b"sha512", string(key.name) + string(other))
        yield Case(f"ed25519 S + {number}L", line, signature, payload, stricter="malleated ed25519" if number == 1 else "")
    for size in (0, 63, 65):
        signature = armor(key.blob, b"git", b"sha512", string(key.name) + string((value + b"\0")[:size]))
        yield Case(f"ed25519 of {size} bytes", line, signature, payload)


def _rsa_forms(payload: bytes, data: bytes) -> Iterator[Case]:
    key = soft_key("rsa2048")
    line = f"{ANA} {key.line}\n"
    n = key.private.public_key().public_numbers().n
    for algorithm in (b"ssh-rsa", b"rsa-sha2-256", b"rsa-sha2-512"):
        yield Case(f"rsa by {algorithm.decode()}", line, key.sign(payload, algorithm=algorithm), payload)
    value = Reader(key.raw(data)[4 + len(b"rsa-sha2-512") :]).string()

    def made(value: bytes, name: bytes = b"rsa-sha2-512") -> bytes:
        return armor(key.blob, b"git", b"sha512", string(name) + string(value))

    yield Case("rsa padded", line, made(b"\0" + value), payload)
    yield Case("rsa other hash named", line, made(value, b"rsa-sha2-256"), payload)
    greater = int.from_bytes(value) + n
    yield Case("rsa plus modulus", line, made(greater.to_bytes((greater.bit_length() + 7) // 8)), payload)
    for number in range(4096):
        text = commit(10_000 + number)
        short = Reader(key.raw(signed_data(b"git", b"sha512", text))[4 + len(b"rsa-sha2-512") :]).string()
        if short[0] == 0:
            yield Case("rsa with a zero in front", line, made(short), text)
            yield Case("rsa without the zero in front", line, made(short[1:]), text, stricter="padded numbers")
            break
    small = soft_key("rsa1024")
    yield Case("rsa1024", f"{ANA} {small.line}\n", small.sign(payload), payload, stricter="short RSA keys")


def _security_keys() -> Iterator[Case]:
    payload = commit(5)
    data = signed_data(b"git", b"sha512", payload)
    for kind in ("sk-ed25519", "sk-ecdsa"):
        key = soft_key(kind)
        line = f"{ANA} {key.line}\n"
        for flags in (0, 1, 4, 5, 0x41, 0xFF):
            yield Case(f"{kind} flags {flags}", line, key.sign(payload, flags=flags), payload)
        for counter in (0, 2**32 - 1):
            yield Case(f"{kind} counter {counter}", line, key.sign(payload, counter=counter), payload)
        raw = key.raw(data)
        for name, changed in {
            "flags raised": raw[:-5] + b"\5" + raw[-4:],
            "counter changed": raw[:-1] + b"\x08",
            "no counter": raw[:-4],
            "no flags": raw[:-5],
            "tail after the counter": raw + b"\0",
        }.items():
            yield Case(f"{kind} {name}", line, armor(key.blob, b"git", b"sha512", changed), payload)
        elsewhere = replace(key, application=b"ssh:other")
        yield Case(f"{kind} of another application", line, elsewhere.sign(payload), payload)
        plain = soft_key("ed25519" if kind == "sk-ed25519" else "ecdsa256")
        unattested = string(key.name) + string(replace(key, kind="plain")._plain(data, b"")[1]) + b"\1\0\0\0\7"
        yield Case(f"{kind} not attested", line, armor(key.blob, b"git", b"sha512", unattested), payload)
        yield Case(f"{kind} as a plain key", line, armor(key.blob, b"git", b"sha512", plain.raw(data)), payload)


def _armor() -> Iterator[Case]:
    key, payload = soft_key("ed25519"), commit(6)
    line, good = f"{ANA} {key.line}\n", key.sign(payload)
    raw = unwrap(good)
    body = good.split(b"\n")[1:-2]
    same: dict[str, bytes] = {
        "as it is": good,
        "no last newline": good[:-1],
        "narrow": wrap(raw, 64),
        "wide": wrap(raw, 76),
    }
    for name, text in same.items():
        yield Case(f"armor {name}", line, text, payload)
    stricter: dict[str, bytes] = {
        "too wide": wrap(raw, 77),
        "one line": wrap(raw, 10_000),
        "text after": good + b"junk\n",
        "blank lines after": good + b"\n\n",
        "two blocks": good + good,
        "blank inside": good.replace(body[0], body[0][:9] + b" " + body[0][9:]),
        "empty line inside": good.replace(body[0], body[0] + b"\n"),
        "tab in front": good.replace(body[0], b"\t" + body[0]),
    }
    for name, text in stricter.items():
        yield Case(f"armor {name}", line, text, payload, stricter="armor")
    both: dict[str, bytes] = {
        "empty": b"",
        "CRLF": good.replace(b"\n", b"\r\n"),
        "text before": b"junk\n" + good,
        "newline before": b"\n" + good,
        "PGP": good.replace(b"SSH SIG", b"PGP SIG"),
        "no end": good[:-31],
        "no begin": good.partition(b"\n")[2],
        "no body": b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        "other alphabet": good.replace(body[0], body[0].replace(b"A", b"_")),
        "padding inside": good.replace(body[0], body[0][:-1] + b"="),
        "lower case": good.lower(),
        "raw": raw,
    }
    for name, text in both.items():
        yield Case(f"armor {name}", line, text, payload)
    for spare in (1, 2):
        padded = string(b"ssh-ed25519") + string(b"\0" * (64 + spare))
        text = armor(key.blob, b"git", b"sha512", padded)
        yield Case(f"armor padding {spare}", line, text, payload)
    last = good.split(b"\n")[-3]
    if last.endswith(b"="):
        at = len(last.rstrip(b"=")) - 1
        bits = last[:at] + bytes([last[at] + 1]) + last[at + 1 :]
        yield Case("armor spare bits", line, good.replace(last, bits), payload)


def _lines() -> Iterator[Case]:
    """allowed_signers: people, options, forms of a line."""
    key, other, payload = soft_key("ed25519"), soft_key("ecdsa256"), commit(7)
    signature, k = key.sign(payload), key.line
    same = {
        "comment at the end": f"{ANA} {k} laptop of ana\n",
        "comment line": f"# people\n\n{ANA} {k}\n",
        "no last newline": f"{ANA} {k}",
        "tabs": f"{ANA}\t{k.replace(' ', chr(9))}\n",
        "many blanks": f"{ANA}    {k.replace(' ', '   ')}\n",
        "blanks in front": f"   {ANA} {k}\n",
        "namespace": f'{ANA} namespaces="git" {k}\n',
        "namespaces": f'{ANA} namespaces="file,git" {k}\n',
        "namespace pattern": f'{ANA} namespaces="g*" {k}\n',
        "namespace question": f'{ANA} namespaces="g?t" {k}\n',
        "other namespace": f'{ANA} namespaces="file" {k}\n',
        "namespace excluded": f'{ANA} namespaces="*,!git" {k}\n',
        "namespace excluded first": f'{ANA} namespaces="!git,*" {k}\n',
        "other excluded": f'{ANA} namespaces="!file,*" {k}\n',
        "namespace prefix": f'{ANA} namespaces="gi" {k}\n',
        "namespace case": f'{ANA} namespaces="GIT" {k}\n',
        "option in capitals": f'{ANA} NAMESPACES="git" {k}\n',
        "two options": f'{ANA} namespaces="git",valid-before="20400101Z" {k}\n',
        "unknown option": f"{ANA} no-touch-required {k}\n",
        "option without value": f"{ANA} namespaces {k}\n",
        "option twice": f'{ANA} namespaces="file",namespaces="git" {k}\n',
        "time twice": f'{ANA} valid-before="20400101Z",valid-before="20410101Z" {k}\n',
        "open quote": f'{ANA} namespaces="git {k}\n',
        "bad time": f'{ANA} valid-before="tomorrow" {k}\n',
        "impossible time": f'{ANA} valid-before="20261399Z" {k}\n',
        "no key": f"{ANA}\n",
        "no base64": f"{ANA} ssh-ed25519\n",
        "not base64": f"{ANA} ssh-ed25519 %%%%\n",
        "wrong type": f"{ANA} ssh-rsa {k.split()[1]}\n",
        "other key": f"{ANA} {other.line}\n",
        "empty": "",
        "only comments": f"# {ANA} {k}\n",
        "case of the name": f"{ANA.upper()} {k}\n",
        "key in front": f"{k} {ANA}\n",
    }
    for name, text in same.items():
        yield Case(f"line {name}", text, signature, payload)
    literal = {"star": "*", "domain": "*@acme", "question": "an?@acme", "list": f"{ANA},{BO}", "not bo": f"*,!{BO}"}
    for name, people in literal.items():
        yield Case(f"line {name}", f"{people} {k}\n", signature, payload, stricter="literal people")
        yield Case(f"line CA {name}", f"{people} cert-authority {k}\n", signature, payload)
    yield Case("line quoted", f'"{ANA}" {k}\n', signature, payload, stricter="odd names")
    for name, text in {
        "malformed line after": f"{ANA} {k}\n{BO} ssh-ed25519\n",
        "malformed line before": f"{BO} nonsense\n{ANA} {k}\n",
        "key twice": f"{ANA} {k}\n{BO} {k}\n",
        "key twice for one": f'{ANA} namespaces="file" {k}\n{ANA} {k}\n',
        "as CA too": f"{ANA} {k}\n*@acme cert-authority {k}\n",
        "carriage returns": f"{ANA} {k}\r\n",
        "not ASCII": f"{ANA} {k} café\n",
    }.items():
        yield Case(f"line {name}", text, signature, payload, stricter="whole file")
    short = soft_key("rsa1024")
    yield Case("line short RSA key elsewhere", f"{BO} {short.line}\n{ANA} {k}\n", signature, payload, stricter="whole file")


def _times() -> Iterator[Case]:
    """Bounds of a line, inclusive at both ends, and of a certificate, exclusive at the end."""
    key, authority = soft_key("ed25519"), soft_key("ed25519", 9)
    good = SoftCertificate(key, authority)
    bounded = replace(good, valid_after=T, valid_before=T + 100)
    for option in ("valid-after", "valid-before"):
        for form in ("20260101Z", "202601010000Z", "20260101000000Z"):
            for moment in (T - 1, T, T + 1):
                payload, bound = commit(8, moment), f'{option}="{form}"'
                name = f"{option} {form} {moment - T:+}"
                yield Case(f"time {name}", f"{ANA} {bound} {key.line}\n", key.sign(payload), payload, moment=moment)
                line = _ca_line(authority, options=bound)
                yield Case(f"time CA {name}", line, good.sign(payload), payload, moment=moment)
        line, payload = f'{ANA} {option}="20260101" {key.line}\n', commit(8)
        yield Case(f"time {option} local", line, key.sign(payload), payload, stricter="UTC")
    for moment in (T - 1, T, T + 99, T + 100, T + 101):
        payload = commit(8, moment)
        name = f"time certificate {moment - T:+}"
        yield Case(name, _ca_line(authority), bounded.sign(payload), payload, moment=moment)
    payload = commit(8)
    for after, before in ((T + 1, T), (T, T), (0, 0), (2**64 - 1, 2**64 - 1), (0, 1)):
        signature = replace(good, valid_after=after, valid_before=before).sign(payload)
        yield Case(f"time certificate {after}..{before}", _ca_line(authority), signature, payload)


def _certificates(key: SoftKey, authority: SoftKey) -> Iterator[Case]:
    """Certificates with every field wrong."""
    payload, line, kind = commit(9), _ca_line(authority), f"{key.kind} certificate"
    good = SoftCertificate(key, authority)
    other = soft_key("ed25519", 5)
    data = signed_data(b"git", b"sha512", payload)
    same: dict[str, SoftCertificate] = {
        "as it is": good,
        "of a host": replace(good, purpose=2),
        "of purpose 0": replace(good, purpose=0),
        "without principals": replace(good, principals=()),
        "of another person": replace(good, principals=(BO.encode(),)),
        "of an empty name": replace(good, principals=(b"",)),
        "with a foreign second name": replace(good, principals=(ANA.encode(), b"ana@elsewhere")),
        "name as a pattern": replace(good, principals=(b"*@acme",)),
        "of too many names": replace(good, principals=(*(b"p%d@x" % n for n in range(257)), ANA.encode())),
        "without a nonce": replace(good, nonce=b""),
        "with reserved bytes": replace(good, reserved=b"later"),
        "with an extension": replace(good, extensions=((b"permit-pty", b""), (b"unknown@acme", b"x"))),
        "with options that end early": replace(good, raw_critical=string(b"verify-required")),
        "with options cut": replace(good, raw_critical=b"\0\0\0\x09x"),
        "by another authority": replace(good, authority=other),
        "with the authority swapped": replace(good, authority=other, authority_blob=authority.blob),
        "with an authority of no type": replace(good, authority_blob=string(b"ssh-what") + authority.fields),
        "with an authority that is a certificate": replace(good, authority_blob=SoftCertificate(authority, other).blob),
        "with a tail": replace(good, trailing=b"\0"),
        "by itself": replace(good, authority=key),
    }
    for name, certificate in same.items():
        yield Case(f"{kind} {name}", line, certificate.sign(payload), payload)
    odd = replace(good, principals=(ANA.encode() + b"\0",))
    yield Case(f"{kind} name with a zero", line, odd.sign(payload), payload, stricter="odd names")
    forced = replace(good, critical=((b"force-command", string(b"true")),))
    yield Case(f"{kind} forced", line, forced.sign(payload), payload, stricter="critical options")
    unknown = replace(good, critical=((b"unknown@acme", b""),))
    yield Case(f"{kind} unknown option", line, unknown.sign(payload), payload, stricter="critical options")
    pinned = replace(good, critical=((b"verify-required", b""),))
    yield Case(f"{kind} verify-required", line, pinned.sign(payload), payload, stricter="verify-required")
    if key.kind.startswith("sk-"):
        yield Case(f"{kind} verify-required with PIN", line, pinned.sign(payload, flags=5), payload)
    both = replace(good, principals=(ANA.encode(), BO.encode()))
    yield Case(f"{kind} of two people", line, both.sign(payload), payload, stricter="one person")
    yield Case(
        f"{kind} and own key", line + f"{ANA} {soft_key('ecdsa256', 7).line}\n", good.sign(payload), payload, stricter="own key"
    )
    subject = soft_key(key.kind, 1)
    yield Case(f"{kind} signed by another key", line, armor(good.blob, b"git", b"sha512", subject.raw(data)), payload)
    yield Case(f"{kind} listed as a key", f"{ANA} {key.line}\n", good.sign(payload), payload)
    yield Case(f"{kind} plain key of its subject", line, key.sign(payload), payload)
    yield Case(f"{kind} other namespace", _ca_line(authority, options='namespaces="file"'), good.sign(payload), payload)
    for patterns in (ANA, "ana@*", "an?@acme", f"{BO},{ANA}", f"*,!{ANA}", f"!{ANA},*", f"*,!{BO}", "*@elsewhere", "*"):
        yield Case(f"{kind} patterns {patterns}", _ca_line(authority, patterns), good.sign(payload), payload)


def _authority_kinds(authority: SoftKey) -> Iterator[Case]:
    payload, key = commit(11), soft_key("ed25519")
    line = _ca_line(authority)
    yield Case(f"CA {authority.kind}", line, SoftCertificate(key, authority).sign(payload), payload)
    if authority.kind.startswith("rsa"):
        for algorithm in (b"rsa-sha2-256", b"rsa-sha2-512"):
            made = SoftCertificate(key, authority, how={"algorithm": algorithm})
            yield Case(f"CA {algorithm.decode()}", line, made.sign(payload), payload)
        made = SoftCertificate(key, authority, how={"algorithm": b"ssh-rsa"})
        yield Case("CA ssh-rsa", line, made.sign(payload), payload, stricter="certificate SHA-1")
        small = soft_key("rsa1024", 8)
        yield Case("CA rsa1024", _ca_line(small), SoftCertificate(key, small).sign(payload), payload, stricter="short RSA keys")


__all__ = ["STRICTER", "Case", "commit", "every_case", "unwrap", "wrap"]
