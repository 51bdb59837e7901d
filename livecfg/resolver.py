"""SecretResolver: where `!secret` references get their values: the environment, files, plug-ins; never kept, never logged.

A file that was read is looked at every second: when it changes, by rename or by Kubernetes' `..data` link, what refers to it is
resolved again without a commit. Variables and plug-ins are asked whenever layers are loaded.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from livecfg.errors import FetchError, LivecfgError
from livecfg.secrets import Reference, UnresolvedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FILE_BYTES = 1 << 16
_NEVER = ("LIVECFG_*", "SOPS_*")
_AGE_KEY, _AGE_KEY_FILE = "SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"
Stamp = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class SecretSources:
    """What `!secret` references of the configuration may name; whoever writes configuration cannot reach beyond it.

    `env` are patterns of variables, `folders` hold the files, `plugins` maps a scheme to a function that is given the name and
    gives the secret; what it raises means "later".
    """

    env: tuple[str, ...] = ("*",)
    folders: tuple[Path, ...] = (Path("/run/secrets"), Path("/var/run/secrets"))
    plugins: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if taken := sorted({"env", "file"} & self.plugins.keys()):
            raise LivecfgError(f"secrets: the scheme {taken[0]!r} is built in; name the plug-in otherwise")


class SecretResolver:
    """The SecretSource of one process; remembers which files it read and when they were written, and no value."""

    def __init__(self, sources: SecretSources, variables: Mapping[str, str]) -> None:
        self._sources = sources
        self._variables = variables
        self._stamps: dict[Path, Stamp] = {}
        self.generation = 0

    def changed(self) -> bool:
        """Whether a file that was asked for was written, replaced, added or removed since."""
        return any(_stamp(path) != was for path, was in tuple(self._stamps.items()))

    def look(self) -> bool:
        """Begin a new generation when `changed`."""
        if not self.changed():
            return False
        self._stamps = {path: _stamp(path) for path in self._stamps}
        self.generation += 1
        return True

    def fetch(self, reference: Reference) -> SecretStr:
        """Give a secret.

        Raises:
            UnresolvedError: there is none, or it may not be referred to.
            FetchError: a plug-in failed.

        """
        if reference.scheme == "env":
            return self._variable(reference.name)
        if reference.scheme == "file":
            return self._file(reference)
        plugin = self._sources.plugins.get(reference.scheme)
        if plugin is None:
            known = ", ".join(["env", "file", *sorted(self._sources.plugins)])
            advice = "give LiveConfig(secrets=SecretSources(plugins=…)) the function"
            raise UnresolvedError(f"no source of secrets is called {reference.scheme!r}; there are {known}", advice)
        try:
            value = plugin(reference.name)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, and its message may hold the secret
            raise FetchError(f"the secret {reference}: the plug-in failed with {type(error).__name__}") from None
        if not isinstance(value, str):
            raise FetchError(f"the secret {reference}: the plug-in gave a {type(value).__name__}, expected text")
        return SecretStr(value)

    def _variable(self, name: str) -> SecretStr:
        allowed = any(fnmatchcase(name, pattern) for pattern in self._sources.env)
        if not allowed or any(fnmatchcase(name, pattern) for pattern in _NEVER):
            advice = "allow it in LiveConfig(secrets=SecretSources(env=…))"
            raise UnresolvedError(f"the variable {name} may not be referred to", advice)
        value = self._variables.get(name)
        if value is None:
            raise UnresolvedError(f"the variable {name} is not set in this process", f"set {name} where the process starts")
        return SecretStr(value)

    def _file(self, reference: Reference) -> SecretStr:
        path = Path(reference.name)
        allowed = [folder for folder in self._sources.folders if path.is_relative_to(folder)]
        if not allowed or ".." in path.parts:
            folders = ", ".join(map(str, self._sources.folders)) or "no folder"
            advice = "allow its folder in LiveConfig(secrets=SecretSources(folders=…))"
            raise UnresolvedError(f"the file {path} may not be referred to; allowed: {folders}", advice)
        self._stamps[path] = _stamp(path)
        try:
            if not any(path.resolve().is_relative_to(folder.resolve()) for folder in allowed):
                raise UnresolvedError(f"the file {path} leads out of its folder", "put the secret itself there, not a link")
            text = _read(path).removesuffix("\n")
        except (OSError, ValueError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            raise UnresolvedError(f"the file {path} cannot be read: {why}", "mount it, readable for the process") from None
        if not text:  # as a file is for a moment that somebody writes in place: no password, for some requests
            raise UnresolvedError(f"the file {path} is empty", "write it beside, and rename it into place")
        return SecretStr(text)

    def age_identities(self) -> tuple[SecretStr, ...]:
        """Give the keys in SOPS_AGE_KEY and in the file that SOPS_AGE_KEY_FILE names, one a line.

        Raises:
            UnresolvedError: the file cannot be read.

        """
        text = self._variables.get(_AGE_KEY, "")
        if name := self._variables.get(_AGE_KEY_FILE):
            path = Path(name)
            self._stamps[path] = _stamp(path)
            try:
                text += "\n" + _read(path)
            except (OSError, ValueError) as error:
                why = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
                raise UnresolvedError(f"{_AGE_KEY_FILE} cannot be read: {why}", "mount it, readable for the process") from None
        lines = (line.strip() for line in text.splitlines())
        return tuple(SecretStr(line) for line in lines if line and not line.startswith("#"))


def _stamp(path: Path) -> Stamp:
    """What changes when a file is written or replaced; None where there is none."""
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size
    return None


def _read(path: Path) -> str:
    """Read a small text file.

    Raises:
        OSError, ValueError: it cannot be read, is no regular file, too big, or no text; the message holds nothing of it.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise ValueError(f"it is over {_FILE_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
