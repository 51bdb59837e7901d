"""Every check is seen to matter: with it removed, and only then, the attack that it stops succeeds."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livecfg.trust import signatures
from tests.trust.removed import without


def holds(armored: bytes, payload: bytes, namespace: bytes = b"git") -> bool:
    try:
        signatures.verify_ssh(armored, payload, namespace)
    except signatures.SignatureError:
        return False
    return True


def test_a_removed_check_lets_its_attack_through_and_is_put_back() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    other_purpose = signatures.sign(key, "file", b"payload")
    assert not holds(other_purpose, b"payload")
    with without(signatures, "if found.namespace != namespace:", "if False:"):
        assert holds(other_purpose, b"payload")
    assert not holds(other_purpose, b"payload")


@pytest.mark.parametrize("text", ["no such text", "raise", '_MAGIC = b"SSHSIG"'])
def test_a_text_that_no_longer_names_one_check_is_an_error(text: str) -> None:
    with pytest.raises(LookupError), without(signatures, text, "pass"):
        pass
