"""Reading configuration: nanoseconds of CPU per read against a frozen pydantic attribute, and the cost of the import."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel

from benchmarks.figures import Figure, interleaved_ns, ratio, show
from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.revision import Revision
from livecfg.signals import Signals
from livecfg.snapshot import Snapshot

LOOPS = 100_000


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


class Slotted:
    __slots__ = ("timeout_ms",)

    def __init__(self) -> None:
        self.timeout_ms = 200


def reads() -> list[Figure]:
    config, plain, namespace = Config(), Slotted(), SimpleNamespace(timeout_ms=200)
    live = LiveConfig(Config, source=UnsafeNoVerification(Path()), service="bench", env="dev")
    snapshot = Snapshot(
        Revision("main", "0" * 40), config, files={}, flags={}, splits={}, arms={}, recorder=Signals(), explainer=lambda _: None
    )
    live._publish(snapshot)  # noqa: SLF001 - what the follower does at a swap
    context = {"targetingKey": "u1"}

    def empty(n: int) -> None:
        for _ in range(n):
            pass

    def slot(n: int) -> None:
        for _ in range(n):
            plain.timeout_ms  # noqa: B018

    def attribute(n: int) -> None:
        for _ in range(n):
            namespace.timeout_ms  # noqa: B018

    def pydantic_attribute(n: int) -> None:
        for _ in range(n):
            config.timeout_ms  # noqa: B018

    def held_snapshot(n: int) -> None:
        for _ in range(n):
            snapshot.config.timeout_ms  # noqa: B018

    def current(n: int) -> None:
        for _ in range(n):
            live.current.config.timeout_ms  # noqa: B018

    def view(n: int) -> None:
        for _ in range(n):
            snapshot.view(context)

    calls = {f.__name__: f for f in (empty, slot, attribute, pydantic_attribute, held_snapshot, current, view)}
    ns = interleaved_ns(calls, loops=LOOPS)
    floor = ns["pydantic_attribute"] - ns["empty"]
    names = {
        "slot": "plain slot",
        "attribute": "plain attribute",
        "pydantic_attribute": "frozen pydantic attribute (config.x)",
        "held_snapshot": "snapshot.config.x",
        "current": "live.current.config.x",
        "view": "snapshot.view(context)",
    }
    return [
        Figure(text, ns[name] - ns["empty"], "ns", "a frozen pydantic attribute", ratio(ns[name] - ns["empty"], floor))
        for name, text in names.items()
    ]


def import_cost() -> list[Figure]:
    """CPU of `import livecfg` and of pydantic with one model, minus the bare interpreter; median of 7, interleaved."""
    scripts = {
        "bare": "pass",
        "pydantic": "from pydantic import BaseModel\nclass M(BaseModel): x: int = 1",
        "livecfg": "import livecfg",
    }
    taken: dict[str, list[float]] = {name: [] for name in scripts}
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for round_ in range(8):
        for name, script in scripts.items():
            before = os.times()
            subprocess.run([sys.executable, "-c", script], check=True, env=environ)
            after = os.times()
            if round_:  # the first writes the bytecode
                used = after.children_user - before.children_user + after.children_system - before.children_system
                taken[name].append(used * 1e3)
    ms = {name: statistics.median(values) for name, values in taken.items()}
    floor = ms["pydantic"] - ms["bare"]
    return [
        Figure(
            "import livecfg",
            ms["livecfg"] - ms["bare"],
            "ms",
            "pydantic with one model",
            ratio(ms["livecfg"] - ms["bare"], floor),
        )
    ]


if __name__ == "__main__":
    show("Reading, ns of CPU per read", reads())
    show("Import, ms of CPU", import_cost())
