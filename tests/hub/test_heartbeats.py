"""Heartbeats from the hub's key to the application's status: down the stream, through the remote, and when they stop."""

from __future__ import annotations

import time
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from livecfg import Condition, GitSource, LiveConfig
from livecfg.errors import FetchError, LivecfgError
from livecfg.git.mirror import Mirror
from livecfg.git.statement import StatementRef
from livecfg.hub import beats
from livecfg.hub.beats import read_signer
from livecfg.trust import heartbeat
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.heartbeat import REF, Heartbeat
from livecfg.trust.root import Trusted, TrustedRoot
from livecfg.trust.statement import read_statement
from livecfg.trust.verify import verify
from tests.hub.test_hub import BASE, Config, Hub, set_timeout, wait_until
from tests.simulator import ConfigRepo, GitHttpServer, closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOCK = "clock@acme"


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    """A repository whose policy expects heartbeats of the clock, a key that may do nothing else."""
    repo = ConfigRepo(tmp_path / "repo")
    files = {"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"}
    repo.found(files, people=[CLOCK], policy={"services": [CLOCK], "timestamp": [CLOCK]})
    return repo


class AttestingHub(Hub):
    """A hub with the clock's key, which follows its own view of the remote."""

    def __init__(self, repo: ConfigRepo, folder: Path, source: str = "", who: str = CLOCK, http: str = "") -> None:
        self.more = ["--heartbeat-key", str(repo.person(who).private), "--heartbeat-interval", "1"]
        self.more += ["--source", source] if source else []
        self.more += ["--http", http] if http else []
        super().__init__(repo, folder)


@pytest.fixture
def hub(repo: ConfigRepo, tmp_path: Path) -> Iterator[AttestingHub]:
    hub = AttestingHub(repo, tmp_path / "hub")
    yield hub
    hub.stop()


def live_config(repo: ConfigRepo, url: str, home: Path, **settings: Any) -> LiveConfig[Config]:
    source, root = GitSource(url=url), repo.trusted_root
    more = {"poll_interval_s": 600.0} | settings
    return LiveConfig(Config, source=source, trusted_root=root, service="checkout", env="prod", home=home, **more)


def attested(repo: ConfigRepo) -> Heartbeat | None:
    """What the remote's ref attests, signed by the clock."""
    data = StatementRef(GitSource(url=str(repo.remote_path)), REF).read()
    if data is None:
        return None
    signers = parse_allowed_signers(f"{CLOCK} {repo.person(CLOCK).public}\n".encode(), "the clock's key")
    content, people = read_statement(data, heartbeat.NAMESPACE, signers, time.time())
    assert people == {CLOCK}
    return Heartbeat.model_validate(content)


def test_the_stream_alone_carries_what_a_strict_process_waits_for(repo: ConfigRepo, hub: AttestingHub, tmp_path: Path) -> None:
    wait_until(lambda: attested(repo) is not None)
    with ExitStack() as stack:
        server = stack.enter_context(GitHttpServer(repo.path))
        live = live_config(repo, server.url(repo.remote_path), tmp_path / "app", hub=hub.address, strict_heartbeat=True)
        with live:
            wait_until(lambda: live.status.hub == "streaming")
            stack.close()  # from here on only the hub can bring revision and heartbeat
            assert live.wait_for(set_timeout(repo, 5), 20).config.timeout_ms == 5
            assert live.wait_for(set_timeout(repo, 6), 20).config.timeout_ms == 6


def test_the_remote_carries_heartbeats_to_those_who_have_no_hub(repo: ConfigRepo, hub: AttestingHub, tmp_path: Path) -> None:
    wait_until(lambda: attested(repo) is not None)
    first = attested(repo)
    assert first is not None
    assert (first.tip, first.payload_sha256, first.position) == (repo.tip(), repo.payload_sha256(repo.tip()), 0)
    with live_config(repo, str(repo.remote_path), tmp_path / "app", strict_heartbeat=True, poll_interval_s=0.2) as live:
        assert live.status.condition is Condition.READY, live.status.reason
        assert live.current.config.timeout_ms == 1
    tip = set_timeout(repo, 5)
    wait_until(lambda: (found := attested(repo)) is not None and found.tip == tip, 30)
    found = attested(repo)
    assert found is not None
    assert found.seq > first.seq
    assert hub.stop() == 0


def test_attack_16_a_hub_cut_off_from_git_attests_nothing_new_and_is_told_to_stand_still(
    repo: ConfigRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HUB_BEHIND_S", 0)
    with ExitStack() as stack:
        server = stack.enter_context(GitHttpServer(repo.path))
        hub = AttestingHub(repo, tmp_path / "hub", server.url(repo.remote_path))
        try:
            wait_until(lambda: attested(repo) is not None, 30)
            live = live_config(repo, str(repo.remote_path), tmp_path / "app", hub=hub.address, max_staleness_s=4)
            with live:
                wait_until(lambda: live.status.hub == "streaming" and live.status.condition is Condition.READY)
                stack.close()
                tip = set_timeout(repo, 5)
                assert live.wait_for(tip, 20).config.timeout_ms == 5, "Git is asked as well, hub or not"
                wait_until(lambda: any("is the hub withholding?" in note for note in live.status.drift))
                wait_until(lambda: live.status.condition is Condition.STALE)
                assert "the newest heartbeat is old" in live.status.reason
                assert live.current.config.timeout_ms == 5, "stale is told; it never stops serving"
        finally:
            hub.stop()


def test_a_key_that_policy_does_not_name_attests_nothing_and_the_hub_says_so(repo: ConfigRepo, tmp_path: Path) -> None:
    hub = AttestingHub(repo, tmp_path / "hub", who="ana@acme")
    try:
        wait_until(lambda: "nobody of the role `timestamp` signed it" in (tmp_path / "hub" / "log").read_text())
        assert attested(repo) is None
        with live_config(repo, str(repo.remote_path), tmp_path / "app", hub=hub.address, max_staleness_s=0.5) as live:
            wait_until(lambda: "no heartbeat yet" in live.status.reason)
        with pytest.raises(FetchError, match="no heartbeat yet"):
            live_config(repo, str(repo.remote_path), tmp_path / "b", strict_heartbeat=True, start_timeout_s=10).start()
    finally:
        assert hub.stop() == 0


def test_a_remote_that_takes_no_heartbeats_leaves_those_of_the_stream(repo: ConfigRepo, tmp_path: Path) -> None:
    hook = repo.remote_path / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    hub = AttestingHub(repo, tmp_path / "hub")
    try:
        settings: dict[str, Any] = {"hub": hub.address, "strict_heartbeat": True, "poll_interval_s": 0.2}
        with live_config(repo, str(repo.remote_path), tmp_path / "app", **settings) as live:
            assert live.current.config.timeout_ms == 1
        wait_until(lambda: f"cannot push heartbeats to {REF}" in (tmp_path / "hub" / "log").read_text())
    finally:
        assert hub.stop() == 0


@pytest.mark.parametrize("content", [None, b"", b"ssh-ed25519 AAAA\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_heartbeat_key_that_cannot_be_used_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LivecfgError, match=r"cannot read the heartbeat key|is not an OpenSSH private key"):
        read_signer(path)


def test_a_heartbeat_of_the_same_revision_is_pushed_again_and_another_hub_s_is_no_obstacle(
    repo: ConfigRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "PUSH_EVERY_S", 0.0)
    monkeypatch.setattr(beats, "PUSH_REST_S", 0.01)
    source, root = GitSource(url=str(repo.remote_path)), TrustedRoot.parse(repo.trusted_root, "root")
    with Mirror(repo.path / "mirror", source) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        good = verify(candidate, Trusted.start(root, "main"), time.time()).trusted.good
        assert good is not None
        hubs = [beats.Beats(source, read_signer(repo.person(CLOCK).private), 0.0) for _ in range(2)]
        sent: list[bytes] = []
        for hub in hubs:
            hub.start(lambda data, _tip: sent.append(data))
        try:
            for number in range(1, 4):
                for hub in hubs:
                    hub.look(mirror.objects, root.repo_id, good, time.time() + number)
                newest = int(time.time()) + number - 1
                wait_until(lambda newest=newest: (found := attested(repo)) is not None and found.seq >= newest)  # type: ignore[misc]  # bound now
        finally:
            for hub in hubs:
                hub.stop()
    assert len(sent) == 6


def test_the_hub_s_metrics_say_how_old_its_newest_heartbeat_is(repo: ConfigRepo, tmp_path: Path) -> None:
    where = f"127.0.0.1:{closed_port()}"

    def age_s() -> float | None:
        try:
            with urllib.request.urlopen(f"http://{where}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        found = [line.split()[1] for line in lines if line.startswith("livecfg_hub_heartbeat_age_seconds ")]
        return float(found[0]) if found else None

    hub = AttestingHub(repo, tmp_path / "hub", http=where)
    try:
        wait_until(lambda: (age := age_s()) is not None and age < 30)
    finally:
        hub.stop()
