"""warm(): imports, in the reader's thread, what the background thread will use; ARCHITECTURE.md "Decisions" says why."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

_LATE = (
    "livecfg.flags.compiled",
    "livecfg.flags.experiment",
    "livecfg.flags.explain",
    "livecfg.flags.flag",
    "livecfg.flags.split",
    "yaml",
    "yaml.cyaml",
    "mmh3",
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.asymmetric.utils",
    "cryptography.hazmat.primitives.ciphers.aead",
    "pyrage",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
)
_LATE_SSH = ("livecfg.git.fallback",)  # servers that do not let the wish for version 2 through, as OpenSSH comes, speak version 0
_LATE_TREE = ("livecfg.git.treewatch",)
_LATE_HUB = ("grpc", "livecfg.hub.link", "livecfg.hub.report", "livecfg.hub._pb.hub_pb2")


def warm(*, hub: bool = False, tree: bool = False, ssh: bool = False) -> None:
    """Import it all; with a hub grpc too, for a working tree its watcher, for ssh the older protocols."""
    for name in (*_LATE, *(_LATE_HUB if hub else ()), *(_LATE_TREE if tree else ()), *(_LATE_SSH if ssh else ())):
        with suppress(ImportError):  # yaml.cyaml: PyYAML without libyaml; pyrage: an extra
            import_module(name)
