"""Freshness: heartbeats show what commits cannot, that nothing newer is withheld; they never enter a verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.errors import FetchError, RefusedError
from livecfg.layers import Process
from livecfg.reconciler import Reconciler
from livecfg.scope import Scope
from livecfg.signals import Signals
from livecfg.trust import heartbeat, statement
from livecfg.trust.heartbeat import NAMESPACE, Freshness, beat, read_heartbeat
from livecfg.trust.policy import load_policy
from livecfg.trust.signatures import sign
from tests.simulator.memory import MemoryRepo, key
from tests.simulator.repo import REPO_ID
from tests.trust.removed import without
from tests.trust.test_windows import Config, MemoryMirror

if TYPE_CHECKING:
    from livecfg.snapshot import Snapshot

ANA, BO, CLOCK = "ana@acme", "bo@acme", "clock@acme"
BASE, REF = "config/shop/base.yaml", "refs/heads/main"
RULES = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
STALE_S = 600.0


class Fleet:
    """A repository with a clock that attests, and one process."""

    def __init__(self, *, strict: bool = False) -> None:
        self.repo = MemoryRepo()
        files = {"config/_shared/base.yaml": b"{}\n", BASE: b"a: 1\n"}
        self.tip = self.repo.found((ANA, BO, CLOCK), RULES, files, services=[CLOCK], timestamp=[CLOCK])
        self.now = float(self.repo.clock + 60)
        self.mirror = MemoryMirror(self.repo)
        self.mirror.tip = self.tip
        self.beat: bytes | None = None
        self.hub_tip = ""
        self.served: Snapshot[Config] | None = None
        self.freshness = Freshness(REF, STALE_S, self.now)
        scope: Scope[Config] = Scope(Config, Process("shop", "prod"), Signals(), lambda: 0)

        def swap(snapshot: Snapshot[Config]) -> None:
            self.served = snapshot

        self.reconciler = Reconciler(
            self.mirror,
            self.repo.trusted(),
            scope,
            state="shop",
            prepare=lambda _old, _new: None,
            swap=swap,
            freshness=self.freshness,
            heartbeats=lambda: [beat for beat in (self.beat,) if beat is not None],
            hub_tip=lambda: self.hub_tip,
            strict_heartbeat=strict,
        )

    def commit(self, value: int, **more: Any) -> str:
        self.tip = self.repo.commit({BASE: b"a: %d\n" % value}, on=(self.tip,), by=BO, **more)
        return self.tip

    def attest(self, tip: str = "", by: str = CLOCK, **changes: Any) -> bytes:
        good = self.repo.verify(tip or self.tip).trusted.good
        assert good is not None
        line = lambda data: sign(key(by), changes.pop("namespace", NAMESPACE), data)  # noqa: E731 - a pen
        made = beat(changes.pop("repo_id", REPO_ID), changes.pop("ref", REF), good, int(self.now), self.now, line)
        if changes:
            content = json.loads(made.partition(b"\n")[0]) | changes
            made = statement.write_statement(content, lambda data: sign(key(by), NAMESPACE, data))
        return made

    def reconcile(self) -> None:
        self.reconciler.reconcile(self.now)


def test_attack_11_a_remote_that_is_frozen_makes_the_process_stale_and_it_goes_on_serving() -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert fleet.reconciler.stale(fleet.now) == ""
    fleet.commit(2)  # never shown: the host answers every poll with the old tip and the old heartbeat
    fleet.now += STALE_S + 1
    fleet.reconcile()
    assert "the newest heartbeat is old: 601 s" in fleet.reconciler.stale(fleet.now)
    assert fleet.served is not None
    with without(heartbeat, "if now - last <= self.max_staleness_s:", "if True:"):
        assert fleet.reconciler.stale(fleet.now) == ""


def test_attack_11_without_any_heartbeat_the_process_is_stale_after_the_same_time() -> None:
    fleet = Fleet()
    fleet.reconcile()
    assert fleet.reconciler.stale(fleet.now + STALE_S) == ""
    assert "no heartbeat yet" in fleet.reconciler.stale(fleet.now + STALE_S + 1)


def test_attack_16_a_heartbeat_of_what_the_remote_does_not_show_is_an_alarm() -> None:
    fleet = Fleet()
    fleet.reconcile()
    fleet.commit(2)
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert fleet.reconciler.notes == (
        f"the heartbeat attests {fleet.tip[:10]}, which the remote does not show: is it withholding?",
    )
    fleet.mirror.tip = fleet.tip
    fleet.reconcile()
    assert fleet.reconciler.notes == ()


def test_attack_16_two_histories_are_an_alarm() -> None:
    fleet = Fleet()
    fleet.reconcile()
    other = fleet.repo.commit({BASE: b"a: 9\n"}, on=(fleet.tip,), by=BO)
    fleet.mirror.tip = fleet.commit(2)
    fleet.beat = fleet.attest(other)
    fleet.reconcile()
    assert "two histories" in fleet.reconciler.notes[0]


def test_attack_6_a_commit_dated_before_a_heartbeat_that_did_not_have_it_is_an_alarm() -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest()
    fleet.reconcile()
    fleet.now += 900
    fleet.beat = fleet.attest()
    fleet.mirror.tip = fleet.commit(2, date=fleet.repo.clock)
    fleet.reconcile()
    assert fleet.served is not None
    assert fleet.served.config.a == 2, "a heartbeat never enters a verdict"
    assert "backdated" in fleet.reconciler.notes[0]
    fleet.now += 60
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert "backdated" in fleet.reconciler.notes[0], "the next heartbeat does not wipe it out"
    fleet.mirror.tip = fleet.commit(3, date=int(fleet.now))
    fleet.reconcile()
    assert fleet.reconciler.notes == ()


def test_a_commit_that_is_pushed_minutes_after_it_was_made_is_no_alarm() -> None:
    fleet = Fleet()
    fleet.reconcile()
    fleet.now += 500
    fleet.beat = fleet.attest()
    fleet.mirror.tip = fleet.commit(2, date=int(fleet.now) - 499)
    fleet.reconcile()
    assert fleet.reconciler.notes == ()


ANOTHER = "0" * 32


@pytest.mark.parametrize(
    "change",
    [
        {"by": BO},
        {"namespace": "git"},
        {"repo_id": ANOTHER},
        {"ref": "refs/heads/dev"},
        {"time": 2_000_000_000},
        {"position": -1},
        {"payload_sha256": "HEAD"},
        {"more": 1},
    ],
)
def test_attack_12_a_heartbeat_by_another_for_another_or_of_another_time_does_not_count(change: dict[str, Any]) -> None:
    fleet = Fleet()
    policy = load_policy(fleet.repo, fleet.repo.tree(fleet.repo.files[fleet.tip]))
    assert read_heartbeat(fleet.attest(), policy, REF, fleet.now).tip == fleet.tip
    with pytest.raises(RefusedError):
        read_heartbeat(fleet.attest(**change), policy, REF, fleet.now)


def test_a_heartbeat_whose_bytes_were_changed_does_not_count() -> None:
    fleet = Fleet()
    policy = load_policy(fleet.repo, fleet.repo.tree(fleet.repo.files[fleet.tip]))
    whole = fleet.attest()
    for at in range(0, len(whole), 7):
        with pytest.raises(RefusedError):
            read_heartbeat(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], policy, REF, fleet.now)


def test_an_older_heartbeat_never_replaces_a_newer_one() -> None:
    fleet = Fleet()
    old = fleet.attest()
    fleet.now += 60
    fleet.beat = fleet.attest()
    fleet.reconcile()
    newest = fleet.freshness.newest
    fleet.beat = old
    fleet.reconcile()
    assert fleet.freshness.newest == newest


def test_attack_16_a_lost_key_jams_heartbeats_only_until_it_is_rotated_out() -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest(seq=(1 << 40) - 1)
    fleet.reconcile()
    fleet.now += STALE_S + 1
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert "is old" in fleet.reconciler.stale(fleet.now), "told: whoever has the key can do that"
    keys = fleet.repo.policy((ANA, BO, "clock2@acme"), RULES, services=["clock2@acme"], timestamp=["clock2@acme"])
    fleet.tip = fleet.mirror.tip = fleet.repo.commit(keys, on=(fleet.tip,), by=ANA)
    fleet.beat = fleet.attest(by="clock2@acme")
    with without(heartbeat, "and not self._still_counts(policy)", "and False"):
        fleet.reconcile()
    assert "is old" in fleet.reconciler.stale(fleet.now)
    fleet.freshness._policy = None
    fleet.reconcile()
    assert not fleet.reconciler.stale(fleet.now)


def test_with_strict_heartbeat_nothing_is_applied_beyond_what_is_attested() -> None:
    fleet = Fleet(strict=True)
    with pytest.raises(FetchError, match="no heartbeat yet"):
        fleet.reconcile()
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert fleet.served is not None
    middle, attested = fleet.commit(2), fleet.attest
    fleet.now += 60
    fleet.beat = attested(middle)
    fleet.mirror.tip = fleet.commit(3)
    fleet.reconcile()
    assert fleet.served.config.a == 2
    fleet.now += 60
    fleet.beat = attested()
    fleet.reconcile()
    assert fleet.served.config.a == 3


def test_with_strict_heartbeat_a_revision_of_another_history_is_not_applied() -> None:
    fleet = Fleet(strict=True)
    fleet.beat = fleet.attest()
    fleet.reconcile()
    other = fleet.repo.commit({BASE: b"a: 9\n"}, on=(fleet.tip,), by=BO)
    fleet.mirror.tip = fleet.commit(2)
    fleet.now += 60
    fleet.beat = fleet.attest(other)
    with pytest.raises(FetchError, match="is not on the branch"):
        fleet.reconcile()


def test_attack_25_a_clock_that_was_set_back_is_told_and_keys_do_not_come_back_to_life() -> None:
    fleet = Fleet()
    fleet.reconcile()
    fleet.mirror.tip = fleet.commit(2)
    fleet.now -= 10_000
    fleet.reconcile()
    assert fleet.served is not None
    assert fleet.served.config.a == 1
    assert "ahead of this machine's clock" in fleet.reconciler.notes[0]


def test_attack_25_a_clock_that_is_set_back_does_not_hide_a_freeze() -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest()
    fleet.reconcile()
    fleet.now -= 10_000
    fleet.reconcile()
    assert "clock is 10000 s behind the newest heartbeat" in fleet.reconciler.stale(fleet.now)
    with without(heartbeat, "if last - now > AHEAD_S:", "if False:"):
        assert fleet.reconciler.stale(fleet.now) == "", "without the guard it would be fresh for hours"


def test_attack_25_a_process_that_starts_with_the_clock_set_back_says_so() -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest()
    fleet.mirror.tip = fleet.tip
    fleet.reconcile()
    again = Freshness(REF, STALE_S, fleet.now - 10_000)
    policy = load_policy(fleet.repo, fleet.repo.tree(fleet.repo.files[fleet.tip]))
    again.take([fleet.beat], policy, fleet.now - 10_000)
    good = fleet.repo.verify(fleet.tip).trusted.good
    assert good is not None
    again.look(good, good.time, fleet.now - 10_000)
    assert again.newest is None
    assert "it lies 10000 s ahead of this machine's clock" in again.alarms[0]
    assert f"{good.commit[:10]} lies 9940 s ahead of this machine's clock" in again.alarms[1]


def test_attack_16_a_hub_that_stands_still_while_git_moves_on_is_an_alarm_after_a_minute() -> None:
    fleet = Fleet()
    fleet.hub_tip = fleet.tip
    fleet.reconcile()
    withheld, fleet.mirror.tip = fleet.tip, fleet.commit(2)
    fleet.reconcile()
    assert fleet.reconciler.notes == (), "the hub has a minute to follow"
    fleet.now += 40
    fleet.mirror.tip = fleet.commit(3)
    fleet.reconcile()
    fleet.now += 30
    fleet.reconcile()
    assert fleet.reconciler.notes == (f"Git shows {fleet.tip[:10]}, the hub {withheld[:10]}, for 70 s: is the hub withholding?",)
    fleet.hub_tip = fleet.tip
    fleet.reconcile()
    assert fleet.reconciler.notes == ()


def test_attack_16_a_hub_that_shows_another_history_than_git_is_an_alarm() -> None:
    fleet = Fleet()
    fleet.reconcile()
    fleet.hub_tip = fleet.repo.commit({BASE: b"a: 9\n"}, on=(fleet.tip,), by=BO)
    fleet.mirror.tip = fleet.commit(2)
    fleet.reconcile()
    fleet.now += 61
    fleet.reconcile()
    assert "two histories" in fleet.reconciler.notes[0]


def test_a_heartbeat_that_does_not_count_is_told_once_in_the_log_and_stays_in_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    fleet.beat = fleet.attest(by=BO)
    fleet.reconcile()
    fleet.reconcile()
    assert "nobody of the role `timestamp` signed it" in fleet.reconciler.notes[0]
    assert caplog.text.count("nobody of the role") == 1


def test_a_walk_of_the_same_chain_never_depends_on_heartbeats() -> None:
    fleet = Fleet()
    fleet.commit(2)
    before = fleet.repo.verify(fleet.tip)
    fleet.mirror.tip = fleet.tip
    fleet.beat = fleet.attest()
    fleet.reconcile()
    assert fleet.repo.verify(fleet.tip) == before
