"""ConfigRepo: a configuration repository made by the real `git` program, with real signatures."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.simulator.clock import Clock
from tests.simulator.keys import Key, make_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

REPO_ID = "6f1c0c1e9a0f4f7f8a5e1d7f0c1b2a33"
FOUNDER = "ana@acme"

MANIFEST: dict[str, Any] = {
    "version": 1,
    "layers": ["config/_shared/base.yaml", "config/{service}/base.yaml", "config/{service}/{env}.yaml"],
    "flags": ["flags/_shared/**", "flags/{service}/**"],
    "splits": ["splits/_shared/**", "splits/{service}/**"],
    "experiments": ["experiments/_shared/**", "experiments/{service}/**"],
    "fractional": "v2",
}


class ConfigRepo:
    """A working clone (`work`) and a bare remote (`remote_path`) under `path`, apart from the user's own git set-up.

    Every commit takes its time from `clock` and moves it on by `step_s`. Nothing reaches the remote before `push()`.
    """

    def __init__(self, path: Path, *, branch: str = "main", object_format: str = "sha1", clock: Clock | None = None) -> None:
        self.path = path
        self.main = branch
        self.clock = clock or Clock()
        self.step_s = 60
        self.people: dict[str, Key] = {}
        self.root_people: tuple[str, ...] = ()
        self.root_threshold = 1
        self.work = path / "work"
        self.remote_path = path / "remote.git"
        self._home = path / "home"
        self._home.mkdir(parents=True)
        self.git("init", "-q", "--bare", f"--object-format={object_format}", "-b", branch, str(self.remote_path), at=path)
        self.git("init", "-q", f"--object-format={object_format}", "-b", branch, str(self.work), at=path)
        self.git("config", "http.receivepack", "true", at=self.remote_path)
        for key, value in (("gpg.format", "ssh"), ("core.autocrlf", "false"), ("gc.auto", "0"), ("advice.detachedHead", "false")):
            self.git("config", key, value)
        self.git("remote", "add", "origin", str(self.remote_path))

    def crowd(self, count: int) -> None:
        """Put that many branches whose names begin like that of the main one into the remote, as `git pack-refs` leaves them."""
        tip, loose = self.remote_tip(), self.remote_path / "refs" / "heads" / self.main
        names = [self.main, *(f"{self.main}-{number:06}" for number in range(count))]
        lines = "".join(f"{tip} refs/heads/{name}\n" for name in names)
        (self.remote_path / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
        loose.unlink(missing_ok=True)

    # -- people and documents -------------------------------------------------------------------------------------------

    def person(self, name: str, kind: str = "ed25519", bits: int = 0) -> Key:
        """Give the person's key, made on first use; the repository does not know it until a commit lists it."""
        if name not in self.people:
            self.people[name] = make_key(self.path / "keys", name, kind, bits)
        return self.people[name]

    def allowed_signers(self, people: Iterable[str] | None = None) -> str:
        """The text of `.livecfg/allowed_signers` for these people (default: all who have a key)."""
        return "".join(f"{name} {self.person(name).public}\n" for name in (self.people if people is None else people))

    def policy(self, **changes: Any) -> dict[str, Any]:
        """A small policy: the root people own `.livecfg/**`, everybody listed may change the rest; `changes` replace keys."""
        return {
            "version": 1,
            "repo_id": REPO_ID,
            "root": {"people": list(self.root_people), "threshold": self.root_threshold},
            "rules": [{"id": "all", "paths": ["**"], "allow": ["*"]}],
        } | changes

    def found(  # noqa: PLR0913 - each is a part of the first commit
        self,
        files: Mapping[str, str | bytes | None] | None = None,
        *,
        by: str = FOUNDER,
        root: Iterable[str] = (),
        threshold: int = 1,
        people: Iterable[str] = (),
        policy: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
        signed: bool = True,
    ) -> str:
        """Write and push the first commit: policy, allowed signers, manifest and `files`.

        `root` are the root people (default: `by`), `people` are further known signers, `policy` and `manifest` replace
        top-level keys of the defaults. With a threshold above 1 further root people must adopt the commit (see `adopt`).
        """
        self.root_people = tuple(root) or (by,)
        self.root_threshold = threshold
        for name in (*self.root_people, by, *people):
            self.person(name)
        written: dict[str, str | bytes | None] = {
            ".livecfg/policy.yaml": yaml.safe_dump(self.policy(**(policy or {})), sort_keys=False),
            ".livecfg/allowed_signers": self.allowed_signers(),
            "livecfg.yaml": yaml.safe_dump(MANIFEST | dict(manifest or {}), sort_keys=False),
        }
        commit = self.commit(written | dict(files or {}), by=by, message="Found the configuration", signed=signed)
        self.push()
        return commit

    @property
    def trusted_root(self) -> bytes:
        """The trusted root file an application would ship, without an anchor."""
        return self.trusted_root_at(None)

    def trusted_root_at(self, anchor: str | None) -> bytes:
        """The trusted root file, anchored at a commit when one is given."""
        text: dict[str, Any] = {
            "version": 1,
            "repo_id": REPO_ID,
            "threshold": self.root_threshold,
            "people": {name: [self.person(name).public] for name in self.root_people},
        }
        if anchor:
            kind = "sha1" if len(anchor) == 40 else "sha256"
            text["anchor"] = {"commit": f"{kind}:{anchor}", "payload_sha256": self.payload_sha256(anchor)}
        return yaml.safe_dump(text, sort_keys=False, width=1000).encode()

    # -- history ----------------------------------------------------------------------------------------------------------

    def commit(
        self,
        files: Mapping[str, str | bytes | None] | None = None,
        *,
        by: str = FOUNDER,
        message: str = "Change configuration",
        signed: bool = True,
        date: float | None = None,
        amend: bool = False,
    ) -> str:
        """Write the files (None deletes) and commit them on the current branch; no files: an empty commit."""
        for name, text in (files or {}).items():
            self._write(name, text)
        if files:
            self.git("add", "-A", "--", *files)
        extra = ["--amend", "--reset-author"] if amend else []
        self.git(
            "commit",
            "-q",
            "--allow-empty",
            "--no-verify",
            *self._signing(by, signed=signed),
            *extra,
            "-m",
            message,
            who=by,
            date=self._date(date),
        )
        return self.tip()

    def adopt(self, commit: str, by: str, message: str = "") -> str:
        """Add an empty signed commit that adopts `commit`."""
        return self.commit(by=by, message=f"{message or 'Adopt ' + commit[:10]}\n\nLivecfg-Adopt: {commit}")

    def merge(self, branch: str, *, by: str = FOUNDER, message: str = "", signed: bool = True, date: float | None = None) -> str:
        """Merge `branch` into the current one with a merge commit (never a fast-forward) and give its id."""
        text = message or f"Merge {branch}"
        self.git(
            "merge",
            "-q",
            "--no-ff",
            "--no-verify",
            *self._signing(by, signed=signed),
            "-m",
            text,
            branch,
            who=by,
            date=self._date(date),
        )
        return self.tip()

    def revert(self, commit: str, *, by: str = FOUNDER) -> str:
        """Revert a commit with a signed one."""
        self.git("revert", "--no-edit", *self._signing(by, signed=True), commit, who=by, date=self._date(None))
        return self.tip()

    def branch(self, name: str, at: str = "HEAD") -> None:
        """Make a branch at a commit and switch to it."""
        self.git("switch", "-q", "-c", name, at)

    def switch(self, name: str) -> None:
        """Switch to an existing branch."""
        self.git("switch", "-q", name)

    def reset(self, commit: str) -> None:
        """Move the current branch and the files to `commit`."""
        self.git("reset", "-q", "--hard", commit)

    def tip(self, name: str = "HEAD") -> str:
        """The commit id a name points to, in the working clone."""
        return self.git("rev-parse", "--verify", f"{name}^{{commit}}")

    def remote_tip(self, branch: str = "") -> str:
        """The commit id of a branch of the remote."""
        return self.git("rev-parse", "--verify", f"refs/heads/{branch or self.main}", at=self.remote_path)

    # -- the remote -------------------------------------------------------------------------------------------------------

    def push(self, branch: str = "", *, force: bool = False) -> str:
        """Push a branch (default: the main one) to the bare remote and give its tip."""
        name = branch or self.main
        self.git("push", "-q", *(["--force"] if force else []), "origin", f"{name}:refs/heads/{name}")
        return self.tip(name)

    def force_push(self, commit: str, branch: str = "") -> None:
        """Make the remote branch point to `commit`, whatever it was; the working clone stays as it is."""
        self.git("push", "-q", "--force", "origin", f"{commit}:refs/heads/{branch or self.main}")

    def publish(self, files: Mapping[str, str | bytes | None], *, by: str = FOUNDER, message: str = "Change values") -> str:
        """Commit and push in one."""
        commit = self.commit(files, by=by, message=message)
        self.push()
        return commit

    # -- looking ------------------------------------------------------------------------------------------------------------

    def raw(self, object_id: str, kind: str = "commit") -> bytes:
        """The content of one object of the working clone."""
        return self._run(["git", "cat-file", kind, object_id], self.work)

    def payload_sha256(self, commit: str) -> str:
        """SHA-256 of what was signed: the raw commit without its `gpgsig*` headers."""
        head, _, body = self.raw(commit).partition(b"\n\n")
        kept, dropping = [], False
        for line in head.split(b"\n"):
            dropping = line.startswith(b"gpgsig") or (dropping and line.startswith(b" "))
            if not dropping:
                kept.append(line)
        return hashlib.sha256(b"\n".join(kept) + b"\n\n" + body).hexdigest()

    def fsck(self, at: Path | None = None) -> str:
        """Run `git fsck --strict` and give its output; raises when it finds a fault."""
        return self.git("fsck", "--strict", "--no-dangling", at=at or self.work)

    def dump(self) -> str:
        """The whole history with signatures, for a failure message."""
        signers = self.path / "allowed_signers"
        signers.write_text(self.allowed_signers())
        show = [
            "-c",
            f"gpg.ssh.allowedSignersFile={signers}",
            "log",
            "--all",
            "--graph",
            "--decorate",
            "--stat",
            "--date=iso-strict",
        ]
        return self.git(*show, "--format=%h %G? %GS %cd%d%n%B")

    def git(self, *words: str, at: Path | None = None, who: str = FOUNDER, date: float | None = None) -> str:
        """Run git, apart from the user's own set-up, and give its output stripped."""
        return self._run(["git", *words], at or self.work, who, date).decode(errors="replace").strip()

    def remove(self) -> None:
        """Delete everything (tmp_path does it too)."""
        shutil.rmtree(self.path, ignore_errors=True)

    # -- inside -------------------------------------------------------------------------------------------------------------

    def _write(self, name: str, text: str | bytes | None) -> None:
        target = self.work / name
        if text is None:
            target.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def _signing(self, by: str, *, signed: bool) -> list[str]:
        return [f"-S{self.person(by).private}"] if signed else ["--no-gpg-sign"]

    def _date(self, date: float | None) -> float:
        moment = self.clock() if date is None else date
        if date is None:
            self.clock.advance(self.step_s)
        return moment

    def _run(self, words: list[str], at: Path, who: str = FOUNDER, date: float | None = None) -> bytes:
        moment = f"{int(self.clock() if date is None else date)} +0000"
        done = subprocess.run(
            words, cwd=at, env=isolated(self._home, who, moment), capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}")
        return done.stdout


def isolated(home: Path, who: str = FOUNDER, moment: str = "") -> dict[str, str]:
    """An environment in which git sees no configuration, agent or credentials of the user."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SSH_", "GPG_"))}
    return (
        kept
        | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": who.partition("@")[0],
            "GIT_AUTHOR_EMAIL": who,
            "GIT_COMMITTER_NAME": who.partition("@")[0],
            "GIT_COMMITTER_EMAIL": who,
            "TZ": "UTC",
            "LC_ALL": "C",
        }
        | ({"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment} if moment else {})
    )
