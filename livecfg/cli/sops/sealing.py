"""Sealer: encrypts the values of one document under one data key, in their order, and computes the MAC that goes over them."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import fail
from livecfg.document import Tagged
from livecfg.sops import ONLY_ENCRYPTED, TAG_BYTES, VALUE, Known, age, bytes_of, path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from livecfg.cli.sops.rule import Rule

_IV_BYTES = 32  # as the sops program: it reads back no other
_FORMAT = "3.11.0"  # the version of that program whose documents these are
_INT64 = range(-(1 << 63), 1 << 63)


class Sealer:
    """Encrypts under `key` what `rule` covers; what is `known` keeps its ciphertext, so that a diff shows what changed."""

    def __init__(self, key: bytes, rule: Rule, known: Mapping[Known, str] | None = None) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.count = 0
        self._rule = rule
        self._known = known or {}
        self._cipher = AESGCM(key)
        self._hash = hashlib.sha512(ONLY_ENCRYPTED if rule.mac_only_encrypted else b"")

    def value(self, value: Any, keys: tuple[str, ...]) -> str | None:
        """Give the ciphertext of a value under these keys; None where it stays as it is."""
        covered = self._rule.covers(keys)
        _check(value, ".".join(keys), covered=covered)
        plain = bytes_of(value)
        if covered or not self._rule.mac_only_encrypted:
            self._hash.update(plain)
        if not covered or not plain:
            return None
        self.count += 1
        return self._seal(plain, _kind(value), path_of(keys))

    def comment(self, text: str, keys: tuple[str, ...]) -> str | None:
        """Give the ciphertext of a comment inside what stands under these keys; None where it stays as it is."""
        return self._seal(text.encode(), "comment", path_of(keys)) if text and self._rule.covers(keys) else None

    def finish(self, about: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Give the `sops` part: `about` with the time and the MAC over every value that was given, in its order."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        mac = self._hash.hexdigest().upper().encode()
        rest = {key: value for key, value in about.items() if key not in {"lastmodified", "mac"}}
        age_part = {"age": rest.pop("age")} if "age" in rest else {}
        return {**age_part, "lastmodified": when, "mac": self._seal(mac, "str", when), **rest}

    def _seal(self, plain: bytes, kind: str, additional: str) -> str:
        if known := self._known.get((additional, kind, plain)):
            return known
        iv = os.urandom(_IV_BYTES)
        sealed = self._cipher.encrypt(iv, plain, additional.encode())
        data, iv64, tag = (base64.b64encode(part).decode() for part in (sealed[:-TAG_BYTES], iv, sealed[-TAG_BYTES:]))
        return f"ENC[AES256_GCM,data:{data},iv:{iv64},tag:{tag},type:{kind}]"


def about(key: bytes, recipients: Iterable[str], rule: Rule) -> dict[str, Any]:
    """Give the `sops` part of a new document: the data key for each recipient, and which values are encrypted."""
    pyrage = age()
    given = [
        {"recipient": recipient, "enc": pyrage.encrypt(key, [pyrage.x25519.Recipient.from_str(recipient)], armored=True).decode()}
        for recipient in recipients
    ]
    only = {"mac_only_encrypted": True} if rule.mac_only_encrypted else {}
    return {"age": given, rule.kind: rule.text, **only, "version": _FORMAT}


def _check(value: Any, dotted: str, *, covered: bool) -> None:
    """Refuse what other readers of the format would read as something else."""
    if isinstance(value, Tagged) and covered:
        fail(f"{dotted}: a {value.tag} reference cannot be encrypted: leave its key out (--encrypted-regex), or move it")
    if isinstance(value, str) and VALUE.fullmatch(value):
        fail(f"{dotted}: an encrypted value in a document without a `sops` part: take it away, or restore the document from Git")
    if (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and value not in _INT64):
        fail(f"{dotted}: SOPS has no such number: put it in quotes")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "str"
