"""Durable files: written beside their name, fsynced, renamed, and their folder fsynced; read without the layers of `open`."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from livecfg.errors import FetchError
from livecfg.git.faults import translating

if TYPE_CHECKING:
    from pathlib import Path


def read_first(path: str, most: int) -> bytes:
    """The first bytes of a file, `most` of them; without the layers of `open`, which cost more than a small file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts, left = [], min(os.fstat(descriptor).st_size, most)
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def write_new(path: Path, data: bytes, mode: int) -> int:
    """Make a file that is not there yet and give its open descriptor, for fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise
    return descriptor


def write_file(path: Path, data: bytes, *, beside: str = "", mode: int = 0o644, sync_folder: bool = True) -> None:
    """Write a file whole: under the name `beside` (relative, same file system), fsync, rename, fsync of the folder.

    Raises:
        FetchError: the disk is full, read-only or out of order; nothing was replaced.

    """
    temporary = path.parent / (beside or f"incoming-{secrets.token_hex(6)}")
    try:
        with translating(f"writing {path.parent.name}/{path.name}"):
            descriptor = write_new(temporary, data, mode)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)  # noqa: PTH105 - the hot write path
            if sync_folder:
                fsync_folder(path.parent)
    except FetchError:
        with suppress(OSError):
            temporary.unlink()
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    with translating(f"writing {folder.name}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
