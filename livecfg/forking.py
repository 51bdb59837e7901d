"""at_fork(): what a forked child does first, under every server that forks; uWSGI does not tell Python of its forks by itself.

A hook only marks and closes, and may run twice: uvloop runs hooks for every subprocess, uWSGI perhaps beside Python.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_hooks: list[Callable[[], None]] = []
_joined: set[int] = set()


def at_fork(hook: Callable[[], None]) -> None:
    """Have `hook` called in every forked child, first thing."""
    _hooks.append(hook)
    os.register_at_fork(after_in_child=hook)


def join_uwsgi() -> None:
    """In a uWSGI process, have the hooks called after its forks; elsewhere nothing happens. Call it before threads start."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or id(uwsgi) in _joined:
        return
    _joined.add(id(uwsgi))
    try:
        chain: Any = import_module("uwsgidecorators").postfork_chain  # so that nobody who uses it later replaces our hook
        chain.append(_run)
    except Exception as error:  # noqa: BLE001 - not installed, or it finds no master process, in words of its own
        log.debug("no uwsgidecorators (%s)", type(error).__name__)
        uwsgi.post_fork_hook = _run


def is_uwsgi_master() -> bool:
    """Whether this process only forks the workers of uWSGI: it serves nobody, and a thread in it would break its children.

    uWSGI forks around Python: a child of a process with threads inherits an interpreter lock in whatever state it was.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    return uwsgi is not None and bool(uwsgi.masterpid() == os.getpid())


def _run() -> None:
    for hook in _hooks:
        hook()
