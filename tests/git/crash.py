"""Run as a program by test_crashes.py: forks children that fetch, kills them at chosen moments, and looks what is left.

`crash.py <home> <remote> <rounds> <seed>` kills at random moments; `crash.py <home> <remote> points` at every call that changes
a file while fetching, rebuilding and packing. Each round moves the remote's branch on by one commit
of those listed on standard input.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from livecfg.git import maintain
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource

CHANGES = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime"})


def fetch(home: Path, remote: str, position: int, what: str) -> str:
    with Mirror(home, GitSource(remote)) as mirror:
        if what == "rebuild":
            mirror.rebuild()
        if what == "repack":
            maintain.repack(mirror.folder / "mirror.git", grace_s=-1)
        mirror.fetch(None)
        mirror.save_state("svc-prod", str(position).encode(), position)
        return mirror.tip()


def child(home: Path, remote: str, position: int, point: int, what: str) -> None:
    """Fetch in a process of its own; with a point, die at that change of a file."""
    count = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in CHANGES and str(home) in str(arguments[0]):
            writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
            count += bool(writes)
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

    if point:
        sys.addaudithook(audit)
    try:
        fetch(home, remote, position, what)
    except BaseException as error:  # noqa: BLE001 - reported by the exit code and the text
        sys.stderr.write(f"child: {error!r}\n")
        os._exit(1)
    os._exit(0)


def run(home: Path, remote: str, position: int, *, point: int = 0, delay_s: float = -1.0, what: str = "") -> int:
    """Fork a child; give its exit code or the negative signal."""
    pid = os.fork()
    if not pid:
        child(home, remote, position, point, what)
    if delay_s >= 0:
        time.sleep(delay_s)  # the moment of death, not a synchronisation
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def git(*words: str, at: Path | str) -> str:
    done = subprocess.run(["git", "-C", str(at), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def check(home: Path, remote: str, commit: str, position: int) -> None:
    """The repository is valid, and the next start fetches and remembers without help."""
    folder = home / GitSource(remote).folder
    if (folder / "mirror.git" / "config").exists():
        git("fsck", "--strict", "--full", "--no-dangling", at=folder / "mirror.git")
    code = run(home, remote, position)
    assert code == 0, f"the start after the crash failed with {code}"
    assert git("rev-parse", "refs/livecfg/tip", at=folder / "mirror.git") == commit
    with Mirror(home, GitSource(remote)) as mirror:
        assert mirror.load_state("svc-prod") == str(position).encode()
    left = [p for pattern in ("**/*.lock", "**/tmp_*", "incoming-*", "outgoing-*") for p in folder.glob(pattern)]
    assert not left, left


def main() -> None:
    home, remote = Path(sys.argv[1]), sys.argv[2]
    commits = sys.stdin.read().split()
    if sys.argv[3] == "points":
        kills = at_every_point(home, remote, commits)
    else:
        kills = at_random(home, remote, commits[: int(sys.argv[3])], random.Random(int(sys.argv[4])))
    sys.stdout.write(f"killed {kills}\n")


def at_every_point(home: Path, remote: str, commits: list[str]) -> int:
    kills = 0
    for what in ("", "rebuild", "repack"):
        point = 0
        while True:
            point += 1
            commit = commits[kills % len(commits)]
            git("update-ref", "refs/heads/main", commit, at=remote)
            code = run(home, remote, kills, point=point, what=what)
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            kills += 1
            check(home, remote, commit, kills)
    return kills


def at_random(home: Path, remote: str, commits: list[str], rng: random.Random) -> int:
    kills = 0
    longest = 0.03
    for position, commit in enumerate(commits):
        git("update-ref", "refs/heads/main", commit, at=remote)
        kills += run(home, remote, position, delay_s=rng.uniform(0, longest)) == -signal.SIGKILL
        check(home, remote, commit, position + 1)
    return kills


if __name__ == "__main__":
    main()
