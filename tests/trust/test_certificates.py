"""Certificates and security keys as the real ssh-keygen makes them; and who it is that a certificate speaks of."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from livecfg.refusal import Refusal
from livecfg.revision import Commit
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.identify import Signed, identify
from livecfg.trust.signatures import fingerprint, verify_ssh
from tests.simulator.tools import header, program
from tests.trust.cases import T
from tests.trust.softkeys import SoftCertificate, soft_key

PAYLOAD = b"tree 1\n\nmessage\n"
AUTHENTICATOR = Path(__file__).parent / "authenticator.c"


def who(signature: bytes, signers: str) -> Signed | Refusal:
    commit = Commit("0" * 40, "", (), "", 0, "", 0, "", PAYLOAD, signature, "")
    return identify(commit, parse_allowed_signers(signers.encode(), "allowed_signers"))


def person(signature: bytes, signers: str) -> Signed:
    found = who(signature, signers)
    assert isinstance(found, Signed), found
    return found


def nobody(signature: bytes, signers: str) -> str:
    found = who(signature, signers)
    assert isinstance(found, Refusal), found
    return f"{found.code.value} {found.message}"


def keygen(*words: str | Path, **environment: str) -> None:
    shell = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"} | environment
    subprocess.run(["ssh-keygen", "-q", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL, env=shell)


def sign(key: Path, **environment: str) -> bytes:
    message = key.with_suffix(".message")
    message.write_bytes(PAYLOAD)
    message.with_suffix(".message.sig").unlink(missing_ok=True)
    keygen("-Y", "sign", "-n", "git", "-f", key, message, **environment)
    return message.with_suffix(".message.sig").read_bytes()


def public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


# --- security keys ------------------------------------------------------------


@pytest.fixture(scope="module")
def authenticator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shared library of a security key in software."""
    program("cc", "gcc")
    header("/usr/include/openssl/evp.h", "libssl-dev")
    path = tmp_path_factory.mktemp("sk") / "authenticator.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, AUTHENTICATOR, "-lcrypto"], check=True)
    return str(path)


@pytest.mark.parametrize("kind", ["ed25519-sk", "ecdsa-sk"])
@pytest.mark.parametrize(
    ("flags", "touch", "pin"), [("0", False, False), ("1", True, False), ("4", False, True), ("5", True, True)]
)
def test_a_security_key_of_openssh_proves_touch_and_pin(
    authenticator: str, tmp_path: Path, kind: str, flags: str, *, touch: bool, pin: bool
) -> None:
    key = tmp_path / "key"
    keygen("-t", kind, "-w", authenticator, "-N", "", "-f", key)
    signature = sign(key, SSH_SK_PROVIDER=authenticator, SOFT_SK_FLAGS=flags)
    signed = person(signature, f"ana@acme {public(key)}\n")
    assert (signed.person, signed.touch, signed.pin) == ("ana@acme", touch, pin)
    assert signed.fingerprint in subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True, text=True).stdout


def test_a_security_key_with_a_certificate_is_known_by_it(authenticator: str, tmp_path: Path) -> None:
    key, authority = tmp_path / "key", tmp_path / "ca"
    keygen("-t", "ed25519-sk", "-w", authenticator, "-N", "", "-f", key)
    keygen("-t", "ed25519", "-N", "", "-f", authority)
    keygen("-s", authority, "-I", "id", "-n", "ana@acme", "-O", "verify-required", key.with_suffix(".pub"))
    signers = f"*@acme cert-authority {public(authority)}\n"
    certificate = tmp_path / "key-cert.pub"
    shutil.copy(key, tmp_path / "key-cert")
    certified = sign(tmp_path / "key-cert", SSH_SK_PROVIDER=authenticator, SOFT_SK_FLAGS="5")
    assert certificate.exists()
    assert person(certified, signers).pin
    touched = sign(tmp_path / "key-cert", SSH_SK_PROVIDER=authenticator, SOFT_SK_FLAGS="1")
    assert "demands the PIN" in nobody(touched, signers)


# --- certificates of the real ssh-keygen ------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", "0"), ("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048")])
@pytest.mark.parametrize("authority_kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_of_openssh_proves_its_person_and_its_time(
    tmp_path: Path, kind: str, bits: str, authority_kind: str
) -> None:
    key, authority = tmp_path / "key", tmp_path / "ca"
    keygen("-t", kind, *(["-b", bits] if bits != "0" else []), "-N", "", "-f", key)
    keygen("-t", authority_kind, "-N", "", "-f", authority)
    keygen("-s", authority, "-I", "id", "-n", "ana@acme,root", "-V", "20260101:20260201", key.with_suffix(".pub"))
    shutil.copy(key, tmp_path / "key-cert")
    signature = sign(tmp_path / "key-cert")
    signed = person(signature, f"*@acme cert-authority {public(authority)}\n")
    assert signed.person == "ana@acme"
    assert (signed.valid_after, signed.valid_before) == (T, T + 31 * 86400 - 1)
    authority_blob = verify_ssh(signature, PAYLOAD).certificate
    assert authority_blob is not None
    assert signed.authority == fingerprint(authority_blob.authority)


# --- who it is ------------------------------------------------------------

KEY, CA, OTHER_CA = soft_key("ed25519"), soft_key("ed25519", 9), soft_key("ecdsa256", 9)
GOOD = SoftCertificate(KEY, CA)
LINE = f"*@acme cert-authority {CA.line}\n"


def test_the_person_is_the_one_principal_that_the_authority_may_speak_for() -> None:
    assert person(replace(GOOD, principals=(b"root", b"ana@acme", b"ana@elsewhere")).sign(PAYLOAD), LINE).person == "ana@acme"
    assert "2 people" in nobody(replace(GOOD, principals=(b"ana@acme", b"bo@acme")).sign(PAYLOAD), LINE)
    assert "0 people" in nobody(replace(GOOD, principals=()).sign(PAYLOAD), LINE)
    assert "0 people" in nobody(replace(GOOD, principals=(b"Ana@Acme",)).sign(PAYLOAD), LINE)


def test_an_authority_cannot_speak_for_somebody_with_a_key_of_their_own() -> None:
    lines = LINE + f"ana@acme {OTHER_CA.line}\n"
    assert "a key of their own" in nobody(GOOD.sign(PAYLOAD), lines)
    assert person(replace(GOOD, principals=(b"bo@acme",)).sign(PAYLOAD), lines).person == "bo@acme"


def test_a_person_of_two_authorities_is_of_neither() -> None:
    lines = LINE + f"ana@* cert-authority {OTHER_CA.line}\n"
    assert "another authority" in nobody(GOOD.sign(PAYLOAD), lines)
    signers = parse_allowed_signers(lines.encode(), "allowed_signers")
    assert (signers.knows("ana@acme"), signers.knows("bo@acme"), signers.knows("bo@elsewhere")) == (False, True, False)


def test_the_authority_signs_nothing_by_its_own_line() -> None:
    assert "LC303" in nobody(CA.sign(PAYLOAD), LINE)


def test_an_unknown_authority_is_told_by_its_fingerprint() -> None:
    message = nobody(replace(GOOD, authority=OTHER_CA).sign(PAYLOAD), LINE)
    assert "LC303" in message
    assert fingerprint(OTHER_CA.blob) in message


def test_both_the_line_and_the_certificate_bound_the_time() -> None:
    line = f'*@acme cert-authority,valid-after="20260101Z",valid-before="20260301Z" {CA.line}\n'
    inner = person(replace(GOOD, valid_after=T + 10, valid_before=T + 20).sign(PAYLOAD), line)
    assert (inner.valid_after, inner.valid_before) == (T + 10, T + 19)
    outer = person(replace(GOOD, valid_after=0, valid_before=2**64 - 1).sign(PAYLOAD), line)
    assert (outer.valid_after, outer.valid_before) == (T, T + 59 * 86400)


def test_an_authority_for_another_purpose_vouches_for_no_commit() -> None:
    line = f'*@acme cert-authority,namespaces="file" {CA.line}\n'
    assert "not for commits" in nobody(GOOD.sign(PAYLOAD), line)


def test_a_certificate_is_no_key_of_the_list() -> None:
    assert "LC303" in nobody(GOOD.sign(PAYLOAD), f"ana@acme {KEY.line}\n")


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (replace(GOOD, purpose=2), "not a user certificate"),
        (replace(GOOD, critical=((b"force-command", b""),)), "critical option"),
        (replace(GOOD, critical=((b"verify-required", b""),)), "demands the PIN"),
        (replace(GOOD, authority=soft_key("rsa2048", 9), how={"algorithm": b"ssh-rsa"}), "another type"),
        (replace(GOOD, authority=OTHER_CA, authority_blob=CA.blob), "another type"),
        (replace(GOOD, authority=soft_key("ed25519", 3), authority_blob=CA.blob), "does not match"),
        (replace(GOOD, trailing=b"\0"), "trailing"),
        (replace(GOOD, raw_critical=b"\0"), "truncated"),
        (replace(GOOD, key=soft_key("rsa1024")), "2048"),
    ],
)
def test_a_wrong_certificate_is_refused_with_the_reason(certificate: SoftCertificate, why: str) -> None:
    assert why in nobody(certificate.sign(PAYLOAD), LINE + f"*@elsewhere cert-authority {soft_key('rsa2048', 9).line}\n")


def test_attack_23_no_signature_is_checked_for_somebody_whom_policy_does_not_know() -> None:
    """A check may be made to cost much, by long keys, and whoever may push could ask for thousands."""
    stranger = replace(GOOD, authority=soft_key("ed25519", 3), authority_blob=OTHER_CA.blob)
    assert "LC303" in nobody(stranger.sign(PAYLOAD), LINE)
    assert "LC303" in nobody(soft_key("ecdsa256", 3).sign(b"another payload"), LINE)
