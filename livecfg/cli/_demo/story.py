"""The story: what livecfg promises, done before your eyes. Each line with `ok` was checked; a check that fails ends the story.

Nothing is timed by sleeping: each step waits for what it announces, up to a deadline, and the figures are measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, Self

from livecfg.cli._demo.repository import FLAGS_PATH, SPLIT_PATH, VALUES_PATH, split, values
from livecfg.cli._demo.site import WORKERS, Site
from livecfg.errors import LivecfgError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.cli._demo.site import Answer
    from livecfg.cli._demo.terminal import Terminal

USERS = 2000
_CANARY = b"""\
flags:
  cart-backend:
    state: ENABLED
    variants: {stable: stable, canary: canary}
    defaultVariant: canary
"""


class StoryError(LivecfgError):
    """A step of the story does not hold."""


def expect(holds: object, what: str) -> None:
    """Go on only when it holds.

    Raises:
        StoryError: it does not.

    """
    if not holds:
        raise StoryError(what)


class Traffic:
    """Requests without a pause, from one thread, for as long as the block lasts; counts answers and failures."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-traffic", daemon=True)
        self.served = 0
        self.failed = 0

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            if self._site.ask() is None:
                self.failed += 1
            else:
                self.served += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(5)


def tell(site: Site, out: Terminal) -> None:
    """Tell the whole story.

    Raises:
        LivecfgError: a step does not hold.

    """
    out.chapter("A signed repository, a Git server, a hub, four workers")
    _beginning(site, out)
    with Traffic(site) as traffic:
        out.chapter("A signed change reaches all workers")
        _signed_change(site, out)
        out.chapter("An unsigned commit is refused; everything keeps serving")
        _unsigned(site, out)
        out.chapter("A type error is refused, signed or not; the next good commit heals")
        _type_error(site, out)
        out.chapter("A split moves from 10 to 50 percent")
        _split_moves(site, out)
        expect(traffic.failed == 0, f"{traffic.failed} of {traffic.failed + traffic.served} requests failed meanwhile")
        out.held(f"{traffic.served} requests were answered since chapter 2, none failed")
    out.chapter("Git server and hub are gone, a worker is killed: another starts from the mirror")
    _offline(site, out)
    out.chapter("Somebody tampers with the mirror on disk")
    _tampering(site, out)
    out.chapter("The fleet, as the hub sees it")
    _fleet(site, out)


def _beginning(site: Site, out: Terminal) -> None:
    first = site.repository.tip()
    out.did(f"made an Ed25519 key and {first[:10]}, the first signed commit, in {site.folder}")
    out.did(f"Git server on port {site.git_port} ({site.git.program}), hub on {site.hub_port}, gunicorn --preload on {site.port}")
    answers = site.workers(lambda a: a["commit"] == first and a["condition"] == "READY")
    expect({a["payment_timeout_s"] for a in answers.values()} == {2.0}, "the workers do not serve the first values")
    out.held(f"{len(answers)} workers serve {first[:10]}: payment_timeout_s = 2.0")
    _until(lambda: (site.ask() or {}).get("hub") == "streaming", 15, "no process of the host follows the hub")
    fetchers = [pid for pid, a in answers.items() if a["fetcher"]]
    out.note(
        f"one process of the host asks Git and the hub ({fetchers[0] if fetchers else 'the master'}); all verify for themselves"
    )


def _signed_change(site: Site, out: Terminal) -> None:
    took = []
    for timeout_s in (1.5, 1.0, 2.5):
        began = time.monotonic()
        commit = site.repository.publish(site.source, {VALUES_PATH: values(payment_timeout_s=timeout_s)}, f"Wait {timeout_s} s")
        pushed = time.monotonic()
        answers = site.workers(lambda a, commit=commit: a["commit"] == commit)  # type: ignore[misc]
        expect({a["payment_timeout_s"] for a in answers.values()} == {timeout_s}, f"the workers do not serve {timeout_s}")
        took.append(((pushed - began) * 1000, (max(a["switched_at"] for a in answers.values()) - began) * 1000))
    out.did("pushed three signed commits, one after the other")
    for number, (push_ms, all_ms) in enumerate(took, 1):
        out.held(
            f"commit {number}: all {WORKERS} workers {all_ms:.0f} ms after the push began (the push itself: {push_ms:.0f} ms)"
        )


def _refused(site: Site, out: Terminal, bad: str, good: str, code: str) -> None:
    """All workers refuse `bad` with `code` and go on with `good`."""

    def refuses(answer: Answer) -> bool:
        return any(r["code"] == code and r["commit"] == bad for r in answer["refusals"])

    answers = site.workers(refuses)
    expect({a["commit"] for a in answers.values()} == {good}, "a worker left the last good commit")
    expect({a["condition"] for a in answers.values()} == {"REFUSED"}, "a worker does not say REFUSED")
    out.held(f"all {WORKERS} workers say REFUSED and go on with {good[:10]}; why:")
    told = next(r for a in answers.values() for r in a["refusals"] if r["code"] == code and r["commit"] == bad)
    out.note(told["text"])


def _good(site: Site, out: Terminal, commit: str) -> None:
    site.workers(lambda a: a["commit"] == commit and a["condition"] == "READY")
    out.held(f"all {WORKERS} workers are READY on {commit[:10]}")


def _unsigned(site: Site, out: Terminal) -> None:
    good, before = site.repository.tip(), site.repository.read(FLAGS_PATH)
    bad = site.repository.publish_unsigned(site.source, {FLAGS_PATH: _CANARY}, "Send everybody to the canary")
    out.did(f"pushed {bad[:10]}, which nobody signed, straight to the branch")
    _refused(site, out, bad, good, "LC301")
    expect({a["backend"] for a in site.workers(lambda _: True).values()} == {"stable"}, "somebody serves the unsigned flag")
    healed = site.repository.publish(site.source, {FLAGS_PATH: before}, f"Take {bad[:10]} back")
    out.did(f"took it back with a signed commit, {healed[:10]}; no force push")
    _good(site, out, healed)


def _type_error(site: Site, out: Terminal) -> None:
    good = site.repository.tip()
    bad = site.repository.publish(site.source, {VALUES_PATH: values(payment_timeout_s="fast")}, "Make it fast")
    out.did(f"pushed {bad[:10]}, signed, with payment_timeout_s: fast")
    _refused(site, out, bad, good, "LC202")
    expect({a["payment_timeout_s"] for a in site.workers(lambda _: True).values()} == {2.5}, "somebody serves another value")
    healed = site.repository.publish(site.source, {VALUES_PATH: values(payment_timeout_s=0.5)}, "Make it half a second")
    out.did(f"pushed {healed[:10]}, signed, with payment_timeout_s: 0.5")
    _good(site, out, healed)


def _split_moves(site: Site, out: Terminal) -> None:
    before = _members(site, site.repository.tip())
    out.held(f"weight 10: {len(before)} of {USERS} users get arm v9 ({len(before) / USERS:.1%})")
    expect(abs(len(before) / USERS - 0.10) < 0.03, f"{len(before)} of {USERS} is not about 10 percent")
    commit = site.repository.publish(site.source, {SPLIT_PATH: split(50)}, "Half of all users get v9")
    site.workers(lambda a: a["commit"] == commit)
    after = _members(site, commit)
    out.held(f"weight 50: {len(after)} of {USERS} users get arm v9 ({len(after) / USERS:.1%})")
    expect(abs(len(after) / USERS - 0.50) < 0.04, f"{len(after)} of {USERS} is not about 50 percent")
    expect(before <= after, f"{len(before - after)} users lost arm v9 when it grew")
    out.held(f"all {len(before)} users of before kept v9: growing an arm moves nobody out")


def _members(site: Site, commit: str) -> set[int]:
    """The users in arm v9; every worker must say the same."""
    found: dict[int, tuple[int, ...]] = {}
    deadline = time.monotonic() + 15
    while len(found) < WORKERS and time.monotonic() < deadline:
        answer = site.ask(f"/arms?n={USERS}")
        if answer is not None and answer["commit"] == commit:
            found[answer["pid"]] = tuple(answer["v9"])
    expect(len(found) >= 2, "the workers do not answer for the split")
    expect(len(set(found.values())) == 1, "two workers give the same user different arms")
    return set(next(iter(found.values())))


def _offline(site: Site, out: Terminal) -> None:
    good = site.repository.tip()
    before = site.workers(lambda a: a["commit"] == good)
    site.stop_git()
    site.stop_hub()
    out.did("stopped the Git server and the hub")
    victim = next((pid for pid, a in before.items() if a["fetcher"]), next(iter(before)))
    os.kill(victim, signal.SIGKILL)
    out.did(f"kill -9 {victim}{', the one that fetches for the host' if before[victim]['fetcher'] else ''}")
    answers = site.workers(lambda a: a["commit"] == good and a["pid"] != victim)
    new = sorted(answers.keys() - before.keys())
    expect(new, "no new worker took its place")
    expect({a["payment_timeout_s"] for a in answers.values()} == {0.5}, "somebody serves another value")
    out.held(f"worker {new[0]} took its place and serves {good[:10]} from the mirror, with nobody to ask; so do the other three")
    commit = _again(site, out)
    _good(site, out, commit)


def _again(site: Site, out: Terminal) -> str:
    site.start_git()
    site.start_hub()
    commit = site.repository.publish(site.source, {VALUES_PATH: values(payment_timeout_s=0.75)}, "Back again")
    out.did(f"started both again and pushed {commit[:10]}")
    return commit


def _tampering(site: Site, out: Terminal) -> None:
    good = site.repository.tip()
    before = site.workers(lambda a: a["commit"] == good)
    mirror = next(site.home.rglob("mirror.git"))
    spoilt = _spoil(mirror)
    out.did(f"overwrote {spoilt} object files of the mirror with other bytes")
    expect(wrong_objects(mirror), "the mirror was not damaged")
    victim = next(pid for pid, a in before.items() if not a["fetcher"])
    os.kill(victim, signal.SIGKILL)
    out.did(f"kill -9 {victim}: its successor has to read that mirror")
    answers = site.workers(lambda a: a["commit"] == good and a["pid"] != victim, 20)
    out.held(f"worker {min(answers.keys() - before.keys())} re-hashed what it read, and serves {good[:10]} none the less")
    _until(lambda: not wrong_objects(next(site.home.rglob("mirror.git"))), 15, "the mirror still holds wrong bytes")
    out.held("the mirror was fetched anew: every object in it hashes to its name again")
    commit = site.repository.publish(site.source, {VALUES_PATH: values(payment_timeout_s=3.0)}, "After the tampering")
    _good(site, out, commit)


def _spoil(mirror: Path) -> int:
    spoilt = [p for p in (mirror / "objects").rglob("*") if p.is_file() and p.suffix in {"", ".pack"} and p.parent.name != "info"]
    for path in spoilt:
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))
    return len(spoilt)


def wrong_objects(mirror: Path) -> list[str]:
    """Give the loose objects and packs whose bytes are not what their name or trailer says: what `git fsck` would find first."""
    wrong = []
    for path in (mirror / "objects").rglob("*"):
        try:
            if path.suffix == ".pack":
                data = path.read_bytes()
                good = hashlib.sha1(data[:-20]).digest() == data[-20:]  # noqa: S324 - Git's format
            elif len(path.parent.name) == 2 and path.is_file() and len(path.name) == 38:
                good = hashlib.sha1(zlib.decompress(path.read_bytes())).hexdigest() == path.parent.name + path.name  # noqa: S324 - as above
            else:
                continue
        except FileNotFoundError:  # the mirror is being replaced
            return ["gone"]
        except zlib.error:
            good = False
        if not good:
            wrong.append(path.name)
    return wrong


def _until(holds: Callable[[], Any], timeout_s: float, what: str) -> None:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not holds():
        expect(time.monotonic() < deadline, f"{what} after {timeout_s:g} s")
        pause.wait(0.05)


def _fleet(site: Site, out: Terminal) -> None:
    tip = site.repository.tip()
    pids = site.workers(lambda a: a["commit"] == tip).keys()

    def reported() -> dict[str, Any]:
        processes = json.loads(site.fleet("json"))["data"]["processes"]
        return {p["pid"]: p for p in processes if p["pid"] in pids and p["applied"] == tip}

    _until(lambda: len(reported()) == WORKERS, 20, "the hub does not know what the workers serve")
    out.held(f"the hub knows of {WORKERS} workers on {tip[:10]}; `livecfg fleet status` says:")
    out.note(site.fleet("text").rstrip())
