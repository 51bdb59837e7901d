"""What a test needs and a machine may lack: installed where that can be done, else the test fails and says what to do."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def program(name: str, package: str) -> str:
    """Give the path of a program, from Debian's `package` when it is not there yet."""
    return _found(lambda: shutil.which(name, path=_PATH), f"the program {name}", package)


def header(path: str, package: str) -> str:
    """Give the path of a C header, from Debian's `package` when it is not there yet."""
    return _found(lambda: path if Path(path).exists() else None, path, package)


def _found(look: Callable[[], str | None], what: str, package: str) -> str:
    if found := look():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with Path(tempfile.gettempdir(), "livecfg-tests-apt.lock").open("w") as lock:  # tests run side by side
            fcntl.flock(lock, fcntl.LOCK_EX)
            for words in (["install", "-y", package], ["update"], ["install", "-y", package]):
                if not look():
                    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
                    subprocess.run(["apt-get", "-q", *words], env=environ, capture_output=True, check=False)
    if found := look():
        return found
    pytest.fail(f"this test needs {what}: apt-get install {package}")
