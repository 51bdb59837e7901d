"""OpenPGP: a history signed by the real gpg, what a signature may look like, and what a certificate says."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pysequoia
import pytest

from livecfg.errors import LivecfgError, MissingObjectError, RefusedError
from livecfg.revision import Candidate, Commit
from livecfg.trust.allowed_signers import Signers
from livecfg.trust.commits import parse_commit
from livecfg.trust.identify import Signed, identify
from livecfg.trust.openpgp import issuer, parse_openpgp, verify_openpgp
from livecfg.trust.root import TrustedRoot
from livecfg.trust.verify import Trusted, Verification, verify
from livecfg.trust.wire import SignatureError
from tests.trust.gpg import BUNDLE, EXPECTED, FIXTURES, PAYLOAD, ROOT, START, keyring, make_history

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.revision import Kind

NOW = 2_000_000_000.0


class Objects:
    """Objects of a repository on disk, by the git program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, object_id: str, kind: Kind) -> bytes:
        done = subprocess.run(["git", "-C", self.path, "cat-file", kind, object_id], capture_output=True, check=False)
        if done.returncode:
            raise MissingObjectError(object_id)
        return done.stdout


def walk(objects: Objects, root: bytes) -> tuple[Verification, str]:
    tip = subprocess.run(
        ["git", "-C", objects.path, "rev-parse", "main"], capture_output=True, check=True, text=True
    ).stdout.strip()
    trusted = Trusted.start(TrustedRoot.parse(root, "root.yaml"), "main")
    return verify(Candidate("main", tip, objects), trusted, NOW), tip


def outcome(objects: Objects, found: Verification, tip: str) -> dict[str, str]:
    """The code of each commit's own refusal, by its subject, in order."""
    codes: dict[str, str] = {}
    while tip:
        commit = parse_commit(tip, objects.read(tip, "commit"))
        mine = [refusal.code.value for refusal in found.skipped if refusal.commit == tip]
        codes[commit.subject] = mine[0] if mine else ""
        tip = commit.parents[0] if commit.parents else ""
    return dict(reversed(codes.items()))


def test_a_history_that_gpg_signed_is_judged_commit_by_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--bare", BUNDLE, tmp_path / "repo"], check=True)
    objects = Objects(tmp_path / "repo")
    found, tip = walk(objects, ROOT.read_bytes())
    assert outcome(objects, found, tip) == EXPECTED
    assert found.good is not None
    assert (found.good.commit.id, found.good.signers) == (tip, ("dee@acme",))


@pytest.mark.slow
def test_a_history_that_gpg_signs_now_is_judged_like_the_kept_one(tmp_path: Path) -> None:
    with keyring() as gpg:
        repo = make_history(tmp_path / "repo", gpg)
    objects = Objects(repo.work)
    found, tip = walk(objects, repo.trusted_root)
    assert outcome(objects, found, tip) == EXPECTED


def kept(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


@pytest.fixture
def signers() -> Signers:
    return Signers(openpgp=parse_openpgp({".livecfg/openpgp/ana@acme.asc": kept("key.asc")}))


@pytest.fixture(scope="module")
def stranger() -> pysequoia.Tsk:
    return pysequoia.Tsk.generate("eve@evil")


def by_stranger(stranger: pysequoia.Tsk) -> bytes:
    mode = pysequoia.SignatureMode.DETACHED
    return bytes(pysequoia.sign(stranger.signer(), PAYLOAD, mode=mode)).replace(b"\r", b"")


def commit(signature: bytes, payload: bytes = PAYLOAD) -> Commit:
    return Commit("0" * 40, "", (), "", 0, "", 0, "", payload, signature, "")


def test_a_signature_proves_its_person_and_while_its_key_holds(signers: Signers) -> None:
    signed = identify(commit(kept("good.sig")), signers)
    assert isinstance(signed, Signed)
    assert (signed.person, signed.fingerprint) == ("ana@acme", *signers.openpgp)
    assert signed.valid_after == START
    assert signed.valid_before == float("inf")
    assert not signed.touch


def refuse(signature: bytes, signers: Signers, payload: bytes = PAYLOAD) -> str:
    refusal = identify(commit(signature, payload), signers)
    assert not isinstance(refusal, Signed)
    return f"{refusal.code.value} {refusal.message}"


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("text", "binary data"),
        ("expiring", "expires"),
        ("sha1", "another hash"),
        ("sha224", "another hash"),
        ("ripemd160", "another hash"),
        ("two", "exactly one"),
    ],
)
def test_a_signature_of_another_form_is_refused(signers: Signers, form: str, why: str) -> None:
    assert why in refuse(kept(f"{form}.sig"), signers)


def test_a_signature_over_other_bytes_is_refused(signers: Signers) -> None:
    assert "LC302" in refuse(kept("good.sig"), signers, PAYLOAD + b"\n")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s + s,
        lambda s: b"\n" + s,
        lambda s: s.replace(b"PGP SIGNATURE", b"PGP MESSAGE"),
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s.replace(b"\n\n", b"\nno header\n\n", 1),
        lambda s: s.replace(b"\n\n", b"\n", 1),
        lambda s: s[:-40],
        lambda s: s.replace(b"\n-----END", b"\njunk\n-----END"),
        lambda _: b"-----BEGIN PGP SIGNATURE-----",
        lambda _: b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----",
        lambda _: b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----",
        lambda s: s[:60] + b"A" * 20_000 + s[60:],
    ],
)
def test_armor_is_read_strictly(signers: Signers, spoil: Callable[[bytes], bytes]) -> None:
    assert "LC302" in refuse(spoil(kept("good.sig")), signers)


def test_headers_in_the_armor_and_a_missing_checksum_are_accepted(signers: Signers) -> None:
    lines = kept("good.sig").split(b"\n")
    lines[1:1] = [b"Version: GnuPG v2", b"Comment: "]
    assert lines.pop(-3).startswith(b"=")
    assert isinstance(identify(commit(b"\n".join(lines)), signers), Signed)


def test_a_key_of_nobody_is_told_by_its_fingerprint(stranger: pysequoia.Tsk, signers: Signers) -> None:
    signature = by_stranger(stranger)
    message = refuse(signature, signers)
    assert "LC303" in message
    assert issuer(signature) in message


def test_a_signature_by_another_key_than_the_known_ones_does_not_hold(stranger: pysequoia.Tsk, signers: Signers) -> None:
    with pytest.raises(SignatureError, match="does not match"):
        verify_openpgp(by_stranger(stranger), PAYLOAD, signers.openpgp)
    assert verify_openpgp(kept("good.sig"), PAYLOAD, signers.openpgp) == issuer(kept("good.sig"))


def test_a_revoked_key_signs_nothing_any_more_and_its_person_has_no_key() -> None:
    signers = Signers(openpgp=parse_openpgp({".livecfg/openpgp/ana@acme.asc": kept("revoked.asc")}))
    assert "LC304 the key of ana@acme is revoked" in refuse(kept("good.sig"), signers)
    assert not signers.knows("ana@acme")


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("ana.txt", lambda d: d, "person.asc"),
        ("-ana.asc", lambda d: d, "person.asc"),
        ("sub/ana.asc", lambda d: d, "person.asc"),
        ("ana.asc", lambda _: b"", "not one armored"),
        ("ana.asc", lambda d: d[:100], "not one armored"),
        ("ana.asc", lambda d: d + d, "not base64|malformed|not canonical"),
        ("ana.asc", lambda d: d.replace(b"\n\n", b"\n\nAAAA\n", 1), "of another kind"),
    ],
)
def test_a_malformed_file_is_a_fault_of_policy(name: str, change: Any, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        parse_openpgp({f".livecfg/openpgp/{name}": change(kept("key.asc"))})
    assert caught.value.refusals[0].code.value == "LC313"


def test_a_secret_key_in_the_repository_is_refused(stranger: pysequoia.Tsk) -> None:
    secret = pysequoia.armor(bytes(stranger), pysequoia.ArmorKind.PublicKey).replace("\r", "").encode()
    with pytest.raises(RefusedError, match="secret key"):
        parse_openpgp({".livecfg/openpgp/ana@acme.asc": secret})


def test_a_key_of_two_people_is_refused() -> None:
    with pytest.raises(RefusedError, match="stands twice"):
        parse_openpgp({f".livecfg/openpgp/{person}.asc": kept("key.asc") for person in ("ana@acme", "bo@acme")})


def test_without_the_package_a_policy_with_openpgp_keys_says_what_to_install_and_decides_nothing() -> None:
    script = """
import sys
from pathlib import Path
sys.modules["pysequoia"] = None
from livecfg.errors import LivecfgError, RefusedError
from livecfg.trust.openpgp import parse_openpgp
assert parse_openpgp({}) == {}
try:
    parse_openpgp({".livecfg/openpgp/ana@acme.asc": Path(sys.argv[1]).read_bytes()})
except RefusedError:
    raise SystemExit("a refusal: clients would differ")
except LivecfgError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, FIXTURES / "key.asc"], capture_output=True, check=True, text=True)
    assert "livecfg[openpgp]" in done.stdout
    assert issubclass(RefusedError, LivecfgError)


def test_without_openpgp_keys_in_policy_the_package_is_not_asked() -> None:
    assert "policy lists no OpenPGP key" in refuse(kept("good.sig"), Signers())
