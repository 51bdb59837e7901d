"""Desk: a person's machine, with a home, keys and a configuration repository of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.simulator.repo import isolated

ROOT = Path(__file__).parents[2]
PROD = "config/checkout/prod.yaml"
POLICY = ".livecfg/policy.yaml"


class Desk:
    """A person's machine: a home of its own, a repository made by `livecfg init`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "home"
        self.home.mkdir()
        self.conf = path / "conf"
        self.environ = isolated(self.home) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(self.home)}
        self.environ |= {"GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@acme", "LIVECFG_HOME": str(self.home / "livecfg")}

    def run(self, *words: str, at: Path | None = None, code: int = 0, **environ: str) -> str:
        command = [sys.executable, "-m", "livecfg", *words]
        done = subprocess.run(
            command, cwd=at or self.conf, env=self.environ | environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        self.talk = done.stderr
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        found = json.loads(self.run(*words, "-o", "json", code=code))
        assert found["schema"] == "livecfg/cli/v1"
        return found

    def git(self, *words: str, at: Path | None = None) -> str:
        done = subprocess.run(["git", *words], cwd=at or self.conf, env=self.environ, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def write(self, name: str, text: str) -> None:
        path = self.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def key(self, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
        """Give a key pair by the real ssh-keygen, made on first use."""
        path = self.path / name
        if not path.exists():
            command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", name, "-f", str(path)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path

    def rules(self, *rules: str, root: str = "ana@acme", threshold: int = 1) -> None:
        """Replace the rules of the policy, and its root role; committed and signed."""
        text = (self.conf / POLICY).read_text()
        head = text[: text.index("root:")]
        rest = "".join(f"  - {rule}\n" for rule in rules)
        self.write(POLICY, f"{head}root: {{people: [{root}], threshold: {threshold}}}\nrules:\n{rest}")
        self.run("commit", "-m", "Change the rules")

    def commit_unsigned(self, subject: str) -> str:
        """Commit everything by plain git, without a signature."""
        self.git("add", "-A")
        who = ("-c", "user.name=x", "-c", "user.email=x@y")
        self.git("-c", "commit.gpgsign=false", *who, "commit", "-q", "--no-verify", "-m", subject)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def state(self) -> tuple[str, str, bytes]:
        """HEAD, what differs from it, and the index, byte for byte."""
        return self.head(), self.git("status", "--porcelain", "--untracked-files=all"), (self.conf / ".git/index").read_bytes()
