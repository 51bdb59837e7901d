"""An experiment from its signed commit to its verdict: Git, two processes, the hub, `exp show`, and its end by `exp stop`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.support import ROOT, Site, eventually
from tests.simulator.repo import isolated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAG = """
flags:
  copy:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"   # until we know better
"""
EXPERIMENT = """
experiment: copy
hypothesis: A shorter text lifts paid orders.
owner: checkout   # ask here
flag: copy
arms: {"off": {weight: 50}, "on": {weight: 50}}
metrics: {primary: {name: paid, goal: increase}, guardrails: [{name: spent, kind: mean, goal: increase, max_relative: 0.5}]}
until: 2999-01-31
"""


class Shop(Site):
    """A site with an experiment and a hub."""

    def start_hub(self) -> None:
        ready = self.path / "ready"
        ready.unlink(missing_ok=True)
        words = ["--source", str(self.repo.remote_path), "--trusted-root", str(self.trusted_root), "--listen", "127.0.0.1:0"]
        words += ["--home", str(self.path / "hub-home"), "--ready-file", str(ready)]
        self.hub = self.run(sys.executable, "-m", "livecfg", "hub", "serve", *words, log="hub.log")
        self.address = eventually(lambda: ready.read_text().strip() if ready.exists() else None, state=self.logs)

    def sell(self, first: int, last: int) -> subprocess.Popen[bytes]:
        words = ("-m", "tests.e2e.apps.shop", str(first), str(last))
        process = self.run(sys.executable, *words, log="shop.log", E2E_HUB=self.address)
        eventually((self.out / f"shop-{process.pid}.json").exists, 60, self.logs)
        return process

    def sold(self) -> Counter[str]:
        """What the processes counted themselves, added."""
        total: Counter[str] = Counter()
        for told in self.reports("shop-*.json"):
            total.update(told)
        return total

    def livecfg(self, *words: str, code: int = 0) -> str:
        environ = self.environment(**isolated(self.path), PYTHONPATH=str(ROOT), LIVECFG_HUB=self.address)
        command = [sys.executable, "-m", "livecfg", *words]
        done = subprocess.run(command, cwd=self.repo.work, env=environ, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.livecfg("exp", "show", "copy", "--service", "checkout", "--env", "prod", "-o", "json")
        )
        data: dict[str, Any] = found["data"]
        return data

    def agrees(self) -> dict[str, Any] | None:
        """Give what `exp show` says once it says what was sold, to the unit."""
        data = self.shown()
        sold = self.sold()
        shown = Counter({f"{arm} units": row["units"] for arm, row in data["arms"].items()})
        for metric in data["metrics"]:
            for arm, of in (("off", metric["control"]), (metric["arm"], metric["treatment"])):
                shown[f"{arm} {metric['metric']}"] = (
                    of["events"] if metric["metric"] == "paid" else round(of["mean"] * of["units"])
                )
        return data if shown == sold else None


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    files = {"flags/checkout/copy.yaml": FLAG, "experiments/checkout/copy.yaml": EXPERIMENT}
    with Shop(tmp_path, files=files) as made:
        made.start_hub()
        yield made


def test_an_experiment_from_a_signed_commit_to_its_verdict(shop: Shop) -> None:
    first, second = shop.sell(0, 900), shop.sell(900, 1500)
    data = eventually(shop.agrees, 60, shop.logs)
    assert data["processes"] == 2
    assert data["sample_ratio"]["mismatch"] is False
    assert data["not_counted"] == {"paid": 2}
    assert {m["metric"]: m["verdict"] for m in data["metrics"]} == {"paid": "open", "spent": "safe"}
    low, high = data["metrics"][0]["lift"]
    assert low < 0 < high

    for process in (first, second):  # whoever fetches is among them
        shop.end(process, signal.SIGKILL)
    shop.end(shop.hub)
    shop.start_hub()
    assert shop.agrees() is not None, shop.shown()

    third = shop.sell(1500, 1700)
    data = eventually(shop.agrees, 60, shop.logs)
    assert data["processes"] == 3
    shop.end(third)
    assert "sample ratio: ok" in shop.livecfg("exp", "show", "copy", "--service", "checkout", "--env", "prod")
