"""However a command ends, people get one line and an exit code, and scripts get the envelope."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from livecfg.cli.output import show_findings
from livecfg.refusal import Code, Refusal
from tests.cli.desk import PROD, ROOT, Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIVECFG = (sys.executable, "-m", "livecfg")
UNBORN = [
    ("get",),
    ("explain", "a"),
    ("diff",),
    ("log",),
    ("adopt", "HEAD"),
    ("verify",),
    ("keys", "list"),
    ("root", "export"),
    ("flags", "list"),
    ("set", "a", "1"),
    ("commit", "-m", "x"),
    ("keys", "revoke", "ana@acme"),
]


@pytest.fixture
def empty(tmp_path: Path) -> Desk:
    """A clone that nobody has committed to yet."""
    desk = Desk(tmp_path)
    desk.git("init", "-q", "-b", "main", str(desk.conf), at=tmp_path)
    desk.git("config", "user.signingkey", str(desk.key("ana")))
    return desk


@pytest.mark.parametrize("words", UNBORN, ids=" ".join)
def test_a_repository_without_a_commit_gets_a_clear_answer(empty: Desk, words: tuple[str, ...]) -> None:
    code = 1 if words[0] in {"commit", "set"} else 2
    assert "livecfg init" in empty.run(*words, code=code) + empty.talk
    assert "internal error" not in empty.talk


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("get", "nothing.here", "--service", "checkout", "--env", "x"), 1),
        (("explain", "LC999"), 2),
        (("log", "--rev", "no-such"), 2),
        (("diff", "HEAD..no-such"), 2),
        (("adopt", "no-such"), 2),
        (("commit", "-m", ""), 2),
        (("commit", "-m", "nothing"), 1),
        (("keys", "add", "x", "missing.pub"), 2),
        (("keys", "add", "x", "not a key"), 2),
        (("keys", "revoke", "nobody"), 1),
        (("flags", "eval", "nope", "--service", "checkout", "--env", "x"), 1),
        (("log", "--no-such-option"), 2),
        (("verify", "--trusted-root", "missing.yaml"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_every_failure_has_the_envelope_and_one_line(desk: Desk, words: tuple[str, ...], code: int) -> None:
    found = desk.json(*words, code=code)
    assert (found["ok"], found["data"], found["error"]["exit"]) == (False, None, code)
    assert words[0] == found["command"].split()[0]
    assert desk.talk.strip().split("\n")[-1].endswith(found["error"]["message"])


def test_a_module_that_fails_to_import_is_one_line(desk: Desk) -> None:
    (desk.path / "broken.py").write_text("1 / 0\n")
    desk.run("check", "--model", "broken:Model", code=2, PYTHONPATH=f"{ROOT}:{desk.path}")
    assert desk.talk == "livecfg: --model broken:Model: ZeroDivisionError: division by zero\n"


def test_the_lock_of_another_git_is_named(desk: Desk) -> None:
    lock = desk.conf / ".git/index.lock"
    lock.write_bytes(b"")
    desk.write(PROD, "a: 1\n")
    for words in (("commit", "-m", "x"), ("set", "b", "1", "--file", PROD), ("keys", "add", "bo@acme", f"{desk.key('bo')}.pub")):
        desk.run(*words, code=2)
        assert f"{lock} exists" in desk.talk


def test_what_nobody_expected_is_one_line_and_the_traceback_is_there_for_the_asking(desk: Desk) -> None:
    script = (
        "import click, sys, livecfg.cli as cli\n@click.command()\ndef bad():\n    raise ValueError('odd\\x1b[2J')\n"
        "cli._Verbs.get_command = lambda *_: bad\ncli.main()"
    )
    run = [sys.executable, "-c", script, "log"]
    done = subprocess.run(run, cwd=desk.conf, env=desk.environ, capture_output=True, text=True, check=False)
    line = "livecfg: internal error: ValueError: odd\\x1b[2J; LIVECFG_DEBUG=1 shows where\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    debug = desk.environ | {"LIVECFG_DEBUG": "1"}
    done = subprocess.run(run, cwd=desk.conf, env=debug, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("words", [("version",), ("version", "-o", "json"), ("explain", "LC999", "-o", "json"), ("--help",)])
@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_an_output_that_takes_nothing_is_one_line(desk: Desk, words: tuple[str, ...], where: str) -> None:
    command = ["sh", "-c", f'exec "$@" >{where}', "sh", *LIVECFG, *words]
    done = subprocess.run(command, cwd=desk.conf, env=desk.environ, stderr=subprocess.PIPE, text=True, check=False)
    says = "standard output is closed, so nothing was done" if where == "&-" else "cannot write: No space left on device"
    assert done.returncode == 2
    assert done.stderr.startswith("livecfg: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr or (where != "&-" and "LC999" in done.stderr)


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-", "2>/dev/full"])
def test_without_stdin_or_stderr_a_command_does_its_work(desk: Desk, closed: str) -> None:
    for words, code in ((("version",), 0), (("get", "--service", "zz"), 2)):
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *LIVECFG, *words]
        done = subprocess.run(command, cwd=desk.conf, env=desk.environ, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert ("livecfg" in done.stdout) is (code == 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("flags", "eval", "f", "--ctx", "user=1", "--ctx", "user.plan=x"), "--ctx user.plan: user has a value of its own"),
        (("flags", "eval", "f", "--ctx", "user.plan=x", "--ctx", "user=1"), "--ctx user: it holds plan already"),
        (("hub", "serve", "--source", "x", "--trusted-root", "y", "--listen", "7450"), "such as 127.0.0.1:7450, got '7450'"),
        (("hub", "serve", "--source", "x", "--trusted-root", "y", "--http", "::1:7"), "or [::1]:7443, got '::1:7'"),
        (("hub", "serve", "--source", "x", "--trusted-root", "y", "--listen", "a:99999"), "got 'a:99999'"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_happens(desk: Desk, words: tuple[str, ...], says: str) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One environment")
    desk.run(*words, code=2)
    assert says in desk.talk


@pytest.mark.parametrize(("line", "code"), [("", 0), ("old new", 2), ("a b c d", 2)])
def test_a_hook_is_given_lines_of_three_words(desk: Desk, line: str, code: int) -> None:
    words = [*LIVECFG, "verify", "--pre-receive"]
    done = subprocess.run(words, cwd=desk.conf, env=desk.environ, input=f"{line}\n", capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("OLD NEW REF" in done.stderr) is (code == 2)
    assert "internal error" not in done.stderr


def test_a_reader_that_goes_away_ends_the_command_in_silence(desk: Desk) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for words in (("log",), ("get", "--service", "checkout", "--env", "x"), ("--help",)):
        done = subprocess.run(
            [*LIVECFG, *words], cwd=desk.conf, env=desk.environ, stdout=writer, stderr=subprocess.PIPE, check=False
        )
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(writer)


def test_ctrl_c_while_a_passphrase_is_asked_for_changes_nothing(desk: Desk) -> None:
    locked = desk.key("locked", passphrase="secret")
    before = desk.state()
    words = ("set", "a", "1", "--service", "checkout", "--env", "x", "--key", str(locked))
    code, shown = _on_a_terminal(desk, words, b"\x03")
    assert (code, desk.state()) == (130, before)
    assert "interrupted" in shown


def test_a_passphrase_that_is_typed_in_unlocks_the_key(desk: Desk) -> None:
    locked = desk.key("locked", passphrase="secret")
    desk.run("keys", "add", "lo@acme", f"{locked}.pub")
    words = ("set", "a", "1", "--service", "checkout", "--env", "x", "--key", str(locked))
    code, shown = _on_a_terminal(desk, words, b"secret\n")
    assert code == 0, shown
    assert desk.json("log", "-n", "1")["data"][0]["signer"] == "lo@acme"


def test_no_input_never_asks_even_on_a_terminal(desk: Desk) -> None:
    locked = str(desk.key("locked", passphrase="secret"))
    words = ("set", "a", "1", "--service", "checkout", "--env", "x", "--key", locked)
    for form in (("--no-input", *words), (*words, "--no-input")):
        code, shown = _on_a_terminal(desk, form, b"")
        assert code == 2
        assert "ssh-add" in shown
        assert "Passphrase" not in shown


def test_the_answer_no_is_no_interrupt(desk: Desk) -> None:
    desk.run("set", "a", "1", "--service", "checkout", "--env", "x")
    before = desk.state()
    code, shown = _on_a_terminal(desk, ("rollback", "--reason", "x"), b"n\n", b"Go on?")
    assert (code, shown.splitlines()[-1]) == (1, "livecfg: nothing was changed")
    assert desk.state() == before


def _on_a_terminal(desk: Desk, words: tuple[str, ...], typed: bytes, question: bytes = b"Passphrase of") -> tuple[int, str]:
    """Run on a terminal of its own; type once the question is asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as above
        os.chdir(desk.conf)
        os.execve(sys.executable, [*LIVECFG, *words], desk.environ)  # noqa: S606 - a terminal of its own
    shown, asked = b"", False
    while True:
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # the other side is closed
            break
        if question in shown and shown.endswith(b": ") and not asked:  # what is typed before that is thrown away
            asked = True
            os.write(terminal, typed)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


# Ctrl-C at the moment when gRPC has a call and not yet the thread that ends it.
INTERRUPTED_BEFORE_THE_THREAD = """
import signal
from grpc._cython import cygrpc
from livecfg.cli import main

start = cygrpc.ForkManagedThread.start
def late(thread):
    signal.raise_signal(signal.SIGINT)
    start(thread)
cygrpc.ForkManagedThread.start = late
main()
"""


def test_ctrl_c_while_a_hub_does_not_answer_is_one_line(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub, _waiting(desk, hub, "-m", "livecfg") as run:
        with hub.accept()[0] as connection:
            connection.recv(1)  # it has connected and waits
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=30)
        assert (run.returncode, out, err.strip()) == (130, "", "interrupted")


def test_ctrl_c_at_any_moment_of_a_call_to_a_hub_is_one_line(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub, _waiting(desk, hub, "-c", INTERRUPTED_BEFORE_THE_THREAD) as run:
        out, err = run.communicate(timeout=30)
        assert (run.returncode, out, err.strip()) == (130, "", "interrupted")


@contextmanager
def _waiting(desk: Desk, hub: socket.socket, *program: str) -> Iterator[subprocess.Popen[str]]:
    """Run `fleet wait` against a hub that accepts and says nothing."""
    words = ("fleet", "wait", "--rev", "abcdef0", "--hub", f"127.0.0.1:{hub.getsockname()[1]}")
    restored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # background jobs of a shell ignore it
    with subprocess.Popen(
        [sys.executable, *program, *words],
        cwd=desk.conf,
        env=desk.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **restored,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


# --- names of revisions, branches, people ---------------------------------------------------------------------------------


def test_revisions_are_named_as_git_names_them(desk: Desk) -> None:
    desk.run("keys", "add", "bo@acme", f"{desk.key('bo')}.pub")
    desk.git("switch", "-q", "-c", "side", "HEAD~1")
    desk.git("commit", "-q", "--allow-empty", "-m", "side")
    desk.git("switch", "-q", "main")
    desk.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    desk.git("tag", "-a", "-m", "t", "v1")
    head = desk.head()
    for name in (
        "HEAD",
        "@",
        "main",
        "v1",
        head[:8],
        "HEAD~0",
        "HEAD^0",
        "HEAD~",
        "HEAD^",
        "HEAD^2",
        "HEAD^2^",
        "v1~1^1",
        "@~2",
        "side~1",
    ):
        wanted = desk.git("rev-parse", f"{name}^{{commit}}").strip()
        assert desk.json("log", "--rev", name, "-n", "1")["data"][0]["commit"] == wanted, name
    for name in ("HEAD~x", "HEAD^x", "HEAD~-1", "HEAD~99", "HEAD^3", "", "~1", "HEAD~9999999999"):
        desk.run("log", "--rev", name, code=2)


def test_a_detached_head_is_not_committed_to(desk: Desk) -> None:
    desk.git("checkout", "-q", "--detach")
    before = desk.state()
    desk.run("set", "a", "1", "--service", "checkout", "--env", "x", code=3)
    assert "HEAD is detached" in desk.talk
    desk.run("adopt", "HEAD", code=3)
    assert desk.state() == before


def test_a_person_the_policy_could_not_hold_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for person in ("ana acme", "Ana <ana@acme>", "*", "é@acme", "a,b", "-x", "a" * 129):
        desk.run("init", "conf", f"--person={person}", at=tmp_path, code=2)
        assert "--person" in desk.talk
        assert not (tmp_path / "conf/.livecfg").exists()


def test_an_init_that_was_stopped_goes_on(desk: Desk) -> None:
    before = (desk.conf / ".livecfg/policy.yaml").read_bytes()
    (desk.conf / ".git/refs/heads/main").unlink()
    (desk.path / "trusted_root.yaml").unlink()
    assert "first signed commit" in desk.run("init", "conf", "--person", "ana@acme", at=desk.path)
    assert (desk.conf / ".livecfg/policy.yaml").read_bytes() == before
    desk.run("verify")


def test_log_shows_as_many_as_asked_for(desk: Desk) -> None:
    assert desk.run("log", "-n", "0") == ""
    assert desk.json("log", "-n", "0")["data"] == []
    desk.run("log", "-n", "-1", code=2)


# --- what is shown --------------------------------------------------------------------------------------------------------


def test_diff_tells_a_removed_service_a_disabled_flag_and_an_added_null(desk: Desk) -> None:
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f": flag}}))
    desk.write(PROD, "a: 1\n")
    desk.write("config/cart/prod.yaml", "b: 1\n")
    desk.run("commit", "-m", "Two services")
    (desk.conf / "config/cart/prod.yaml").unlink()
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f": flag | {"state": "DISABLED"}}}))
    desk.write(PROD, "a: 1\nn: null\nt: true\n")
    rows = {(r["service"], r["key"]): (r["change"], r["old"], r["new"]) for r in desk.json("diff", code=1)["data"]}
    assert rows == {
        ("cart", "b"): ("removed", 1, None),
        ("checkout", "flag f.state"): ("changed", "ENABLED", "DISABLED"),
        ("checkout", "n"): ("added", None, None),
        ("checkout", "t"): ("added", None, True),
    }
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f": flag}}))
    desk.write("config/cart/prod.yaml", "b: 1\n")
    desk.write(PROD, "a: true\n")
    assert desk.run("diff", code=1) == "checkout/prod  a: 1 → true\n"


def test_no_control_character_of_a_flag_reaches_the_terminal(desk: Desk) -> None:
    flag = {"state": "ENABLED", "variants": {"on\x1b[2J": True}, "defaultVariant": "on\x1b[2J"}
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f\x1b[2J": flag}}))
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Odd names")
    shown = desk.run("flags", "list") + desk.run("flags", "eval", "f\x1b[2J") + desk.run("diff", "HEAD~1..HEAD", code=1)
    assert "\x1b" not in shown
    assert "f\\x1b[2J" in shown


def test_github_annotations_escape_what_github_would_read(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings([Refusal(Code.SYNTAX, "50%: a, b\r\n::set-output", path="a,b:c%.yaml", line=2, column=3)], "github")
    assert capsys.readouterr().out == "::error file=a%2Cb%3Ac%25.yaml,line=2,col=3,title=LC210::50%25: a, b\\r\\n::set-output\n"


def test_a_code_says_what_why_and_what_to_do(desk: Desk) -> None:
    shown = desk.run("explain", "lc310")
    assert shown.startswith("LC310  No rule lets")
    assert "\n  why " in shown
    assert "\n  what to do " in shown
    assert set(desk.json("explain", "LC310")["data"]) == {"code", "what", "why", "advice"}
