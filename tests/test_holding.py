"""What keeps a valid revision out for a while, and what comes through: windows, suspension, LIVECFG_HOLD, kills, rollbacks.

Through LiveConfig over a real remote, with a settable clock.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from livecfg import Condition, GitSource, LiveConfig, RefusedError
from livecfg.layers import Process
from livecfg.trust.hold import Hold
from livecfg.trust.suspension import where_it_began
from tests.e2e.support import eventually
from tests.simulator import ConfigRepo
from tests.simulator.clock import Clock
from tests.simulator.memory import MemoryRepo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE, FLAGS, SUSPEND = "config/checkout/base.yaml", "flags/checkout/flags.yaml", "suspend/checkout.yaml"
FLAG = "flags:\n  new-cart:\n    state: {}\n    variants: {{shown: true, hidden: false}}\n    defaultVariant: shown\n"
FRIDAY = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
RULES = [
    {"id": "all", "paths": ["**"], "allow": ["*"]},
    {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": ["*"], "fast": True},
]
WINDOW = {
    "id": "no-friday",
    "paths": ["config/**", "flags/**"],
    "deny": {"weekdays": ["fri"], "from": "15:00", "until": "23:59"},
}


class Config(BaseModel, frozen=True):
    number: int = 1


class Site:
    """A repository, and processes that share a clock with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock(FRIDAY)
        self.repo = ConfigRepo(path / "repo", clock=self.clock)
        self.repo.step_s = 1
        files = {"config/_shared/base.yaml": "{}\n", BASE: "number: 1\n", FLAGS: FLAG.format("ENABLED")}
        self.repo.found(files, policy={"rules": RULES, "windows": [WINDOW]})
        self.made: list[LiveConfig[Config]] = []

    def live(self, home: str = "home", env: str = "prod") -> LiveConfig[Config]:
        source = GitSource(url=str(self.repo.remote_path))
        live = LiveConfig(Config, source=source, trusted_root=self.repo.trusted_root, service="checkout", env=env)
        live._home = self.path / home
        live._timing = replace(live._timing, poll_interval_s=0.1, clock=self.clock)
        self.made.append(live)
        return live.start()

    def number(self, number: int) -> str:
        return self.repo.publish({BASE: f"number: {number}\n"})

    def flag(self, state: str) -> str:
        return self.repo.publish({FLAGS: FLAG.format(state)})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for live in site.made:
        live.stop()


def served(live: LiveConfig[Config]) -> tuple[int, bool]:
    return live.current.config.number, live.current.flag("new-cart", default=False, context={})


def waits(live: LiveConfig[Config], commit: str, why: str) -> Any:
    """Wait until the process says that it holds a revision back, and why."""

    def says() -> bool:
        return any(note.startswith(f"{commit[:10]} waits {why}") for note in live.status.drift)

    return eventually(says, state=lambda: live.status)


# --- windows --------------------------------------------------------------------------------------------------------------


def test_a_change_waits_for_its_window_a_kill_does_not_and_both_are_there_when_it_opens(site: Site) -> None:
    live = site.live()
    site.clock.now = FRIDAY + 3 * HOUR
    killed = site.flag("DISABLED")
    live.wait_for(killed)
    assert served(live) == (1, False)
    changed = site.number(2)
    waits(live, changed, "for the window 'no-friday' until 2026-11-27T23:59Z (config/checkout/base.yaml)")
    assert served(live) == (1, False)
    assert live.status.condition is Condition.READY
    enabled = site.flag("ENABLED")  # switching on is no kill
    waits(live, enabled, "for the window 'no-friday'")
    site.clock.now = FRIDAY + 12 * HOUR
    live.wait_for(enabled)
    assert served(live) == (2, True)
    assert live.status.drift == ()


def test_a_rollback_comes_through_a_closed_window(site: Site) -> None:
    first = site.repo.tip()
    live = site.live()
    live.wait_for(site.number(2))
    site.clock.now = FRIDAY + 4 * HOUR
    back = site.repo.publish({BASE: "number: 1\n"}, message=f"Take it back\n\nLivecfg-Rollback: {first}")
    live.wait_for(back)
    assert served(live) == (1, True)


# --- suspension -----------------------------------------------------------------------------------------------------------


def test_a_suspended_service_takes_nothing_new_over_but_kills_and_rollbacks_until_it_is_resumed(site: Site) -> None:
    first = site.repo.tip()
    live, other_env = site.live(), site.live("home-dev", env="dev")
    live.wait_for(site.number(2))
    suspended = site.repo.publish({"suspend/checkout/prod.yaml": "reason: the database moves\n"})
    live.wait_for(suspended)  # its own commit changes nothing that the process loads
    killed = site.flag("DISABLED")
    live.wait_for(killed)
    assert served(live) == (2, False)
    back = site.repo.publish({BASE: "number: 1\n"}, message=f"Take it back\n\nLivecfg-Rollback: {first}")
    live.wait_for(back)
    changed = site.number(3)
    waits(live, changed, "since checkout/prod is suspended: the database moves (config/checkout/base.yaml)")
    other_env.wait_for(changed)
    assert (served(live), served(other_env)) == ((1, False), (3, False))
    elsewhere = site.repo.publish({"config/billing/base.yaml": "a: 1\n"})
    waits(live, elsewhere, "since checkout/prod is suspended")
    resumed = site.repo.publish({"suspend/checkout/prod.yaml": None})
    live.wait_for(resumed)
    assert served(live) == (3, False)


def test_what_other_services_change_does_not_keep_a_kill_from_a_suspended_one(site: Site) -> None:
    live = site.live()
    site.repo.publish({SUSPEND: "reason: quiet, please\n"})
    site.repo.publish({"config/billing/base.yaml": "a: 1\n"})
    live.wait_for(site.flag("DISABLED"))
    assert served(live) == (1, False)


def test_a_suspension_ends_at_its_own_time_without_a_commit_or_a_poll(site: Site) -> None:
    live = site.live()
    live.wait_for(site.repo.publish({SUSPEND: "reason: night\nuntil: 2026-11-27T14:00:00Z\n"}))
    changed = site.number(2)
    waits(live, changed, "since checkout/prod is suspended: night until 2026-11-27T14:00Z")
    follower = live._followers[os.getpid()]
    follower._timing = replace(follower._timing, poll_interval_s=300.0)
    site.clock.now = FRIDAY + 2 * HOUR
    live.wait_for(changed)
    assert served(live) == (2, True)


def test_a_restart_and_a_new_host_stand_where_the_service_was_suspended(site: Site) -> None:
    live = site.live()
    suspended = site.repo.publish({SUSPEND: "reason: hold still\n"})
    live.wait_for(suspended)
    changed = site.number(2)
    waits(live, changed, "since checkout/prod is suspended")
    live.stop()
    for home in ("home", "new-home"):
        again = site.live(home)
        assert served(again) == (1, True), home
        waits(again, changed, "since checkout/prod is suspended")
        assert again.current.revision.commit == suspended


def test_a_malformed_suspension_lets_nothing_through_and_the_next_commit_heals(site: Site) -> None:
    live = site.live()
    site.repo.publish({SUSPEND: "until: tomorrow\n", BASE: "number: 2\n"})
    eventually(lambda: live.status.condition is Condition.REFUSED)
    assert {(r.code.value, r.path) for r in live.status.refusals} == {("LC223", SUSPEND), ("LC203", SUSPEND)}
    assert served(live) == (1, True)
    live.wait_for(site.repo.publish({SUSPEND: None}))
    assert served(live) == (2, True)


def test_where_a_suspension_began_is_the_oldest_commit_at_hand_when_the_history_is_not_whole() -> None:
    repo, process = MemoryRepo(), Process("checkout", "prod")
    first = repo.found(["ana@acme"], RULES, {SUSPEND: b"reason: since ever\n"})
    second = repo.commit({BASE: b"number: 2\n"}, on=[first], by="ana@acme")
    third = repo.commit({BASE: b"number: 3\n"}, on=[second], by="ana@acme")
    assert where_it_began(repo, third, process, FRIDAY) == first
    del repo.objects[first]
    assert where_it_began(repo, third, process, FRIDAY) == second


# --- LIVECFG_HOLD ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [7, 12, 40])
def test_a_held_revision_is_served_and_nothing_after_it_by_any_length_of_its_id(
    site: Site, monkeypatch: pytest.MonkeyPatch, digits: int
) -> None:
    held = site.number(2)
    site.number(3)
    monkeypatch.setenv("LIVECFG_HOLD", held[:digits].upper())
    live = site.live()
    tip = site.number(4)
    eventually(lambda: live.status.desired is not None and live.status.desired.commit == tip)
    assert live.current.revision.commit == held
    assert (live.status.condition, live.status.overrides) == (Condition.READY, (f"LIVECFG_HOLD={held[:digits]}",))


@pytest.mark.parametrize("digits", [7, 40])
def test_a_restart_with_a_hold_stays_at_what_was_applied(site: Site, monkeypatch: pytest.MonkeyPatch, digits: int) -> None:
    live = site.live()
    held = site.number(2)
    live.wait_for(held)
    live.stop()
    tip = site.number(3)
    monkeypatch.setenv("LIVECFG_HOLD", held[:digits])
    live = site.live()
    eventually(lambda: live.status.desired is not None and live.status.desired.commit == tip)
    assert (live.current.revision.commit, live.status.condition) == (held, Condition.READY)


def test_a_hold_older_than_what_was_applied_goes_back_without_the_remote_too_and_ends_without_a_trace(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = site.number(2)
    site.live().wait_for(site.number(3))
    site.made.pop().stop()
    moved = site.repo.remote_path.rename(site.path / "gone")
    monkeypatch.setenv("LIVECFG_HOLD", held[:7])
    live = site.live()
    assert live.current.revision.commit == held
    moved.rename(site.repo.remote_path)
    newer = site.number(4)
    eventually(lambda: live.status.desired is not None and live.status.desired.commit == newer)
    assert (live.current.revision.commit, live.status.condition, live.status.refusals) == (held, Condition.READY, ())
    live.stop()
    again = site.live()  # from what was in use
    assert again.current.revision.commit == held
    again.stop()
    monkeypatch.delenv("LIVECFG_HOLD")
    assert site.live().wait_for(newer).config.number == 4


def test_a_hold_at_a_commit_that_policy_does_not_allow_serves_the_one_before_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = site.number(2)
    skipped = site.repo.commit({BASE: "number: 666\n"}, signed=False)
    site.repo.revert(skipped)
    live = site.live()
    live.wait_for(site.number(3))
    live.stop()
    monkeypatch.setenv("LIVECFG_HOLD", skipped[:10])
    for home in ("home", "new-home"):
        assert site.live(home).current.revision.commit == good, home


@pytest.mark.parametrize("name", ["deadbeef", "dead" * 10])
def test_a_hold_that_names_no_commit_applies_nothing_new_and_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    good = site.number(2)
    site.live().wait_for(good)
    site.made.pop().stop()
    monkeypatch.setenv("LIVECFG_HOLD", name)
    live = site.live()
    eventually(lambda: live.status.condition is Condition.REFUSED, state=lambda: live.status)  # although nothing is newer
    tip = site.number(3)
    eventually(lambda: live.status.desired is not None and live.status.desired.commit == tip)
    assert live.current.revision.commit == good
    eventually(lambda: live.status.refusals and live.status.refusals[0].commit == tip)
    assert live.status.reason.startswith(f"LIVECFG_HOLD={name} LC224 names no commit of main as it is here (nothing newer")
    with pytest.raises(RefusedError, match=f"LIVECFG_HOLD={name} LC224 names no commit of main"):
        site.live("new-home")  # nothing is last good, and the tip may be what the hold is to keep out


def test_a_hold_that_names_two_commits_is_no_hold_of_either() -> None:
    repo = MemoryRepo()
    one, other = "abcdef0" + "1" * 33, "abcdef0" + "2" * 33
    first = repo.found(["ana@acme"], RULES, {})
    kind, raw = repo.objects[first]
    repo.objects[one] = kind, raw
    repo.objects[other] = kind, raw.replace(b"\nauthor", f"\nparent {one}\nauthor".encode(), 1)
    hold = Hold("abcdef0", "main")
    with pytest.raises(RefusedError, match="names more than one commit of main"):
        hold.on(repo, other)
    assert (hold.is_open, hold.before(repo, other)) == (True, "")
    assert Hold("abcdef01", "main").on(repo, other) == one


def test_a_hold_before_a_force_push_is_a_rollback_all_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    held = site.number(2)
    site.live().wait_for(site.number(3))
    site.made.pop().stop()
    site.repo.reset(held)
    site.repo.commit({BASE: "number: 4\n"})
    site.repo.push(force=True)
    monkeypatch.setenv("LIVECFG_HOLD", held[:7])
    live = site.live()
    eventually(lambda: live.status.condition is Condition.REFUSED, state=lambda: live.status)
    assert [r.code.value for r in live.status.refusals] == ["LC320"]
    assert live.current.revision.commit == held


def test_a_hold_gets_around_no_policy_by_going_back_to_before_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    held = site.number(2)
    policy = site.repo.policy(rules=RULES, protected={"envs": ["prod"]})
    site.live().wait_for(site.repo.publish({".livecfg/policy.yaml": yaml.safe_dump(policy)}))
    site.made.pop().stop()
    monkeypatch.setenv("LIVECFG_HOLD", held)
    with pytest.raises(RefusedError, match="LC222 the environment prod is protected"):
        site.live()
