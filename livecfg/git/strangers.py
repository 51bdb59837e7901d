"""What a mirror never holds unless somebody else wrote there: found, taken away, and told.

None of it changes what livecfg reads. But `git`, run by a person in there, would run hooks and commands of the config, and take
objects from elsewhere.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from livecfg.git.files import write_file
from livecfg.git.store import config_of

if TYPE_CHECKING:
    from pathlib import Path

_STRANGERS = ("hooks", "objects/info/alternates", "objects/info/http-alternates", "info/grafts", "refs/replace")


def evict(repository: Path, id_length: int) -> list[str]:
    """Take away what does not belong there, put the config back; gives the names of what was found. For the fetcher alone.

    Raises:
        OSError: the disk does not let it happen.

    """
    found = [name for name in _STRANGERS if (repository / name).is_symlink() or (repository / name).exists()]
    for name in found:
        path = repository / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    config, kept = repository / "config", b""
    with suppress(OSError):
        kept = config.read_bytes()
    if repository.is_dir() and kept != config_of(id_length):
        write_file(config, config_of(id_length))
        found.append("config")
    return found
