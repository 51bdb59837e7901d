"""Local settings (LIVECFG_SET_…, _KILL, _HOLD, _REF): told everywhere by name, bounded by policy and by time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from livecfg import Condition, GitSource, LivecfgError, LiveConfig, RefusedError, Snapshot, UnsafeNoVerification
from livecfg.environment import read_environment
from tests.e2e.support import eventually
from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BASE, FLAGS, POLICY = "config/checkout/base.yaml", "flags/checkout/flags.yaml", ".livecfg/policy.yaml"
FLAG = "flags:\n  new-cart:\n    state: ENABLED\n    variants: {shown: true, hidden: false}\n    defaultVariant: shown\n"
PLAIN = 7355608


class Config(BaseModel, frozen=True):
    number: int = 1


Make = "Callable[..., LiveConfig[Config]]"


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "number: 1\n", FLAGS: FLAG})
    return repo


@pytest.fixture
def make(repo: ConfigRepo, tmp_path: Path) -> Iterator[Callable[..., LiveConfig[Config]]]:
    made: list[LiveConfig[Config]] = []

    def make(**changes: Any) -> LiveConfig[Config]:
        settings: dict[str, Any] = {"source": GitSource(url=str(repo.remote_path)), "trusted_root": repo.trusted_root}
        settings |= {"home": tmp_path / "home", "poll_interval_s": 0.2, "service": "checkout", "env": "prod"}
        made.append(LiveConfig(Config, **(settings | changes)))
        return made[-1]

    yield make
    for live in made:
        live.stop()


def flag(live: LiveConfig[Config]) -> bool:
    return live.current.flag("new-cart", default=False, context={})


def test_what_is_set_here_is_told_by_name_to_the_process_to_the_host_and_to_the_hub(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIVECFG_SET_number", str(PLAIN))
    monkeypatch.setenv("LIVECFG_KILL", "new-cart")
    live = make()
    assert live.current.config.number == PLAIN
    assert not flag(live)
    wanted = ["LIVECFG_SET_number", "LIVECFG_KILL=new-cart"]
    assert list(live.status.overrides) == wanted

    def reported() -> list[str]:  # what the host's fetcher sends to the hub, and `livecfg status` reads
        files = [file for file in (tmp_path / "home").rglob("processes/*.json") if not file.name.startswith(".")]
        return [text for file in files if str(PLAIN) not in (text := file.read_text())]

    (report,) = eventually(reported)
    assert json.loads(report)["overrides"] == wanted


@pytest.mark.parametrize(
    ("variable", "value", "protected"),
    [
        ("LIVECFG_SET_number", "7", {"envs": ["prod"]}),
        ("LIVECFG_SET_number", "7", {"keys": ["checkout.number"]}),
        ("LIVECFG_KILL", "new-cart", {"envs": ["prod"]}),
        ("LIVECFG_KILL", "new-cart", {"keys": ["checkout.new-cart"]}),
        ("LIVECFG_HOLD", "the tip", {"envs": ["prod"]}),
        ("LIVECFG_REF", "main", {"envs": ["prod"]}),
    ],
)
def test_policy_keeps_local_settings_out(
    repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, protected: dict[str, list[str]]
) -> None:
    tip = repo.publish({POLICY: yaml.safe_dump(repo.policy(protected=protected))})
    monkeypatch.setenv(variable, tip if value == "the tip" else value)
    with pytest.raises(RefusedError) as caught:
        make().start()
    (refusal,) = caught.value.refusals
    assert (refusal.code.value, refusal.path.partition("=")[0]) == ("LC222", variable)
    if "envs" in protected:
        monkeypatch.setenv("LIVECFG_ENV", "dev")
        make(env="dev").start()


def test_a_policy_that_begins_to_protect_is_refused_here_and_the_last_good_revision_stays(
    repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECFG_KILL", "new-cart")
    live = make().start()
    repo.publish({POLICY: yaml.safe_dump(repo.policy(protected={"envs": ["prod"]}))})
    eventually(lambda: live.status.condition is Condition.REFUSED)
    assert live.status.refusals[0].path == "LIVECFG_KILL=new-cart"
    assert not flag(live)


def test_when_their_time_is_over_they_end_by_themselves(
    repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = repo.tip()
    monkeypatch.setenv("LIVECFG_OVERRIDES_UNTIL", in_seconds(6))
    monkeypatch.setenv("LIVECFG_SET_number", "77")
    monkeypatch.setenv("LIVECFG_KILL", "new-cart")
    monkeypatch.setenv("LIVECFG_HOLD", held)
    live = make(poll_interval_s=300.0)
    seen: list[int] = []

    @live.on_change("number")
    def noted(_: Snapshot[Config], new: Snapshot[Config]) -> None:
        seen.append(new.config.number)

    assert (live.current.config.number, flag(live)) == (77, False)
    assert len(live.status.overrides) == 3
    wanted = repo.publish({BASE: "number: 5\n"})
    assert live.wait_for(wanted).config.number == 5
    assert flag(live)
    assert seen[-1] == 5
    assert live.status.overrides == ()
    assert "the time of the local settings is over: LIVECFG_SET_number, LIVECFG_KILL=new-cart, LIVECFG_HOLD=" in caplog.text


@pytest.fixture
def other(repo: ConfigRepo) -> str:
    """A branch that is ahead of main, with a number of its own."""
    repo.branch("other")
    repo.switch("other")
    for number in (70, 77):
        repo.commit({BASE: f"number: {number}\n"})
    repo.push("other")
    repo.switch("main")
    return "other"


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()  # noqa: TID251 - the client reads the real clock


def test_another_ref_ends_with_their_time_too_and_the_main_one_is_followed(
    repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setenv("LIVECFG_OVERRIDES_UNTIL", in_seconds(6))
    monkeypatch.setenv("LIVECFG_REF", other)
    live = make(poll_interval_s=300.0)
    seen: list[tuple[int, int]] = []

    @live.on_change()
    def noted(old: Snapshot[Config], new: Snapshot[Config]) -> None:
        seen.append((old.config.number, new.config.number))

    assert live.current.config.number == 77
    assert live.status.overrides == ("LIVECFG_REF=other",)
    eventually(lambda: live.current.config.number == 1, state=lambda: live.status)  # although main has fewer commits
    assert live.current.revision.ref == "main"
    eventually(lambda: live.status.condition is Condition.READY, state=lambda: live.status)
    assert (live.status.overrides, live.status.drift, seen) == ((), (), [(77, 1)])
    assert live.wait_for(repo.publish({BASE: "number: 2\n"})).config.number == 2


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("variable", "value"), [("REF", "other"), ("SET_number", "77"), ("KILL", "new-cart"), ("HOLD", "0" * 40)]
)
def test_what_is_over_at_the_start_counts_nowhere_and_gets_around_no_policy(
    repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    tip = repo.publish({POLICY: yaml.safe_dump(repo.policy(protected={"envs": ["prod"]}))})
    monkeypatch.setenv("LIVECFG_OVERRIDES_UNTIL", in_seconds(-60))
    monkeypatch.setenv(f"LIVECFG_{variable}", value)
    for _ in range(2):  # the second time from what is remembered
        live = make().start()
        assert live.current.revision.commit == tip
        assert (live.current.config.number, flag(live), live.status.overrides) == (1, True, ())
        live.stop()


def test_in_a_working_tree_their_time_ends_too(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "config").mkdir(parents=True)
    (tree / "livecfg.yaml").write_text("version: 1\nlayers: [config/base.yaml]\n")
    (tree / "config/base.yaml").write_text("number: 2\n")
    monkeypatch.setenv("LIVECFG_OVERRIDES_UNTIL", in_seconds(3))
    monkeypatch.setenv("LIVECFG_SET_number", "77")
    live = make(source=UnsafeNoVerification(tree), trusted_root=None, poll_interval_s=300.0)
    assert live.current.config.number == 77
    assert live.status.overrides == ("LIVECFG_SET_number",)
    eventually(lambda: live.current.config.number == 2)
    assert live.status.overrides == ()


@pytest.mark.parametrize("text", ["tomorrow", "2026-11-27T18:00", "1764266400"])
def test_a_time_without_a_zone_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(LivecfgError, match="LIVECFG_OVERRIDES_UNTIL: expected a time with its zone"):
        read_environment({"LIVECFG_OVERRIDES_UNTIL": text})
