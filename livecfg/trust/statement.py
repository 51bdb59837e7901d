"""Statements: small signed documents beside the commits, each for one purpose (SSHSIG namespace), repository and ref.

On the wire: one line of JSON, then the armored signature over exactly that line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from livecfg.document import DocumentLimits, read
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.signatures import verify_ssh
from livecfg.trust.wire import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.trust.allowed_signers import Signer

MAX_BYTES = 16 * 1024
_LIMITS = DocumentLimits(size_bytes=MAX_BYTES, depth=4, nodes=64)
_BEGIN = b"-----BEGIN SSH SIGNATURE-----"


def write_statement(content: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    """Give a statement; `sign` turns the line into an armored signature of the right namespace."""
    line = json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return line + sign(line)


def co_sign(data: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Add another signature to a statement."""
    line, _, _ = data.partition(b"\n")
    return data.rstrip(b"\n") + b"\n" + sign(line + b"\n")


def read_statement(
    data: bytes, namespace: str, signers: Mapping[bytes, Signer], moment: float
) -> tuple[dict[str, Any], frozenset[str]]:
    """Give what a statement says and who signed it with a key that holds at `moment`; signatures by others do not count.

    Raises:
        RefusedError: it is malformed, over the caps, or one of its signatures does not hold.

    """
    if len(data) > MAX_BYTES:
        raise _refused(f"more than {MAX_BYTES} bytes")
    line, _, rest = data.partition(b"\n")
    content = read(line, "statement.json", _LIMITS).value
    if not isinstance(content, dict):
        raise _refused("expected a mapping")
    people = set()
    for block in rest.split(_BEGIN)[1:]:
        try:
            proof = verify_ssh(_BEGIN + block.rstrip(b"\n"), line + b"\n", namespace.encode())
        except SignatureError as error:
            raise _refused(f"a signature does not hold: {error}") from None
        signer = signers.get(proof.key) if proof.certificate is None else None
        if signer is not None and signer.valid_after <= moment <= signer.valid_before:
            people.add(signer.person)
    return content, frozenset(people)


def _refused(why: str) -> RefusedError:
    return RefusedError(Refusal(Code.BAD_SIGNATURE, f"a statement that cannot be used: {why}", advice="see who can write it"))
