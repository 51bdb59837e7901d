"""Run as a program by test_sharing.py: a process of its own that opens a mirror and does what it is told, line by line.

`elect`, `fetch`, `tip`, `read <id>`, `race <n>`, `fork <command>`, `quiet-child`, `storm <id>`; each answers with one line.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource

if TYPE_CHECKING:
    from collections.abc import Callable


def answer(mirror: Mirror, words: list[str]) -> str:  # noqa: PLR0911 - one per command
    match words:
        case ["elect"]:
            return str(mirror.elect())
        case ["fetch"]:
            found = mirror.fetch(None)
            mirror.promote()
            return found.tip if found is not None else "none"
        case ["tip"]:
            found = mirror.candidate(None)
            return found.tip if found is not None else "none"
        case ["read", name]:
            return str(len(mirror.objects.read(name, "commit")))
        case ["race", until]:
            return race(mirror, until)
        case ["fork", *rest]:
            return forked(mirror, rest)
        case ["quiet-child"]:
            return quiet_child()
        case ["storm", name]:
            return storm(mirror, name)
    return "?"


def race(mirror: Mirror, until: str) -> str:
    rounds = 0
    deadline = time.monotonic() + 30
    while mirror.tip() != until:
        rounds += 1
        if time.monotonic() > deadline:
            return f"too late at {mirror.tip()}"
        try:
            mirror.fetch(None)
            mirror.promote()
        except LivecfgError as error:
            if "brought nothing yet" not in str(error):
                return repr(error)
    return f"ok {rounds}"


def forked(mirror: Mirror, words: list[str]) -> str:
    """What a forked child answers."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            text = answer(mirror, words)
        except BaseException as error:  # noqa: BLE001 - it is the answer
            text = repr(error)
        os.write(into, text.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def storm(mirror: Mirror, name: str) -> str:
    """Fork 40 children while threads fetch and read without a pause; gives what went wrong in them."""
    stop = threading.Event()

    def busy(step: Callable[[], object]) -> None:
        while not stop.is_set():
            step()

    def read() -> None:
        mirror.objects.forget()
        mirror._store.close()
        mirror.objects.read(name, "commit")

    threads = [threading.Thread(target=busy, args=(step,)) for step in (lambda: mirror.fetch(None), read)]
    for thread in threads:
        thread.start()
    wrong = []
    for _ in range(40):
        pid = os.fork()
        if not pid:
            faulthandler.register(signal.SIGALRM, chain=True)  # a child that hangs says where
            signal.alarm(10)
            try:
                mirror.abandon()
                right = len(mirror.objects.read(name, "commit")) > 0 and not mirror.elect() and mirror.candidate(None) is not None
            except BaseException:  # noqa: BLE001 - the exit code says it
                right = False
            os._exit(0 if right else 1)
        _, status = os.waitpid(pid, 0)
        if status:
            wrong.append(os.waitstatus_to_exitcode(status))
    stop.set()
    for thread in threads:
        thread.join()
    return f"wrong {wrong} parent {mirror.elect()}"


def quiet_child() -> str:
    """Leave a child behind that never touches livecfg; gives its pid once the child runs."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(into, b"x")
        for descriptor in (0, 1, 2, out, into):
            os.close(descriptor)
        time.sleep(60)
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        pipe.read(1)
    return str(pid)


def main() -> None:
    mirror = Mirror(Path(sys.argv[1]), GitSource(sys.argv[2])).open()
    for line in sys.stdin:
        try:
            text = answer(mirror, line.split())
        except LivecfgError as error:
            text = repr(error)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    mirror.close()


if __name__ == "__main__":
    main()
