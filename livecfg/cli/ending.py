"""ending(): whatever ends a command early → one line on stderr (and the JSON envelope, when asked for), and the exit code.

Nobody sees a traceback, unless they set LIVECFG_DEBUG=1.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from livecfg.cli.output import CommandError, Exit, envelope, show_findings, talk
from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livecfg.cli.output import Asked
    from livecfg.refusal import Refusal

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell says of any program whose reader went away


def ending(error: BaseException, asked: Asked) -> int:
    """Tell the person what ended the command; give the exit code."""
    if isinstance(error, BrokenPipeError) or type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):  # click met it
        _write_nowhere(1)
        return _CLOSED_PIPE
    try:
        code = _told(error, asked)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # a full disk takes no more words about it
        _write_nowhere(1, 2)
        code = Exit.USAGE
    return code


def _write_nowhere(*descriptors: int) -> None:
    """Nothing more can be written there, and Python flushes once more at exit."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _told(error: BaseException, asked: Asked) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.USAGE
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        talk("interrupted")
        return Exit.INTERRUPTED
    if os.environ.get("LIVECFG_DEBUG"):
        traceback.print_exception(error)
    return _usage(error, asked) if isinstance(error, click.ClickException) else _failure(error, asked)


def _failure(error: BaseException, asked: Asked) -> int:
    if isinstance(error, RefusedError):
        show_findings(error.refusals if asked.output != "json" else (), err=True)
        return _tell(asked, "", Exit.FINDINGS, error.refusals if asked.output == "json" else ())
    if isinstance(error, CommandError):
        return _tell(asked, str(error), error.code, error.findings)
    return _tell(asked, _text(error), Exit.UNREACHABLE if isinstance(error, FetchError) else Exit.USAGE)


def _text(error: BaseException) -> str:
    """One line for an error that carries no advice of its own."""
    if isinstance(error, LivecfgError):
        return str(error)
    if type(error).__name__ == "FileLocked":  # dulwich's; not imported here, since most verbs never need it
        lock = os.fsdecode(error.args[1])
        return f"another git process is at work here: {lock} exists; wait for it, or remove the file if it was left behind"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"cannot write: {error.strerror}"
    return f"internal error: {type(error).__name__}: {error}; LIVECFG_DEBUG=1 shows where"


def _usage(error: click.ClickException, asked: Asked) -> int:
    if isinstance(error, click.UsageError) and error.ctx is not None and not asked.command:
        asked.command = error.ctx.command_path.partition(" ")[2]
    if asked.output == "json" or _wants_json(sys.argv):
        _envelope(asked, error.format_message(), Exit.USAGE, ())
    error.show(sys.stderr)
    return Exit.USAGE


def _wants_json(words: list[str]) -> bool:
    """Whether words that click could not parse ask for JSON."""
    return any(w in {"-ojson", "--output=json"} for w in words) or ("json" in words and bool({"-o", "--output"} & {*words}))


def _tell(asked: Asked, text: str, code: Exit, findings: Iterable[Refusal] = ()) -> int:
    rows = list(findings)
    if asked.output != "json":
        show_findings(rows, asked.output)
    if text:
        talk("\n".join(map(printable, f"livecfg: {text}".split("\n"))))
    if asked.output == "json":
        _envelope(asked, text, code, rows)
    return code


def _envelope(asked: Asked, text: str, code: Exit, findings: Iterable[Refusal]) -> None:
    rows = list(findings)
    error = {"exit": int(code), "message": printable(text or "; ".join(r.message for r in rows))}
    envelope(asked.command, None, ok=False, findings=rows, error=error)
