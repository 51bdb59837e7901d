"""Foreign exceptions become FetchError here, and only here.

`translating("…")` wraps every call into dulwich, urllib3, the network or the disk. FOREIGN names the roots; a test lists the
exceptions dulwich defines in the modules we use and finds each of them below a root.
"""

from __future__ import annotations

import errno
import functools
import os
import ssl
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from livecfg.errors import FetchError
from livecfg.refusal import Code, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EMFILE: "this process has too many open files",
    errno.ENFILE: "this host has too many open files",
}


@functools.cache
def foreign() -> tuple[type[BaseException], ...]:
    """The roots of what dulwich, urllib3, zlib and the operating system raise; loaded late because dulwich is."""
    import urllib3.exceptions  # noqa: PLC0415 - only when something has failed
    from dulwich import bundle_uri, client, errors, file, object_store, objects, pack, refs, repo  # noqa: PLC0415 - as above

    return (
        OSError,
        EOFError,
        ValueError,  # dulwich reports many malformed bytes with it
        KeyError,
        AssertionError,
        IndexError,
        OverflowError,
        ssl.SSLError,
        zlib.error,
        urllib3.exceptions.HTTPError,
        errors.ApplyDeltaError,
        errors.ChecksumMismatch,
        errors.CommitError,
        errors.FileFormatException,
        errors.GitProtocolError,
        errors.HookError,
        errors.MissingCommitError,
        errors.NoIndexPresent,
        errors.NotGitRepository,
        errors.ObjectMissing,
        errors.RefFormatError,
        errors.WorkingTreeModifiedError,
        errors.WrongObjectException,
        bundle_uri.BundleURIError,
        client.HTTPProxyUnauthorized,
        client.HTTPUnauthorized,
        client.InvalidWants,
        client.StrangeHostname,
        client.TransportNotAllowed,
        file.FileLocked,
        object_store.MaxTreeDepthExceeded,
        objects.SubmoduleEncountered,
        pack.PackFileDisappeared,
        pack.UnresolvedDeltas,
        refs.SymrefLoop,
        repo.DefaultIdentityNotFound,
        repo.InvalidUserIdentity,
        repo.InvalidWorktreeConfiguration,
        repo.UnsupportedExtension,
        repo.UnsupportedVersion,
    )


def explain(error: BaseException) -> str:
    """One printable line about a foreign exception, without addresses of objects or secrets."""
    if isinstance(error, OSError) and error.errno in DISK:
        return DISK[error.errno] + (f": {error.filename}" if error.filename else "")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {printable(str(error.filename))}" if error.filename else "")
    text = printable(str(error)).strip()
    name = type(error).__name__
    return f"{name}: {text}"[:300] if text else name


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Raise FetchError, saying what was being done, for every foreign exception; ours pass."""
    try:
        yield
    except FetchError:
        raise
    except Exception as error:
        if isinstance(error, foreign()):
            raise FetchError(f"{doing}: {explain(error)}") from error
        raise


def over_limit(what: str, limit: float, name: str) -> FetchError:
    """The error for a cap of `Limits` that was exceeded."""
    return FetchError(f"{Code.LIMIT_EXCEEDED}: {what}; the limit is {limit:g} (Limits.{name})")


def disk_is_unwritable(error: OSError) -> bool:
    """Tell whether writing failed for a reason of the machine: full, read-only or forbidden."""
    return error.errno in DISK


def pid_alive(pid: int) -> bool:
    """Tell whether a process of this host exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
