"""SSH keys made by the real `ssh-keygen`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Key:
    """A key pair on disk; `public` is `<type> <base64>` without a comment."""

    name: str
    private: Path
    public: str

    @property
    def private_bytes(self) -> bytes:
        """The OpenSSH private key file, unencrypted."""
        return self.private.read_bytes()


def make_key(folder: Path, name: str, kind: str = "ed25519", bits: int = 0) -> Key:
    """Make a key pair of `kind` (ed25519, ecdsa, rsa) in `folder`; `bits` 0 means the kind's default."""
    folder.mkdir(parents=True, exist_ok=True)
    private = folder / f"{name}.{kind}{bits or ''}"
    sized = ["-b", str(bits)] if bits else []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *sized, "-N", "", "-C", name, "-f", str(private)],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    public = " ".join(Path(f"{private}.pub").read_text().split()[:2])
    return Key(name, private, public)
