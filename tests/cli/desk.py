"""Desk: a person's machine, with a home, keys and a configuration repository of their own."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.simulator.repo import isolated

ROOT = Path(__file__).parents[2]
PROD = "config/checkout/prod.yaml"
POLICY = ".livecfg/policy.yaml"
SECONDS = 60
"""How long the command may take."""


@cache
def _zygote() -> subprocess.Popen[str]:
    """Start what forks into the command, once in a test process; it ends with this process."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LIVECFG_")} | {"TZ": "UTC", "LC_ALL": "C"}
    words = [sys.executable, "-m", "tests.cli.zygote"]
    zygote = subprocess.Popen(words, cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(zygote.communicate)
    return zygote


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
        """Run the command; give its output, and leave what it told the person in `talk`. With `environ` from the start."""
        cwd = at or self.conf
        if environ:
            command = [sys.executable, "-m", "livecfg", *words]
            done = subprocess.run(
                command, cwd=cwd, env=self.environ | environ, capture_output=True, text=True, check=False, timeout=SECONDS
            )
            found, output, self.talk = done.returncode, done.stdout, done.stderr
        else:
            found, output, self.talk = self._forked(words, cwd)
        assert found == code, output + self.talk
        assert "Traceback" not in self.talk
        return output

    def _forked(self, words: tuple[str, ...], cwd: Path) -> tuple[int, str, str]:
        """Run it in a fork of a process that has imported it."""
        out, err = self.path / "desk.out", self.path / "desk.err"
        job = {
            "words": words,
            "cwd": str(cwd),
            "environ": self.environ,
            "stdout": str(out),
            "stderr": str(err),
            "seconds": SECONDS,
        }
        zygote = _zygote()
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        zygote.stdin.write(json.dumps(job) + "\n")
        zygote.stdin.flush()
        return int(zygote.stdout.readline()), out.read_text(), err.read_text()

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
