"""Files that hold secrets: read strictly, replaced whole, and never left half written or readable for others."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import Exit, fail
from livecfg.document import read
from livecfg.layers import TAGS
from livecfg.resolver import SecretResolver, SecretSources
from livecfg.secrets import UnresolvedError
from livecfg.sops import Opening, data_key, is_encrypted, metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from livecfg.document import Document

_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Opened:
    """An encrypted document that was opened: its data key, and its plain value of plain types."""

    document: Document
    key: bytes
    opening: Opening
    value: dict[str, Any]


def document_at(path: Path) -> Document:
    """Read a document that may be encrypted or may come to be.

    Raises:
        RefusedError: it is malformed.

    """
    if path.suffix not in _ENDINGS:
        fail(f"{path}: expected a file that ends with {', '.join(_ENDINGS)}")
    document = read(path.read_bytes(), _shown(path), tags=TAGS)
    if not isinstance(document.value, dict) or not document.value:
        fail(f"{path}: expected a mapping with at least one key")
    return document


def opened_at(path: Path) -> Opened:
    """Read and open an encrypted document with the age keys of this person.

    Raises:
        RefusedError: no key here opens it, or it was changed after it was encrypted; with the place.

    """
    document = document_at(path)
    if not is_encrypted(document.value):
        fail(f"{path} is not encrypted: livecfg secrets encrypt {path}", Exit.FINDINGS)
    metadata = metadata_of(document)
    key = data_key(document, metadata, age_keys(os.environ))
    opening = Opening(document, metadata, key, plain_value)
    return Opened(document, key, opening, opening.run())


def plain_value(kind: str, plain: bytes) -> Any:
    """Give the value of a SOPS type.

    Raises:
        ValueError: the bytes are none of it.

    """
    text = plain.decode()
    if kind in {"int", "int64"}:
        return int(text)
    if kind == "float":
        return float(text)
    return text.lower() == "true" if kind == "bool" else text


def age_keys(variables: Mapping[str, str]) -> tuple[SecretStr, ...]:
    """Give the age keys where the sops program looks: SOPS_AGE_KEY, SOPS_AGE_KEY_FILE, the own sops/age/keys.txt.

    Ends the command where a file that is named cannot be read.
    """
    config = Path(variables.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = config / "sops/age/keys.txt"
    places = [variables] + ([{"SOPS_AGE_KEY_FILE": str(own)}] if own.exists() else [])
    try:
        return tuple(key for place in places for key in SecretResolver(SecretSources(), place).age_identities())
    except UnresolvedError as error:
        fail(f"{error.message} ({error.advice})")


def replace(path: Path, data: bytes, before: bytes) -> None:
    """Replace a file whole, with the mode it has, if it still holds what was read; ends the command where it does not."""
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        write_new(beside, data, stat.S_IMODE(target.stat().st_mode))
        if target.read_bytes() != before:
            fail(f"{path} was changed by somebody else meanwhile: nothing was written", Exit.REFUSED)
        beside.replace(target)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet, to the disk; whatever goes wrong, it is taken away again.

    Raises:
        OSError: it is there, or cannot be written.

    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise


def clone_around(path: Path) -> Path | None:
    """Give the root of the Git clone that holds a path."""
    return next((folder for folder in path.resolve().parents if (folder / ".git").exists()), None)


def is_tracked(path: Path) -> bool:
    """Whether Git knows the file already: its plain text may be in the history."""
    root = clone_around(path)
    if root is None:
        return False
    from livecfg.cli.clone import Clone

    return path.resolve().relative_to(root).as_posix().encode() in Clone(root).repo.open_index()


def _shown(path: Path) -> str:
    """The name in findings: below the clone, where there is one."""
    root = clone_around(path)
    return path.resolve().relative_to(root).as_posix() if root is not None else path.as_posix()
