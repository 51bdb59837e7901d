"""Run as a program by desk.py: the command imported once, then a fork for each time it is run.

A job is a JSON line on standard input; the answer is the exit code, negative for a signal. What the command says goes to files.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

from livecfg.cli import VERBS, main
from livecfg.warm import warm


def become(job: dict[str, Any]) -> None:
    """Make this process the one that a shell would have started."""
    os.environ.clear()
    os.environ.update(job["environ"])
    os.chdir(job["cwd"])
    for number, path in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["livecfg", *job["words"]]
    signal.alarm(job["seconds"])


def serve() -> None:
    """Take jobs until there are none; in a child, return."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            become(json.loads(line))
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    warm()
    for verbs in VERBS.values():
        for place, _ in verbs.values():
            import_module(f"livecfg.cli.{place.partition(':')[0]}")
    gc.freeze()  # a child that ends would copy all of it, to look through it once more
    serve()
    main()
