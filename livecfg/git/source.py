"""GitSource, UnsafeNoVerification, Limits: where configuration comes from and how much of it is accepted.

Plain data: nothing here opens a file or a connection, and nothing imports dulwich, so `import livecfg` stays light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from livecfg.errors import LivecfgError

_SCHEMES = ("https", "http", "ssh", "git", "file")
_SCP_LIKE = re.compile(r"(?:[\w.+-]+@)?[\w.-]+:(?!//)[^\0]+\Z")  # git@host:path, as git accepts it
_REF = re.compile(r"[A-Za-z0-9][\w./+@-]{0,199}\Z")


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on what one fetch may bring; beyond any of them it is aborted and the mirror stays as it was.

    `time_s` is for one fetch as a whole, `idle_s` for one silence of the remote. `delta_depth` counts deltas on deltas.
    `refs_bytes` is for the remote's list of refs, of which only the followed one is kept.
    """

    wire_bytes: int = 128 * 1024 * 1024
    refs_bytes: int = 64 * 1024 * 1024
    objects: int = 500_000
    inflated_bytes: int = 512 * 1024 * 1024
    object_bytes: int = 16 * 1024 * 1024
    delta_depth: int = 256
    time_s: float = 120.0
    idle_s: float = 15.0


@dataclass(frozen=True, slots=True)
class GitSource:
    """A branch of a Git remote: `https`, `http`, `ssh` (or `user@host:path`), `git`, `file` URL or an absolute path.

    Credentials never stand in the URL: `auth` is `user:password`, or a whole header value such as `Bearer …`; `auth_file`
    names a file with the same text, read anew for every connection, so that tokens can rotate. `ca_file` replaces the
    system's certificate authorities, `ssh_command` is the program and options put before the host. None of it is shown by
    `repr`. Constructing does no I/O.

    Raises:
        LivecfgError: the URL or the ref is not usable.

    """

    url: str
    ref: str = "main"
    auth: str = field(default="", repr=False)
    auth_file: str = field(default="", repr=False)
    ca_file: str = ""
    ssh_command: tuple[str, ...] = ("ssh", "-o", "BatchMode=yes")
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _check_url(self.url)
        name = self.ref
        if not _REF.match(name) or ".." in name or "//" in name or "@{" in name or name.endswith(("/", ".", ".lock")):
            raise LivecfgError(f"source: ref {name!r} is not a branch name; expected something like 'main'")
        if name.startswith("refs/") and not name.startswith("refs/heads/"):
            raise LivecfgError(f"source: ref {name!r} is not a branch; expected a name such as 'main' or 'refs/heads/main'")
        if self.auth and self.auth_file:
            raise LivecfgError("source: both auth and auth_file are given; expected one of them")
        if any(ord(c) < 32 for c in self.auth):
            raise LivecfgError("source: auth holds a control character, a line end perhaps")

    @property
    def full_ref(self) -> str:
        """The ref as the remote names it."""
        return self.ref if self.ref.startswith("refs/") else f"refs/heads/{self.ref}"

    @property
    def scheme(self) -> str:
        """`https`, `http`, `ssh`, `git` or `file`."""
        if "://" in self.url:
            return urlsplit(self.url).scheme
        return "file" if self.url.startswith("/") else "ssh"

    @property
    def folder(self) -> str:
        """The name of this source's folder under LIVECFG_HOME: equal sources of one host share a mirror."""
        return sha256(f"{self.url}\0{self.full_ref}".encode()).hexdigest()[:24]

    def __str__(self) -> str:
        return f"{self.url} {self.ref}"


@dataclass(frozen=True, slots=True)
class UnsafeNoVerification:
    """A working tree in development, used without any verification; refused in protected environments."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    def __str__(self) -> str:
        return f"{self.path} (unverified)"


def _check_url(url: str) -> None:
    if not url or any(ord(c) < 33 or ord(c) == 127 for c in url):
        raise LivecfgError("source: the URL is empty or holds blanks or control characters")
    if "://" not in url:
        if not url.startswith("/") and (url.startswith("-") or not _SCP_LIKE.match(url)):
            raise LivecfgError(f"source: {url!r} is neither a URL, an absolute path, nor user@host:path")
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise LivecfgError(f"source: the URL cannot be parsed: {error}") from error
    if parts.scheme not in _SCHEMES:
        raise LivecfgError(f"source: URL scheme {parts.scheme!r} is not supported; expected one of {', '.join(_SCHEMES)}")
    if parts.password is not None or (parts.scheme in {"http", "https"} and parts.username is not None):
        raise LivecfgError("source: the URL holds credentials, which end up in logs; give them as auth or auth_file")
    if parts.scheme != "file" and not parts.hostname:
        raise LivecfgError(f"source: {url!r} names no host")
    if parts.hostname is not None and parts.hostname.startswith("-"):
        raise LivecfgError("source: a host name must not begin with '-', which ssh would take for an option")
    if parts.query or parts.fragment:
        raise LivecfgError(f"source: {url!r} has a query or a fragment, which Git does not know")
