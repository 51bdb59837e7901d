"""The demo that is running, as its own second command sees it: a small state file in the user's cache, and changes to it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from livecfg.cli._demo.repository import VALUES_PATH, Key, Repository
from livecfg.cli._demo.site import WORKERS, Site, ask_workers
from livecfg.environment import read_environment
from livecfg.errors import LivecfgError
from livecfg.git.source import GitSource


@dataclass(frozen=True, slots=True)
class Running:
    """Where a running demo is."""

    pid: int
    folder: str
    repo_id: str
    url: str
    port: int
    public: str

    @classmethod
    def of(cls, site: Site) -> Running:
        """Describe the demo of this process."""
        key = site.key
        return cls(os.getpid(), str(site.folder), site.repository.repo_id, site.source.url, site.port, key.public)

    def write(self, private: bytes) -> None:
        """Let other commands of this user find it; the key stays in the demo's own folder, for this user alone."""
        key = Path(self.folder) / "key"
        key.touch(mode=0o600)
        key.write_bytes(private)
        state = _state()
        state.parent.mkdir(parents=True, exist_ok=True)
        beside = state.with_suffix(f".{self.pid}")
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(state)

    @classmethod
    def find(cls) -> Running:
        """Find the demo that runs.

        Raises:
            LivecfgError: none does.

        """
        try:
            found = cls(**json.loads(_state().read_text()))
            os.kill(found.pid, 0)
        except (OSError, ValueError, TypeError) as error:
            raise LivecfgError("no demo is running: start one with `livecfg demo` in another terminal") from error
        return found

    def forget(self) -> None:
        """Remove the state file, if it is still this demo's."""
        try:
            mine = json.loads(_state().read_text()).get("pid") == self.pid
        except (OSError, ValueError):
            return
        if mine:
            _state().unlink(missing_ok=True)

    def change(self, key: str, value: str) -> Outcome:
        """Make a signed commit that sets one dotted key to a YAML scalar, and see what the workers do with it.

        It begins from what they serve, so that what they refused (a mistyped key, a wrong value) is gone with it.

        Raises:
            LivecfgError: the key or value cannot be written, or the workers do not answer.

        """
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise LivecfgError(f"{value!r} is not a YAML value") from error
        private = (Path(self.folder) / "key").read_bytes()
        repository = Repository(Path(self.folder) / "config.git", Key(private, self.public), self.repo_id)
        served = next(iter(ask_workers(self.port, lambda _: True, 15, 1).values()))["commit"]
        document = yaml.safe_load(repository.read(VALUES_PATH, served)) or {}
        _put(document, key, parsed)
        began = time.monotonic()
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
        commit = repository.publish(GitSource(self.url), {VALUES_PATH: text}, f"Set {key}")

        def settled(answer: dict[str, Any]) -> bool:
            return answer["commit"] == commit or any(r["commit"] == commit for r in answer["refusals"])

        answers = ask_workers(self.port, settled, 15)
        refusals = sorted({r["text"] for a in answers.values() for r in a["refusals"] if r["commit"] == commit})
        switched = [a for a in answers.values() if a["commit"] == commit]
        took_ms = (max(a["switched_at"] for a in switched) - began) * 1000 if len(switched) == WORKERS else 0.0
        return Outcome(commit, len(switched), took_ms, tuple(refusals), next(iter(answers.values()))["commit"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change: workers that `switched` to `commit` in `took_ms`, or the `refusals` and what is `served`."""

    commit: str
    switched: int
    took_ms: float
    refusals: tuple[str, ...]
    served: str


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for part in outer:
        below = document.setdefault(part, {})
        if not isinstance(below, dict):
            raise LivecfgError(f"{key}: {part} is a value, not a mapping")
        document = below
    document[last] = value


def _state() -> Path:
    return read_environment(os.environ).home / "demo.json"
