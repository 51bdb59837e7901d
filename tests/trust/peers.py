"""What OpenSSH and Git say of a case, and what we say."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from livecfg.errors import RefusedError
from livecfg.revision import Commit
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.commits import parse_commit
from livecfg.trust.identify import Signed, identify

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trust.cases import Case


def openssh(case: Case, folder: Path) -> bool:
    """Whether `ssh-keygen -Y verify` accepts a case."""
    signers, signature = folder / "signers", folder / "signature"
    signers.write_text(case.signers)
    signature.write_bytes(case.signature)
    moment = ["-O", f"verify-time={utc(case.moment)}"]
    words = ["ssh-keygen", "-Y", "verify", *moment, "-f", signers, "-I", case.person, "-n", "git", "-s", signature]
    environment = {"PATH": os.environ["PATH"], "TZ": "UTC"}
    return subprocess.run(words, input=case.payload, capture_output=True, check=False, env=environment).returncode == 0


def utc(moment: int) -> str:
    """A Unix time as ssh-keygen takes it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H%M%SZ")


def ours(case: Case) -> bool:
    """Whether we accept a case."""
    whole = Commit("0" * 40, "", (), "", 0, "", case.moment, "", case.payload, case.signature, "")
    return _holds(whole, case)


def ours_of(raw: bytes, case: Case) -> bool:
    """Whether we accept a whole commit object."""
    return _holds(parse_commit("0" * 40, raw), case)


def _holds(commit: Commit, case: Case) -> bool:
    try:
        signers = parse_allowed_signers(case.signers.encode(), "allowed_signers")
    except RefusedError:
        return False
    signed = identify(commit, signers)
    return isinstance(signed, Signed) and signed.person == case.person and signed.fault_at(commit, case.moment) is None


def signed_object(case: Case) -> bytes:
    """The payload of a case as a commit object with its signature in the header."""
    head, blank, message = case.payload.partition(b"\n\n")
    lines = b"\n ".join(case.signature.removesuffix(b"\n").split(b"\n"))
    return head + b"\ngpgsig " + lines + blank + message


class Git:
    """A repository whose commits `git verify-commit` judges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "TZ": "UTC", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
        self._run("init", "-q", ".")
        self._run("config", "gpg.ssh.allowedSignersFile", str(folder / "signers"))

    def _run(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self.folder), *words]
        return subprocess.run(command, input=data, capture_output=True, check=False, env=self.environment)

    def accepts(self, raw: bytes, case: Case) -> bool:
        """Whether `git verify-commit` accepts a commit, as one by the person of the case."""
        (self.folder / "signers").write_text(case.signers)
        made = self._run("hash-object", "-t", "commit", "-w", "--stdin", "--literally", data=raw)
        if made.returncode:
            return False
        found = self._run("verify-commit", "--raw", made.stdout.decode().strip())
        return found.returncode == 0 and f'"git" signature for {case.person} with'.encode() in found.stderr
