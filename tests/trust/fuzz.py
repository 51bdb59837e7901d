"""Mutation fuzzing of every parser that meets foreign bytes: it raises nothing but its own errors, and never takes long.

Inputs are changed from the files of `corpus/<parser>`; one whose outcome was not seen before joins the pool, so that the search
goes deeper. A run is the same every time. `PYTHONPATH=. python tests/trust/fuzz.py` writes the corpus again, and keeps what was
found by fuzzing (`found-*`); with a parser's name and a number it fuzzes that one for so many inputs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.document import read
from livecfg.errors import LivecfgError, MissingObjectError
from livecfg.git.pack import Entry, PackReader, object_id, write_pack
from livecfg.git.source import Limits
from livecfg.refusal import Code, Refusal
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.certificates import parse_certificate
from livecfg.trust.checkpoint import NAMESPACE as CHECKPOINT
from livecfg.trust.checkpoint import Checkpoint, read_checkpoint
from livecfg.trust.commits import parse_any, parse_commit, trailers
from livecfg.trust.heartbeat import beat, read_heartbeat
from livecfg.trust.identify import identify
from livecfg.trust.keys import parse_key
from livecfg.trust.openpgp import issuer, parse_openpgp
from livecfg.trust.policy import Policy, PolicyFile
from livecfg.trust.policy_tests import run_policy_tests
from livecfg.trust.root import Good, TrustedRoot
from livecfg.trust.signatures import decode
from livecfg.trust.statement import write_statement
from livecfg.trust.tree import TreeFaultError, parse
from livecfg.trust.wire import SignatureError
from livecfg.validation import validate
from tests.trust.cases import commit, every_case, unwrap, wrap
from tests.trust.fuzz_walk import WALKS, walk_seeds
from tests.trust.gpg import FIXTURES, ROOT
from tests.trust.peers import signed_object
from tests.trust.softkeys import KINDS, SoftCertificate, soft_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.git.pack import Content

CORPUS = Path(__file__).parent / "corpus"
SLOW_S = 2.0
_BEAT = b"livecfg-heartbeat@v1"
_TOKENS = (
    *(bytes([char]) for char in b"\0\n\r\t =,!*:-{['\"#&"),
    *(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x7f\xff\xff\xff", b"\x80\0\0\0"),
    *(b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"1e999", b"0" * 40),
    *(b"gpgsig ", b"parent ", b"tree ", b"encoding ", b"cert-authority", b'valid-before="99991231Z"', b"namespaces"),
    *(b"---\n", b"? ", b"<<: ", b"*a", b"&a ", b"!!", b"|\n"),
    *(b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----", b"-----BEGIN PGP SIGNATURE-----\n"),
)


def _identify(data: bytes) -> object:
    return identify(parse_commit("0" * 40, data), _SIGNERS)


def _commit(data: bytes) -> object:
    found = parse_commit("0" * 40, data)
    assert found == parse_any("0" * 40, data)
    return f"{len(trailers(found.message))} {found.flaw}"


def _policy(data: bytes) -> object:
    return validate(PolicyFile, read(data, "policy.yaml"), Code.POLICY)


def _heartbeat(data: bytes) -> object:
    return read_heartbeat(data, _POLICY, "refs/heads/main", 2_000_000_000)


def _checkpoint(data: bytes) -> object:
    return read_checkpoint(data, _ROOT, "refs/heads/main", 1_700_000_000)


def _nothing(name: str) -> Content:
    raise MissingObjectError(name)


def _pack(data: bytes) -> object:
    limits = Limits(objects=100, inflated_bytes=1 << 20, object_bytes=1 << 18)
    return PackReader(data, limits, _nothing).read()


_SIGNERS = parse_allowed_signers(
    f"ana@acme {soft_key('ed25519').line}\n*@acme cert-authority {soft_key('ed25519', 9).line}\n".encode(), "allowed_signers"
)
_POLICY = Policy(
    PolicyFile.model_validate(
        {"version": 1, "repo_id": "0" * 32, "root": {"people": ["ana@acme"], "threshold": 1}, "timestamp": ["ana@acme"]}
    ),
    _SIGNERS,
    frozenset({"ana@acme"}),
)
_ROOT = TrustedRoot("0" * 32, 1, _SIGNERS)
PARSERS: dict[str, Callable[[bytes], object]] = {
    "sshsig": decode,
    "key": parse_key,
    "certificate": parse_certificate,
    "allowed_signers": lambda data: parse_allowed_signers(data, "allowed_signers"),
    "openpgp_signature": issuer,
    "openpgp_certificate": lambda data: parse_openpgp({".livecfg/openpgp/ana.asc": data}),
    "commit": _commit,
    "identify": _identify,
    "tree": lambda data: parse(data, 20),
    "yaml": lambda data: read(data, "a.yaml"),
    "json": lambda data: read(data, "a.json"),
    "root": lambda data: TrustedRoot.parse(data, "root.yaml"),
    "policy": _policy,
    "policy_tests": lambda data: run_policy_tests(_POLICY, data),
    "heartbeat": _heartbeat,
    "checkpoint": _checkpoint,
    "pack": _pack,
    **WALKS,
}


def _summed(body: bytes) -> bytes:
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _pgp_raw(data: bytes) -> bytes:
    return base64.b64decode(data.partition(b"\n\n")[2].partition(b"\n=")[0])


def _pgp_armored(what: bytes) -> Callable[[bytes], bytes]:
    def close(raw: bytes) -> bytes:
        text = base64.b64encode(raw)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return b"\n".join([b"-----BEGIN PGP %b-----" % what, b"", *lines, b"-----END PGP %b-----" % what])

    return close


_ARMORED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "sshsig": (unwrap, wrap),
    "pack": (lambda data: data[:-20], _summed),
    "openpgp_signature": (_pgp_raw, _pgp_armored(b"SIGNATURE")),
    "openpgp_certificate": (_pgp_raw, _pgp_armored(b"PUBLIC KEY BLOCK")),
}


@dataclass
class Outcome:
    """What a run saw: how many inputs were accepted, how often each kind of error was raised, the slowest input in seconds."""

    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


class ForeignError(AssertionError):
    """A parser raised what it must not, or took too long; the message holds the input."""


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a parser."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def one(name: str, data: bytes) -> str:
    """Give one input to a parser; tell its outcome in a few words: empty when it was accepted."""
    try:
        found = PARSERS[name](data)
    except (LivecfgError, SignatureError, TreeFaultError) as error:
        return _in_short(f"{type(error).__name__} {error}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        raise ForeignError(f"{name} raised {error!r} for base64 {base64.b64encode(data).decode()}") from error
    return _in_short(str(found)) if isinstance(found, str | Refusal) else ""


def _in_short(text: str) -> str:
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|\(.*", "", text)
    return " ".join(re.findall(r"[A-Za-z]+|LC[0-9]+", plain)[:9])[:60]


def fuzz(name: str, inputs: int, seed: int = 0, progress: Callable[[str], None] | None = None) -> Outcome:
    """Give `inputs` changed inputs to a parser; `progress` is told every 100,000 how far it is.

    Raises:
        ForeignError: the parser raised what is not its own, or took longer than SLOW_S.

    """
    rng = random.Random(f"{name} {seed}")
    pool = corpus(name)
    room = len(pool) + 60
    outcome = Outcome()
    seen: set[str] = set()
    for number in range(inputs):
        data = mutate(rng, pool, name)
        began = time.process_time()  # not by the wall: a busy machine makes no input slow
        found = one(name, data)
        taken = time.process_time() - began
        outcome.slowest = max(outcome.slowest, taken)
        if taken > SLOW_S:
            raise ForeignError(f"{name} took {taken:.1f} s for base64 {base64.b64encode(data).decode()}")
        outcome.errors[found if len(outcome.errors) < 200 else "something else"] += bool(found)
        outcome.accepted += not found
        if found not in seen and len(pool) < room and len(data) < 8192:
            seen.add(found)
            pool.append(data)
        if progress is not None and number % 100_000 == 99_999:
            progress(f"{name}: {number + 1:,} of {inputs:,}, {len(seen)} outcomes, slowest {outcome.slowest * 1000:.0f} ms")
    return outcome


def mutate(rng: random.Random, pool: list[bytes], name: str) -> bytes:
    """Change one input of the pool in one to eight places; what is armored is opened first, half of the time."""
    chosen = rng.choice(pool)
    opened, close = chosen, bytes
    if name in _ARMORED and rng.random() < 0.6:
        with contextlib.suppress(ValueError):
            opened, close = _ARMORED[name][0](chosen), _ARMORED[name][1]
    data = bytearray(opened)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _change(rng, data, pool)
    return close(bytes(data))


def _change(rng: random.Random, data: bytearray, pool: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(8)
    if kind <= 1 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 2 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 3:
        data[at:at] = rng.choice(_TOKENS)
    elif kind == 4:
        del data[at : at + rng.choice((1, 1, 2, 4, 16, 64))]
    elif kind == 5:
        data[at : at + 4] = rng.choice(_TOKENS)
    elif kind == 6:
        end = at + rng.choice((1, 4, 16, 64))
        data[at:at] = bytes(data[at:end]) * rng.choice((1, 2, 40))
    else:
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + rng.choice((4, 16, 64, 256))]


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """The corpus as it is written: parser, name, content."""
    authority = soft_key("ed25519", 9)
    for kind in KINDS:
        key = soft_key(kind)
        yield "sshsig", kind, key.sign(commit(1))
        yield "key", kind, key.blob
        certificate = SoftCertificate(key, authority, critical=((b"verify-required", b""),), extensions=((b"permit-pty", b""),))
        yield "certificate", kind, certificate.blob
        yield "sshsig", f"{kind}-certificate", certificate.sign(commit(1))
    cases = {case.name: case for case in every_case(flips=0)}
    for number, name in enumerate(("ed25519 sha512", "sk-ed25519 flags 5", "ed25519 certificate as it is", "rsa2048 sha256")):
        yield "identify", str(number), signed_object(cases[name])
        yield "commit", str(number), signed_object(cases[name])
    yield "commit", "merge", commit(1).replace(b"author", b"parent " + b"0" * 40 + b"\nparent " + b"1" * 40 + b"\nauthor", 1)
    yield "commit", "trailers", commit(1) + b"\nLivecfg-Adopt: " + b"0" * 40 + b"\nLivecfg-Ref: 6f1c refs/heads/main\n"
    for name in ("line two options", "line namespace excluded", "time CA valid-after 20260101Z +0", "line comment line"):
        yield "allowed_signers", name.replace(" ", "-"), cases[name].signers.encode()
    for path in sorted(FIXTURES.glob("*.sig")):
        yield "openpgp_signature", path.stem, path.read_bytes()
    yield "identify", "openpgp", signed_object(cases["ed25519 sha512"]).replace(b"SSH SIGNATURE", b"PGP SIGNATURE")
    for path in sorted(FIXTURES.glob("*.asc")):
        yield "openpgp_certificate", path.stem, path.read_bytes()
    yield "tree", "two", b"100644 a\0" + b"x" * 20 + b"40000 b\0" + b"y" * 20
    yield "tree", "modes", b"100755 a\0" + b"x" * 20 + b"120000 b\0" + b"y" * 20 + b"160000 c\0" + b"z" * 20
    yield "yaml", "flow", b"a: [1, {b: 'c', 2: 3.5}]\n# x\nd: !unset\ne: \"\\u00e9\"\n"
    yield "yaml", "block", b"a:\n  - b\n  - |\n    text\n  - >-\n    folded\nc: &x 1\nd: *x\n<<: {}\n"
    yield "yaml", "documents", b"%YAML 1.2\n---\na: yes\n...\n---\nb: 0o17\n"
    yield "json", "object", b'{"a": [1, {"b": "c\\u00e9"}], "d": null, "a2": 1e5, "f": -0.5, "t": true}'
    yield "json", "deep", b"[" * 20 + b"]" * 20
    yield "root", "kept", ROOT.read_bytes()
    anchor = b"anchor: {commit: 'sha1:" + b"0" * 40 + b"', payload_sha256: '" + b"1" * 64 + b"'}\n"
    yield "root", "anchor", ROOT.read_bytes() + anchor
    for number, text in enumerate(POLICIES):
        yield "policy", str(number), text
    table = b"version: 1\ntests:\n  - {name: all, paths: ['config/a.yaml'], by: [ana@acme], expect: denied}\n"
    yield "policy_tests", "denied", table
    good = Good("1" * 40, "2" * 64, 7, 1_700_000_000, "3" * 40)
    sign = partial(soft_key("ed25519").sign, namespace=_BEAT)
    yield "heartbeat", "one", beat("0" * 32, "refs/heads/main", good, 9, 1_700_000_000, sign)
    begin = Checkpoint(
        repo_id="0" * 32,
        ref="refs/heads/main",
        commit="1" * 40,
        payload_sha256="2" * 64,
        manifest="3" * 64,
        position=7,
        time=1_700_000_000,
        expires=1_800_000_000,
    )
    sign = partial(soft_key("ed25519").sign, namespace=CHECKPOINT.encode())
    yield "checkpoint", "one", write_statement(begin.model_dump(), sign)
    texts = (b"a: 1\n", b"b: 2\n" * 200)
    plain = [Entry(object_id("blob", text), "blob", text) for text in texts]
    delta = Entry(object_id("blob", b"a: 1\nx"), "blob", b"\x05\x06\x90\x05\x01x", delta_on=plain[0].name)
    yield "pack", "blobs", write_pack(plain)[0]
    yield "pack", "delta", write_pack([*plain, delta])[0]
    yield from walk_seeds()


_FULL_POLICY = (
    b"version: 1\nrepo_id: 6f1c0c1e9a0f4f7f8a5e1d7f0c1b2a33\nroot: {people: [ana@acme, bo@acme], threshold: 2}\n"
    b"teams: {payments: [dee@acme]}\nservices: [hub@acme]\nmerge: clean\nrules:\n"
    b"  - {id: all, paths: ['**', '!rollouts/**'], allow: ['*']}\n"
    b"  - {id: prod, paths: ['config/*/prod.yaml'], allow: [payments], threshold: 2, four_eyes: true}\n"
    b"  - {id: kill, paths: ['flags/**'], only: disable, allow: ['*'], fast: true}\n"
    b"break_glass: {allow: [payments], threshold: 1, trailer_required: reason}\n"
    b"protected: {envs: [prod], keys: [checkout.payment_timeout_s]}\n"
    b"windows:\n  - {id: friday, paths: ['config/*/prod.yaml'], deny: {weekdays: [fri], from: '15:00', until: '23:59',"
    b" zone: Europe/Berlin}, override: root}\n"
    b"limits:\n  - {id: steps, paths: ['rollouts/**'], max_weight_step: 50}\n"
)
POLICIES = (b"version: 1\nrepo_id: 6f1c0c1e9a0f4f7f8a5e1d7f0c1b2a33\nroot: {people: [ana@acme], threshold: 1}\n", _FULL_POLICY)


def write_corpus() -> None:
    """Write the seeds; what was found by fuzzing stays."""
    for parser, name, data in seeds():
        (CORPUS / parser).mkdir(parents=True, exist_ok=True)
        (CORPUS / parser / name).write_bytes(data)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        result = fuzz(sys.argv[1], int(sys.argv[2]), progress=sys.stderr.write)
        sys.stdout.write(f"{result}\n")
    else:
        write_corpus()
