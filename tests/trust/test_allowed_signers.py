"""allowed_signers: who is who, when, and for what; anything else makes the whole file invalid."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from livecfg.errors import RefusedError
from livecfg.trust.allowed_signers import Signers, matches_patterns, parse_allowed_signers
from livecfg.trust.keys import key_bits
from livecfg.trust.wire import SignatureError
from tests.trust.softkeys import KINDS, SoftCertificate, soft_key

KEY, OTHER, CA = soft_key("ed25519"), soft_key("ecdsa256"), soft_key("ed25519", 9)


def read(text: str) -> Signers:
    return parse_allowed_signers(text.encode(), ".livecfg/allowed_signers")


def test_a_file_gives_people_by_key_and_authorities_by_key() -> None:
    signers = read(f"# people\n\nana@acme {KEY.line} laptop\nbo@acme {OTHER.line}\n*@ci cert-authority {CA.line}\n")
    assert {signer.person: key for key, signer in signers.items()} == {"ana@acme": KEY.blob, "bo@acme": OTHER.blob}
    assert [a.patterns for a in signers.authorities.values()] == ["*@ci"]
    assert signers.people == {"ana@acme", "bo@acme"}
    assert (signers.knows("ana@acme"), signers.knows("x@ci"), signers.knows("*@ci"), signers.knows("x@acme")) == (
        True,
        True,
        False,
        False,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_key_may_stand_in_the_file(kind: str) -> None:
    assert list(read(f"ana@acme {soft_key(kind).line}\n")) == [soft_key(kind).blob]


def moment(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_times_and_purposes_are_those_of_the_line() -> None:
    (signer,) = read(f'ana@acme valid-after="20260102Z",valid-before="202601031530Z",namespaces="f*,g?t" {KEY.line}\n').values()
    assert (signer.valid_after, signer.valid_before) == (moment(2026, 1, 2), moment(2026, 1, 3, 15, 30))
    assert signer.for_commits
    assert signer.holds_at(moment(2026, 1, 2))
    assert signer.holds_at(moment(2026, 1, 3, 15, 30))
    assert not signer.holds_at(moment(2026, 1, 3, 15, 30) + 1)
    assert not signer.holds_at(moment(2026, 1, 2) - 1)


@pytest.mark.parametrize(
    ("patterns", "text", "expected"),
    [
        ("git", "git", True),
        ("git", "gi", False),
        ("g?t", "git", True),
        ("g?t", "gt", False),
        ("*", "", True),
        ("?", "", False),
        ("a*b*c", "aXXbYYc", True),
        ("a*b*c", "aXXbYY", False),
        ("file,git", "git", True),
        ("*,!git", "git", False),
        ("!git,*", "git", False),
        ("!file,*", "git", True),
        ("GIT", "git", False),
        ("*@acme", "a\n@acme", True),  # the pattern itself does not judge names
    ],
)
def test_patterns_match_as_in_openssh(patterns: str, text: str, *, expected: bool) -> None:
    assert matches_patterns(patterns, text) is expected


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches_patterns("*a" * 60 + "b", "a" * 120)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ana@acme", "not a key"),
        ("ana@acme ssh-ed25519", "not a key"),
        ("ana@acme ssh-ed25519 %%%", "not base64"),
        ("ana@acme ssh-ed25519 AAAA=", "not base64"),
        ("ana@acme ssh-ed25519 {spare}", "not base64"),
        ("ana@acme ssh-dss AAAA", "no supported key type"),
        ("ana@acme ssh-rsa {blob}", "not of the type"),
        ("ana@acme ssh-ed25519 {cut}", "truncated"),
        ("ana@acme ssh-ed25519 {tail}", "trailing"),
        ("ana@acme {small}", "2048"),
        ("ana@acme {certificate}", "list the key of its authority"),
        ("*@acme {key}", "literal person"),
        ("ana@acme,bo@acme {key}", "literal person"),
        ('"ana" {key}', "literal person"),
        ("!ana@acme {key}", "literal person"),
        ("-ana {key}", "literal person"),
        ("!ana@acme cert-authority {key}", "without !"),
        ("ana[a]@acme cert-authority {key}", "patterns"),
        ("ana@acme, cert-authority {key}", "patterns"),
        ('ana@acme cert-authority="yes" {key}', "no supported option"),
        ("ana@acme namespaces {key}", "no supported option"),
        ('ana@acme namespaces="" {key}', "patterns"),
        ('ana@acme namespaces="!git" {key}', "without !"),
        ("ana@acme no-touch-required {key}", "no supported option"),
        ('ana@acme valid-before="tomorrow" {key}', "a time like"),
        ('ana@acme valid-before="20260101" {key}', "a time like"),
        ('ana@acme valid-before="2026010112Z" {key}', "a time like"),
        ('ana@acme valid-before="20261301Z" {key}', "not a time"),
        ('ana@acme valid-before="20260101Z" valid-after="20260101Z" {key}', "not a key"),
        ('ana@acme valid-before="20260101Z",valid-before="20270101Z" {key}', "twice"),
        ('ana@acme valid-before="20260101Z",,namespaces="git" {key}', "malformed"),
        ('ana@acme valid-before="20260101Z", {key}', "malformed"),
        ('ana@acme valid-before="20260101Z {key}', "malformed"),
        ("bo@acme {key}\nana@acme {key}", "stands twice"),
        ("ana@acme {key}\n*@acme cert-authority {key}", "stands twice"),
        ("ana@acme {key}\r", "control character"),
        ("ana@acme {key} \x07", "control character"),
        ("ana@acme {key} café", "ASCII"),
    ],
)
def test_any_malformed_line_makes_the_whole_file_invalid_and_says_why(line: str, why: str) -> None:
    blob = base64.b64encode(KEY.blob).decode()
    certificate = SoftCertificate(KEY, CA)
    text = line.format(
        key=KEY.line,
        blob=blob,
        spare=blob[:-1] + chr(ord(blob[-1]) + 1),
        cut=base64.b64encode(KEY.blob[:-3]).decode(),
        tail=base64.b64encode(KEY.blob + b"\0").decode(),
        small=soft_key("rsa1024").line,
        certificate=f"{certificate.name.decode()} {base64.b64encode(certificate.blob).decode()}",
    )
    with pytest.raises(RefusedError, match=why) as caught:
        read(f"cy@acme {OTHER.line}\n{text}\n")
    (refusal,) = caught.value.refusals
    assert refusal.line >= 2
    assert refusal.path == ".livecfg/allowed_signers"


def test_a_file_too_large_is_refused() -> None:
    with pytest.raises(RefusedError, match="too large"):
        read("#\n" * 10_001)
    with pytest.raises(RefusedError, match="too large"):
        read("#" * (1 << 20) + "\n")


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", 256), ("ecdsa521", 521), ("rsa3072", 3072), ("sk-ecdsa", 256)])
def test_the_size_of_a_key_is_told_in_bits(kind: str, bits: int) -> None:
    assert key_bits(soft_key(kind).blob) == bits


def test_a_key_that_may_not_sign_has_no_size() -> None:
    with pytest.raises(SignatureError):
        key_bits(soft_key("rsa1024").blob)
