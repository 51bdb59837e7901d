"""identify(): a commit and the keys of a policy → who signed it, and how; or why nobody did.

Every signature kind ends here. No moment enters: a signature is proved once, and when its key holds is part of the answer,
since the walk asks again for every later commit that this one still matters to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from livecfg.refusal import Code, Refusal
from livecfg.trust.allowed_signers import Signers
from livecfg.trust.certificates import authority_of, is_certificate
from livecfg.trust.openpgp import is_openpgp, issuer, verify_openpgp
from livecfg.trust.signatures import check, decode, fingerprint
from livecfg.trust.wire import SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.revision import Commit
    from livecfg.trust.allowed_signers import Authority, Signer
    from livecfg.trust.signatures import SshSignature

_KEYS, _OPENPGP = ".livecfg/allowed_signers", ".livecfg/openpgp/<person>.asc"
_ADD = "add the key to {} first, in a commit of the root people"


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed, with which key, and what the key proved of the person's presence.

    `touch` and `pin` are what a security key attests. `authority` is the fingerprint of the certificate authority through
    which alone the person is known, or empty: people of one authority count together as one.
    """

    person: str
    fingerprint: str
    touch: bool = False
    pin: bool = False
    authority: str = ""
    valid_after: float = float("-inf")
    valid_before: float = float("inf")

    def fault_at(self, commit: Commit, moment: float) -> Refusal | None:
        """Refuse a key that does not hold at `moment` (Unix seconds; both bounds inclusive)."""
        if self.valid_after <= moment <= self.valid_before:
            return None
        message = f"the key of {self.person} is not valid at the commit's time"
        advice = f"sign with a key that is, and have the commit adopted: `livecfg adopt {commit.id[:10]}`"
        return Refusal(Code.KEY_NOT_VALID_NOW, message, commit=commit.id, signer=self.person, advice=advice)


def identify(commit: Commit, signers: Mapping[bytes, Signer]) -> Signed | Refusal:
    """Tell whose key signed a commit and when that key holds, or why it is nobody's.

    `signers` without authorities and OpenPGP keys (a plain mapping) knows people by their own SSH keys only.

    Raises:
        LivecfgError: policy lists OpenPGP keys and the package that reads them is missing.

    """
    if commit.flaw:
        message = f"not an ordinary commit: {commit.flaw}"
        return Refusal(Code.NOT_CANONICAL, message, commit=commit.id, advice="make it again with plain git, or revert it")
    if commit.signature is None:
        advice = "sign it (`git commit -S`), or let somebody whom policy allows adopt it (`livecfg adopt`)"
        return Refusal(Code.UNSIGNED, "the commit is not signed", commit=commit.id, advice=advice)
    known = signers if isinstance(signers, Signers) else Signers(signers)
    try:
        signed = _openpgp(commit, known) if is_openpgp(commit.signature) else _ssh(commit, known)
    except SignatureError as error:
        advice = f"sign it anew, or let somebody whom policy allows adopt it: `livecfg adopt {commit.id[:10]}`"
        return Refusal(Code.BAD_SIGNATURE, f"the signature does not hold: {error}", commit=commit.id, advice=advice)
    except _NobodyError as error:
        return Refusal(error.code, str(error), commit=commit.id, signer=error.signer, advice=error.advice)
    return signed


class _NobodyError(Exception):
    """A signature that holds, by a key that is nobody's or not for this."""

    def __init__(self, message: str, signer: str, code: Code = Code.UNKNOWN_KEY_SIGNED, advice: str = "") -> None:
        super().__init__(message)
        self.signer, self.code, self.advice = signer, code, advice


def _ssh(commit: Commit, signers: Signers) -> Signed:
    assert commit.signature is not None  # noqa: S101 - the caller looked
    found = decode(commit.signature)
    if is_certificate(found.key):
        return _certified(found, commit, signers)
    signer = signers.get(found.key)  # first: a signature may be made to cost much, and whoever can push could make thousands
    if signer is None:
        raise _unknown(fingerprint(found.key), _KEYS)
    proof = check(found, commit.payload)
    _check_purpose(signer, signer.person)
    name = fingerprint(proof.key)
    return Signed(signer.person, name, proof.touch, proof.pin, "", signer.valid_after, signer.valid_before)


def _certified(found: SshSignature, commit: Commit, signers: Signers) -> Signed:
    """The one person a certificate names that its authority may speak for, and while both hold."""
    authority = signers.authorities.get(authority_of(found.key))
    if authority is None:
        raise _unknown(fingerprint(authority_of(found.key)), f"a cert-authority line of {_KEYS}")
    proof = check(found, commit.payload)
    certificate = proof.certificate
    assert certificate is not None  # noqa: S101 - the caller looked
    people = {name for name in certificate.principals if authority.covers(name)}
    if len(people) != 1:
        message = f"the certificate names {len(people)} people that its authority may speak for, not one"
        raise _NobodyError(message, fingerprint(proof.key))
    (person,) = people
    if signers.authorities_of(person) != [authority]:
        message = f"the certificate is for {person}, who has a key of their own or another authority too"
        raise _NobodyError(message, fingerprint(proof.key))
    _check_purpose(authority, person)
    if certificate.verify_required and not proof.pin:
        raise SignatureError("the certificate demands the PIN of the security key, which was not given")
    return Signed(
        person,
        fingerprint(proof.key),
        proof.touch,
        proof.pin,
        fingerprint(authority.key),
        max(authority.valid_after, certificate.valid_after),
        min(authority.valid_before, certificate.valid_before - 1),
    )


def _openpgp(commit: Commit, signers: Signers) -> Signed:
    assert commit.signature is not None  # noqa: S101 - the caller looked
    if not signers.openpgp:
        raise _NobodyError("signed with OpenPGP, and policy lists no OpenPGP key", "", advice=_ADD.format(_OPENPGP))
    named = issuer(commit.signature)
    candidates = {key.fingerprint: key for key in signers.openpgp.values() if named and key.fingerprint.endswith(named)}
    if not candidates:
        raise _unknown(named, _OPENPGP)
    live = {name: key for name, key in candidates.items() if not key.revoked}
    if not live:
        person = next(iter(candidates.values())).person
        raise _NobodyError(f"the key of {person} is revoked", person, Code.KEY_NOT_VALID_NOW)
    key = live[verify_openpgp(commit.signature, commit.payload, live)]
    return Signed(key.person, key.fingerprint, valid_after=key.valid_after, valid_before=key.valid_before)


def _unknown(key: str, where: str) -> _NobodyError:
    return _NobodyError(f"signed by a key that policy does not know, {key}", key, advice=_ADD.format(where))


def _check_purpose(signer: Signer | Authority, person: str) -> None:
    if not signer.for_commits:
        raise _NobodyError(f"the key of {person} is not for commits", person, Code.KEY_NOT_VALID_NOW)
