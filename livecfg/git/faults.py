"""Foreign exceptions become FetchError here, and only here.

`translating("…")` wraps every call into dulwich, urllib3, the network or the disk. FOREIGN names the roots; a test lists the
exceptions dulwich defines in the modules we use and finds each of them below a root.
"""

from __future__ import annotations

import errno
import ssl
import sys
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, ShortageError
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
    errno.ENOMEM: "this host has no memory left",
}


_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_BUILT_IN: tuple[type[BaseException], ...] = (
    OSError,
    EOFError,
    ValueError,  # dulwich reports many malformed bytes with it
    KeyError,
    AssertionError,
    IndexError,
    OverflowError,
    ssl.SSLError,
    zlib.error,
)
_LIBRARIES = {
    "dulwich.bundle_uri": ("BundleURIError",),
    "dulwich.client": (
        "HTTPProxyUnauthorized",
        "HTTPUnauthorized",
        "InvalidWants",
        "StrangeHostname",
        "TransportNotAllowed",
    ),
    "dulwich.errors": (
        "ApplyDeltaError",
        "ChecksumMismatch",
        "CommitError",
        "FileFormatException",
        "GitProtocolError",
        "HookError",
        "MissingCommitError",
        "NoIndexPresent",
        "NotGitRepository",
        "ObjectMissing",
        "RefFormatError",
        "WorkingTreeModifiedError",
        "WrongObjectException",
    ),
    "dulwich.file": ("FileLocked",),
    "dulwich.object_store": ("MaxTreeDepthExceeded",),
    "dulwich.objects": ("SubmoduleEncountered",),
    "dulwich.pack": (
        "PackFileDisappeared",
        "UnresolvedDeltas",
    ),
    "dulwich.refs": ("SymrefLoop",),
    "dulwich.repo": (
        "DefaultIdentityNotFound",
        "InvalidUserIdentity",
        "InvalidWorktreeConfiguration",
        "UnsupportedExtension",
        "UnsupportedVersion",
    ),
    "urllib3.exceptions": ("HTTPError",),
}


def foreign() -> tuple[type[BaseException], ...]:
    """The roots of what dulwich, urllib3, zlib and the operating system raise.

    Nothing is imported for it: what is not loaded cannot raise, and an import in our thread while the application forks would
    leave its lock held in the child.
    """
    loaded = ((sys.modules.get(module), names) for module, names in _LIBRARIES.items())
    return _BUILT_IN + tuple(
        getattr(module, name) for module, names in loaded if module is not None for name in names if hasattr(module, name)
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
        raise_shortage(doing, error)
        if isinstance(error, foreign()):
            raise FetchError(f"{doing}: {explain(error)}") from error
        raise


def raise_shortage(doing: str, error: Exception) -> None:
    """Where an error only says that no file can be opened just now, raise that: what was to be read may well be there."""
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        raise ShortageError(f"{doing}: {explain(error)}") from error


def over_limit(what: str, limit: float, name: str) -> FetchError:
    """The error for a cap of `Limits` that was exceeded."""
    return FetchError(f"{Code.LIMIT_EXCEEDED}: {what}; the limit is {limit:g} (Limits.{name})")
