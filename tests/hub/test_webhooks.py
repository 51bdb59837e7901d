"""Hooks of Git hosts at a running hub: proven, bounded, and only a hint; and what a fleet asks of the Git host: nothing."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from livecfg import follower
from livecfg.hub import connections
from livecfg.hub.connections import MOST
from livecfg.hub.link import HubLink
from livecfg.hub.web import serve
from tests.hub.test_hub import BASE, Hub, live_config, set_timeout, wait_until
from tests.simulator import ConfigRepo, GitHttpServer, closed_port
from tests.simulator.repo import REPO_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

SECRET = "shared with the Git host"
BODY = json.dumps({"ref": "refs/heads/main", "after": "0" * 40}).encode()
Headers = dict[str, str]


class HookedHub(Hub):
    """A hub that would not ask its remote for ten minutes by itself."""

    def __init__(self, repo: ConfigRepo, folder: Path, source: str) -> None:
        self.http_port = closed_port()
        folder.mkdir()
        (folder / "secret").write_text(f"{SECRET}\n")
        self.more = ["--source", source, "--poll-interval", "600", "--http", f"127.0.0.1:{self.http_port}"]
        self.more += ["--webhook-secret", str(folder / "secret")]
        super().__init__(repo, folder)
        wait_until(lambda: self.get("/readyz") == 200)

    def get(self, path: str) -> int:
        return self.ask("GET", path)[0]

    def ask(self, method: str, path: str, body: bytes = b"", headers: Headers | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=15)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        _, text = self.ask("GET", "/metrics")
        found = [line.rpartition(b" ")[2] for line in text.splitlines() if line.startswith(f"livecfg_hub_{name} ".encode())]
        return float(found[0])


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"})
    return repo


@pytest.fixture
def server(repo: ConfigRepo) -> Iterator[GitHttpServer]:
    with GitHttpServer(repo.path) as server:
        yield server


@pytest.fixture
def hub(repo: ConfigRepo, server: GitHttpServer, tmp_path: Path) -> Iterator[HookedHub]:
    hub = HookedHub(repo, tmp_path / "hub", server.url(repo.remote_path))
    yield hub
    hub.stop()


def digest(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def generic(body: bytes, secret: str = SECRET, off_s: float = 0.0) -> Headers:
    stamp = str(int(time.time() + off_s))
    return {"X-Livecfg-Timestamp": stamp, "X-Livecfg-Signature": f"sha256={digest(stamp.encode() + b'.' + body, secret)}"}


SIGNED: dict[str, Callable[[bytes, str], Headers]] = {
    "github": lambda body, secret: {"X-Hub-Signature-256": f"sha256={digest(body, secret)}", "X-GitHub-Event": "push"},
    "gitlab": lambda _, secret: {"X-Gitlab-Token": secret, "X-Gitlab-Event": "Push Hook"},
    "gitea": lambda body, secret: {"X-Gitea-Signature": digest(body, secret), "X-Gitea-Event": "push"},
    "bitbucket": lambda body, secret: {"X-Hub-Signature": f"sha256={digest(body, secret)}", "X-Event-Key": "repo:push"},
    "generic": generic,
}


def test_after_a_push_the_hook_of_every_git_host_brings_it_to_the_application_at_once(
    repo: ConfigRepo, server: GitHttpServer, hub: HookedHub, tmp_path: Path
) -> None:
    with live_config(repo, server.url(repo.remote_path), tmp_path / "a", hub.address) as live:
        wait_until(lambda: live.status.hub == "streaming")
        for number, (kind, headers) in enumerate(SIGNED.items(), 2):
            commit = set_timeout(repo, number)
            status, _ = hub.ask("POST", f"/hooks/{kind}", BODY, headers(BODY, SECRET))
            assert status == 202, kind
            assert live.wait_for(commit, 20).config.timeout_ms == number, kind
    assert hub.metric("hooks_total") == len(SIGNED)
    assert hub.metric("hooks_refused_total") == 0


def test_a_hook_that_is_not_proven_changes_nothing(repo: ConfigRepo, server: GitHttpServer, hub: HookedHub) -> None:
    set_timeout(repo, 2)
    before = len(server.requests)
    wrong = 0
    for kind, headers in SIGNED.items():
        right = headers(BODY, SECRET)
        forged = [headers(BODY, "guessed"), {}, dict.fromkeys(right, ""), dict.fromkeys(right, "sha256=é")]
        if kind != "gitlab":  # it sends the secret itself, and signs nothing
            forged.append(headers(BODY + b" ", SECRET))
        for one in forged:
            assert hub.ask("POST", f"/hooks/{kind}", BODY, one) == (401, b"the signature does not match\n"), (kind, one)
            wrong += 1
    assert hub.metric("hooks_refused_total") == wrong
    assert hub.ask("POST", "/hooks/unknown", BODY, SIGNED["github"](BODY, SECRET))[0] == 404
    assert hub.get("/hooks/github") == 405
    assert len(server.requests) == before
    assert hub.metric("hooks_total") == 0


def test_a_generic_hook_from_another_time_is_refused(hub: HookedHub) -> None:
    for off_s in (-310.0, 310.0):
        assert hub.ask("POST", "/hooks/generic", BODY, generic(BODY, off_s=off_s))[0] == 401
    stamp = generic(BODY)
    assert hub.ask("POST", "/hooks/generic", BODY, stamp | {"X-Livecfg-Timestamp": str(int(time.time()) + 1)})[0] == 401
    assert hub.ask("POST", "/hooks/generic", BODY, stamp | {"X-Livecfg-Timestamp": "9" * 400})[0] == 401
    assert hub.ask("POST", "/hooks/generic", BODY, stamp)[0] == 202


def test_a_body_over_a_megabyte_is_refused_whatever_its_signature(hub: HookedHub) -> None:
    large = b"x" * ((1 << 20) + 1)
    assert hub.ask("POST", "/hooks/github", large, SIGNED["github"](large, SECRET))[0] in {0, 413}  # 0: it hung up on us
    just = large[:-1]
    assert hub.ask("POST", "/hooks/github", just, SIGNED["github"](just, SECRET))[0] == 202


def test_a_hook_that_is_replayed_many_times_does_not_become_a_flood_at_the_git_host(
    repo: ConfigRepo, server: GitHttpServer, hub: HookedHub, tmp_path: Path
) -> None:
    headers = SIGNED["github"](BODY, SECRET)
    before, began = len(server.requests), time.monotonic()
    answers: set[int] = set()
    with ThreadPoolExecutor(4) as pool:
        while time.monotonic() - began < 3.0:
            answers |= set(pool.map(lambda _: hub.ask("POST", "/hooks/github", BODY, headers)[0], range(20)))
    looks = (time.monotonic() - began) / 0.5 + 2
    asked = server.requests[before:]
    assert answers == {202}
    assert hub.metric("hooks_total") > 3 * looks, "this machine is too slow to tell"
    assert len(asked) <= looks, asked
    with live_config(repo, server.url(repo.remote_path), tmp_path / "a", hub.address) as live:
        wait_until(lambda: live.status.hub == "streaming")
        commit = set_timeout(repo, 7)
        hub.ask("POST", "/hooks/github", BODY, headers)  # the last hint of a flood is not lost
        assert live.wait_for(commit, 20).config.timeout_ms == 7


def light_client(address: str, tips: list[str]) -> HubLink:
    """A stream that notes and acknowledges every offer."""

    def take(tip: str, _: bytes) -> None:
        tips.append(tip)
        link.report([])

    link = HubLink(address, repo_id=REPO_ID, ref="main", have=lambda: tips[-1], offer=take)
    return link


def test_a_fleet_on_hub_streams_asks_the_git_host_for_nothing(
    repo: ConfigRepo, server: GitHttpServer, hub: HookedHub, tmp_path: Path
) -> None:
    """100 light clients (streams that take offers and verify nothing) and 3 whole ones; a push costs the hub's own fetch."""
    url, pushes, seen = server.url(repo.remote_path), 5, [[repo.tip()] for _ in range(100)]
    with ExitStack() as stack:
        for tips in seen:
            stack.callback(light_client(hub.address, tips).close)
        lives = [stack.enter_context(live_config(repo, url, tmp_path / name, hub.address)) for name in "abc"]
        wait_until(lambda: hub.metric("streams") == len(seen) + len(lives), 60)
        wait_until(lambda: all(live.status.hub == "streaming" for live in lives))
        before = len(server.requests)
        for number in range(pushes):
            commit = set_timeout(repo, 10 + number)
            hub.ask("POST", "/hooks/gitea", BODY, SIGNED["gitea"](BODY, SECRET))
            for live in lives:
                assert live.wait_for(commit, 30).config.timeout_ms == 10 + number
            wait_until(lambda commit=commit: all(commit == tips[-1] for tips in seen), 60)
        asked = len(server.requests) - before
    assert asked < len(seen), server.requests[before:]  # the hub's own questions, and its polls on a slow machine


class First(random.Random):
    """Gives the lowest number there is, always."""

    def random(self) -> float:
        return 0.0


def test_a_hub_that_goes_away_does_not_send_its_fleet_to_the_git_host_at_once(
    repo: ConfigRepo, server: GitHttpServer, hub: HookedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host's next question is due within one interval of the end, at a moment drawn by lot: here, the last of them."""
    monkeypatch.setattr(follower, "_random", First())
    poll_s, url = 10.0, server.url(repo.remote_path)
    with ExitStack() as stack:
        lives = [stack.enter_context(live_config(repo, url, tmp_path / name, hub.address, poll_s)) for name in "abc"]
        wait_until(lambda: all(live.status.hub == "streaming" for live in lives))
        asked_at = time.monotonic()
        wait_until(lambda: time.monotonic() > asked_at + poll_s, 30)  # by the clock of a host without a stream, each is due
        hub.stop(signal.SIGKILL)
        before = len(server.requests)
        gone_at = time.monotonic()
        wait_until(lambda: time.monotonic() > gone_at + poll_s / 2, 30)
        assert len(server.requests) == before
        commit = set_timeout(repo, 8)
        for live in lives:
            assert live.wait_for(commit, 30).config.timeout_ms == 8


def test_a_hook_whose_body_does_not_come_is_let_go(hub: HookedHub) -> None:
    connection = HTTPConnection("127.0.0.1", hub.http_port, timeout=60)
    try:
        connection.putrequest("POST", "/hooks/github")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408
    finally:
        connection.close()


def test_who_holds_connections_open_keeps_nobody_out(hub: HookedHub) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", hub.http_port))) for _ in range(MOST + 50)]
        held[60].sendall(b"GET /healthz HTTP/1.1\r\n")  # and one that never says it all
        for _ in range(3):
            assert hub.get("/healthz") == 200
        closed = [not _is_open(each) for each in held]
    assert closed[:50] == [True] * 50
    assert not any(closed[60:])


def test_a_connection_ends_but_not_an_answer_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_S", 0.2)
    asyncio.run(_one_idle_and_one_slow())


async def _one_idle_and_one_slow() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def answer(_request: Request) -> Response:
        asked.set()
        await ended.wait()
        return PlainTextResponse("late\n")

    port = closed_port()
    serving = asyncio.create_task(serve(f"127.0.0.1:{port}", Starlette(routes=[Route("/", answer)])))
    async with asyncio.timeout(30):
        (idle, half), (answered, whole) = [await _connected(port) for _ in range(2)]
        half.write(b"GET / HTTP/1.1\r\n")
        whole.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        await asked.wait()
        assert await idle.read() == b""
        ended.set()
        assert (await answered.read()).endswith(b"late\n")
    half.close()
    whole.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # it does not listen yet
            await asyncio.sleep(0)


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)  # noqa: FBT003 - the socket's signature
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_a_hub_with_the_trusted_root_of_another_repository_is_not_ready_and_warns_once(repo: ConfigRepo, tmp_path: Path) -> None:
    other = ConfigRepo(tmp_path / "other")
    other.found({"config/_shared/base.yaml": "{}\n"})

    class Strange(HookedHub):
        def get(self, path: str) -> int:
            status, body = self.ask("GET", path)
            return 200 if status == 503 and body == b"the hub's trusted root refuses every commit\n" else 0

        def start(self, listen: str) -> None:
            (self.folder / "root.yaml").write_bytes(other.trusted_root)
            super().start(listen)

    hub = Strange(repo, tmp_path / "strange", str(repo.remote_path))
    try:
        newest = repo.publish({BASE: "timeout_ms: 2\n"})
        wait_until(lambda: hub.status()["tip"] == newest)  # judged, too
        told = [line for line in (hub.folder / "log").read_text().splitlines() if "refuses every commit" in line]
        assert len(told) == 1
        assert newest not in told[0]  # it was told at the first look
        assert "allowed_signers" in told[0]
    finally:
        hub.stop()
