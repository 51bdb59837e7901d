"""edited(): a text in the person's editor, in a folder of their own that is gone afterwards, in memory where there is one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from livecfg.cli.output import fail
from livecfg.cli.sops.files import write_new


def edited(text: str, name: Path) -> str:
    """Let the person edit a text under the name of a file; ends the command when the editor fails."""
    command = shlex.split(os.environ.get("SOPS_EDITOR") or os.environ.get("EDITOR") or "vi")
    folder = Path(tempfile.mkdtemp(prefix="livecfg-", dir=_memory()))  # mode 0700
    try:
        draft = folder / name.name
        write_new(draft, text.encode())
        try:
            done = subprocess.run([*command, str(draft)], check=False)  # noqa: S603 - the editor the person chose
        except OSError as error:
            fail(f"the editor {command[0]!r} cannot be started: {error.strerror}; set EDITOR")
        if done.returncode:
            fail(f"the editor {command[0]!r} ended with {done.returncode}: nothing was changed")
        return draft.read_text(encoding="utf-8")
    finally:
        shutil.rmtree(folder)


def _memory() -> str | None:
    """A folder that is not on a disk; None where there is none."""
    places = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")  # noqa: S108 - a folder of mode 0700 is made in it
    return next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), None)
