"""The metrics of one process, as a scrape sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.contrib.prometheus import register
from tests.e2e.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Config(BaseModel, frozen=True):
    number: int = 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\n")
    (tmp_path / "base.yaml").write_text("number: 1\n")
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev")
    yield made
    made.stop()


def scrape(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_registering_starts_nothing_and_the_first_scrape_says_so(live: LiveConfig[Config]) -> None:
    registry = CollectorRegistry()
    register(live, registry)
    found = scrape(registry)
    assert (found["livecfg_condition", "STARTING"], found["livecfg_condition", "READY"]) == (1, 0)
    assert not any(name[0] in {"livecfg_revision", "livecfg_position"} for name in found)


def test_a_scrape_tells_what_is_served_what_is_refused_and_what_was_measured(live: LiveConfig[Config], tree: Path) -> None:
    registry = CollectorRegistry()
    register(live, registry)
    commit = live.current.revision.commit
    with live.current.view({}).measure("request"):
        pass
    live.observe("basket", 12.5)
    found = scrape(registry)
    assert (found["livecfg_condition", "READY"], found["livecfg_revision", commit, "working-tree"]) == (1, 1)
    assert (found["livecfg_signal_values_total", "basket", commit[:10]], found["livecfg_behind",]) == (1, 0)
    assert found["livecfg_signal_sum_total", "basket", commit[:10]] == 12.5
    assert found["livecfg_signal_values_total", "request.latency", commit[:10]] == 1

    (tree / "base.yaml").write_text("number: s3cret\n")
    eventually(lambda: live.status.refusals, 10)
    found = scrape(registry)
    assert (found["livecfg_condition", "REFUSED"], found["livecfg_refusals",], found["livecfg_behind",]) == (1, 1, 1)
    assert found["livecfg_revision", commit, "working-tree"] == 1
    assert "s3cret" not in generate_latest(registry).decode()
