"""Fetching and packing against the git program, in one run: `python benchmarks/fetch.py [--files N,…] [--rounds N] [--json]`.

The server is `git http-backend` behind a small HTTP server in a process of its own, for both. Each round moves the
remote's branch on by one commit that changes one file; the systems take turns. Printed are medians in ms.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.figures import Figure, ratio, show  # noqa: E402
from livecfg.git.mirror import Mirror  # noqa: E402
from livecfg.git.source import GitSource  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}
SERVER = """
import sys
from pathlib import Path
from tests.simulator import GitHttpServer
with GitHttpServer(Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def git(*words: str, at: Path, data: bytes | None = None) -> bytes:
    return subprocess.run(["git", "-C", str(at), *words], input=data, env=ENV, check=True, capture_output=True).stdout


def make_remote(at: Path, files: int, commits: int) -> list[str]:
    """A bare repository with `files` files three levels deep and that many one-file commits on top; gives the commits."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(at)], env=ENV, check=True)
    names = [f"config/s{n // 50:04}/e{n % 50:02}.yaml" for n in range(files)]
    body = "".join(f"key_{k}: value {k}\n" for k in range(22))
    stream = [b"commit refs/heads/main\nmark :1\ncommitter a <a@b> 1767225600 +0000\ndata 1\nm\n"]
    for name in names:
        text = f"# {name}\n{body}".encode()
        stream.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text))
    for number in range(commits):
        text = f"# change {number}\n{body}".encode()
        name = names[(number * 7919) % files].encode()
        stamp = 1767225660 + number
        stream.append(b"commit refs/heads/main\ncommitter a <a@b> %d +0000\ndata 1\nm\n" % stamp)
        stream.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name, len(text), text))
    git("fast-import", "--quiet", at=at, data=b"".join(stream))
    git("gc", "-q", at=at)
    return git("rev-list", "--reverse", "main", at=at).decode().split()


class Clocked:
    """Times of one thing, in ms."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def time(self, do: Callable[[], object]) -> None:
        began = time.perf_counter()
        do()
        self.ms.append((time.perf_counter() - began) * 1000)

    @property
    def median(self) -> float:
        return statistics.median(self.ms)


def run(files: int, rounds: int) -> list[tuple[str, Clocked, Clocked]]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        commits = make_remote(base / "remote.git", files, 3 * rounds + 10)
        words = [sys.executable, "-c", SERVER, str(base)]
        with (
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as server,
            server.stdin or nullcontext(),  # closing it ends the server
        ):
            url = f"http://127.0.0.1:{int((server.stdout or sys.stdin).readline())}/remote.git"
            return measure(base, url, commits, rounds)


def measure(base: Path, url: str, commits: list[str], rounds: int) -> list[tuple[str, Clocked, Clocked]]:
    remote, clone = base / "remote.git", base / "clone.git"
    git("update-ref", "refs/heads/main", commits[0], at=remote)
    rows: dict[str, tuple[Clocked, Clocked]] = {}

    def row(name: str) -> tuple[Clocked, Clocked]:
        return rows.setdefault(name, (Clocked(), Clocked()))

    ours, theirs = row("first mirror")
    for number in range(3):
        with Mirror(base / f"first{number}", GitSource(url)) as first:
            ours.time(lambda first=first: (first.fetch(None), first.promote()))
        theirs.time(lambda number=number: git("clone", "-q", "--bare", url, str(base / f"first{number}.git"), at=base))
    git("clone", "-q", "--bare", url, str(clone), at=base)
    with Mirror(base / "home", GitSource(url)) as mirror, Mirror(base / "client", GitSource(str(remote))) as client:
        mirror.fetch(None)
        mirror.promote()
        client.fetch(None)
        client.promote()
        for number in range(rounds):
            one_round(mirror, client, remote, clone, commits[3 * number : 3 * number + 4], row)
    return [(name, a, b) for name, (a, b) in rows.items()]


def one_round(
    mirror: Mirror, client: Mirror, remote: Path, clone: Path, commits: list[str], row: Callable[[str], tuple[Clocked, Clocked]]
) -> None:
    old, new = commits[0], commits[1]
    git("update-ref", "refs/heads/main", new, at=remote)
    ours, theirs = row("fetch one commit over HTTP")
    steps: list[Callable[[], None]] = [
        lambda: ours.time(lambda: mirror.fetch(old)),
        lambda: theirs.time(lambda: git("fetch", "-q", "--no-tags", "origin", "refs/heads/main:refs/heads/main", at=clone)),
    ]
    random.shuffle(steps)
    for step in steps:
        step()
    if mirror.tip() != new:
        raise SystemExit("the fetch did not bring the new commit")
    row("write it (objects, ref; fsync)")[0].time(mirror.promote)
    ours, theirs = row("poll that finds nothing")
    ours.time(lambda: mirror.fetch(new))
    theirs.time(lambda: git("ls-remote", "-q", "origin", "refs/heads/main", at=clone))
    ours, theirs = row("build a thin pack")
    packs: list[bytes] = []
    ours.time(lambda: packs.append(mirror.build_pack(old, new)))
    theirs.time(lambda: git("pack-objects", "-q", "--thin", "--stdout", "--revs", at=clone, data=f"{new}\n^{old}\n".encode()))
    ours, theirs = row("take a thin pack (in memory; git: on disk)")
    ours.time(lambda: client.accept_pack(packs[0], new))
    client.fetch(new)
    client.promote()
    theirs.time(lambda: git("index-pack", "--fix-thin", "--stdin", at=clone, data=packs[0]))
    mirror.fetch(new)
    for later in commits[2:4]:  # so that the next round starts three commits on
        git("update-ref", "refs/heads/main", later, at=remote)
    mirror.fetch(None)
    mirror.promote()
    client.fetch(None)
    client.promote()
    git("fetch", "-q", "--no-tags", "origin", "refs/heads/main:refs/heads/main", at=clone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", default="100,10000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for files in map(int, options.files.split(",")):
        rows = run(files, options.rounds)
        show(f"fetch, {files} files", [figure(name, files, ours, theirs) for name, ours, theirs in rows])


def figure(name: str, files: int, ours: Clocked, theirs: Clocked) -> Figure:
    title = f"{name}, {files} files (min {min(ours.ms):.2f})"
    if not theirs.ms:
        return Figure(title, ours.median, "ms")
    return Figure(
        title, ours.median, "ms", f"git {theirs.median:.2f} (min {min(theirs.ms):.2f})", ratio(ours.median, theirs.median)
    )


if __name__ == "__main__":
    main()
