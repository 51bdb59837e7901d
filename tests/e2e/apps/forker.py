"""A multiprocessing child, made as the first argument says, and a child of that child, after the parent has read."""

from __future__ import annotations

import multiprocessing
import sys
import threading

from tests.e2e.apps.settings import live, tell

METHOD = sys.argv[1]  # fork, spawn, forkserver


def follow(name: str) -> None:
    pause = threading.Event()
    while True:
        tell(name)
        pause.wait(0.05)


def child() -> None:
    tell("fork-child-0.json")
    grandchild = multiprocessing.get_context(METHOD).Process(target=follow, args=("fork-grandchild.json",), daemon=True)
    grandchild.start()
    follow("fork-child.json")


if __name__ == "__main__":
    live.start()
    process = multiprocessing.get_context(METHOD).Process(target=child)
    process.start()
    follow("fork-parent.json")
