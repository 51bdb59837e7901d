"""identify(): a commit and the keys of a policy → who signed it, and how; or why nobody did.

Every signature kind ends here. No moment enters: a signature is proved once, and when its key holds is part of the answer,
since the walk asks again for every later commit that this one still matters to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from livecfg.refusal import Code, Refusal
from livecfg.trust.signatures import SignatureError, fingerprint, verify_ssh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.revision import Commit
    from livecfg.trust.allowed_signers import Signer


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
        return Refusal(Code.KEY_NOT_VALID_NOW, message, commit=commit.id, signer=self.person)


def identify(commit: Commit, signers: Mapping[bytes, Signer]) -> Signed | Refusal:
    """Tell whose key signed a commit and when that key holds, or why it is nobody's."""
    if commit.flaw:
        return Refusal(Code.NOT_CANONICAL, f"not an ordinary commit: {commit.flaw}", commit=commit.id)
    if commit.signature is None:
        advice = "sign it (`git commit -S`), or let somebody whom policy allows adopt it (`livecfg adopt`)"
        return Refusal(Code.UNSIGNED, "the commit is not signed", commit=commit.id, advice=advice)
    try:
        key = verify_ssh(commit.signature, commit.payload)
    except SignatureError as error:
        return Refusal(Code.BAD_SIGNATURE, f"the signature does not hold: {error}", commit=commit.id)
    signer = signers.get(key)
    if signer is None:
        advice = "add the key to .livecfg/allowed_signers first, in a commit of the root people"
        message = f"signed by a key that policy does not know, {fingerprint(key)}"
        return Refusal(Code.UNKNOWN_KEY_SIGNED, message, commit=commit.id, signer=fingerprint(key), advice=advice)
    if not signer.for_commits:
        message = f"the key of {signer.person} is not for commits"
        return Refusal(Code.KEY_NOT_VALID_NOW, message, commit=commit.id, signer=signer.person)
    return Signed(signer.person, fingerprint(key), valid_after=signer.valid_after, valid_before=signer.valid_before)
