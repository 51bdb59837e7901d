"""Peers of benchmarks/evaluate.py: other flag clients, fed offline with the same six flags; PEERS=1 asks for them.

They live in an environment of their own, .venv/peers/bench, made on first use, which also sees the project's environment: so all
run in one process, interleaved. Left out, since they take their flags from a server of theirs only: flipt-client, statsig, eppo.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.constants import Constants

Asked = dict[str, "Callable[[str], Any]"]
PINS = ("openfeature-flagd-core==2.0.0", "growthbook==4.0.0", "launchdarkly-server-sdk==9.20.0")
HOME = Path(__file__).parents[1] / ".venv" / "peers" / "bench"


def enter() -> bool:
    """Run this program again where the peers are installed, if PEERS=1 asks for them; tell whether they are there."""
    if not os.environ.get("PEERS"):
        print("skipped: peers (PEERS=1 installs and measures " + ", ".join(PINS) + ")")
        return False
    if Path(sys.prefix) == HOME:
        return True
    if not (HOME / "ready").exists():
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run([HOME / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS], check=True)
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (next(HOME.glob("lib/python*/site-packages")) / "zz-livecfg.pth").write_text(f"{ours}\n{Path(__file__).parents[1]}\n")
        (HOME / "ready").touch()
    raise SystemExit(subprocess.run([HOME / "bin/python", *sys.argv], check=False).returncode)


def flagd_core(flags: dict[str, Any], context: dict[str, Any]) -> Callable[[str], Any]:
    """The official Python evaluator of flagd's format."""
    from openfeature.contrib.tools.flagd.core import FlagdCore  # type: ignore[import-not-found]
    from openfeature.evaluation_context import EvaluationContext

    core = FlagdCore()
    core.set_flags(json.loads(json.dumps({"flags": flags})))  # it edits what it is given
    given = EvaluationContext(context["targetingKey"], {k: v for k, v in context.items() if k != "targetingKey"})

    def ask(key: str) -> Any:
        if key.startswith("W6"):
            return core.resolve_string_value(key, "a", given).value
        return core.resolve_boolean_value(key, False, given).value  # noqa: FBT003 - the peer's signature

    return ask


def _number(key: str) -> int:
    """Give the number of a flag: 7 of `W4-7`, 0 of `W4`."""
    return int(key.partition("-")[2] or 0)


def growthbook(keys: list[str], context: dict[str, Any], of: Callable[[int], Constants]) -> Callable[[str], Any]:
    """GrowthBook's client."""
    from growthbook import GrowthBook  # type: ignore[import-not-found]

    def rules(key: str) -> list[dict[str, Any]]:
        mine = of(_number(key))
        limits = [{"age": {"$gte": age}, "version": {"$vgte": version}} for age, version in mine.limits]
        weights = [weight / 100 for weight in mine.weights]
        by_kind: dict[str, list[dict[str, Any]]] = {
            "W1": [],
            "W2": [{"condition": {"country": {"$in": mine.countries}}, "force": True}],
            "W3": [{"force": True, "coverage": mine.percent / 100, "hashAttribute": "targetingKey"}],
            "W4": [{"condition": {"country": c, **more}, "force": True} for c, more in zip(mine.countries, limits, strict=True)],
            "W5": [{"condition": {"targetingKey": {"$in": mine.segment}}, "force": True}],
            "W6": [{"variations": list("abcd"), "weights": weights, "hashAttribute": "targetingKey", "key": "W6"}],
        }
        return by_kind[key[:2]]

    features = {key: {"defaultValue": "a" if key[:2] == "W6" else False, "rules": rules(key)} for key in keys}
    client = GrowthBook(attributes=context, features=features)
    return lambda key: client.get_feature_value(key, "a" if key.startswith("W6") else False)


def launchdarkly(keys: list[str], context: dict[str, Any], of: Callable[[int], Constants]) -> Callable[[str], Any]:
    """LaunchDarkly's client, over its file data source."""
    import logging

    import ldclient  # type: ignore[import-not-found]
    from ldclient.integrations import Files  # type: ignore[import-not-found]

    logging.getLogger("ldclient").setLevel(logging.ERROR)

    def clause(attribute: str, operator: str, *values: Any) -> dict[str, Any]:
        return {"contextKind": "user", "attribute": attribute, "op": operator, "values": list(values), "negate": False}

    def rollout(*weights: int) -> dict[str, Any]:
        return {"rollout": {"variations": [{"variation": i, "weight": w} for i, w in enumerate(weights)]}}

    def limit(age: int, version: str) -> list[dict[str, Any]]:
        newer = clause("version", "semVerLessThan", version) | {"negate": True}
        return [clause("age", "greaterThanOrEqual", age), newer]

    old: dict[str, Any] = {"variation": 1}

    def shape(key: str) -> tuple[list[list[Any]], dict[str, Any]]:
        mine = of(_number(key))
        by_kind: dict[str, tuple[list[list[Any]], dict[str, Any]]] = {
            "W1": ([], old),
            "W2": ([[clause("country", "in", *mine.countries)]], old),
            "W3": ([], rollout(mine.percent * 1000, 100_000 - mine.percent * 1000)),
            "W4": ([[clause("country", "in", c), *limit(*at)] for c, at in zip(mine.countries, mine.limits, strict=True)], old),
            "W5": ([[clause("key", "in", *mine.segment)]], old),
            "W6": ([], rollout(*(weight * 1000 for weight in mine.weights))),
        }
        return by_kind[key[:2]]

    made = {}
    for key in keys:
        rules, fallthrough = shape(key)
        made[key] = {
            "key": key, "on": True, "version": 1, "salt": key, "offVariation": 1, "fallthrough": fallthrough, "targets": [],
            "variations": list("abcd") if key[:2] == "W6" else [True, False], "prerequisites": [],
            "rules": [{"id": str(i), "variation": 0, "clauses": clauses} for i, clauses in enumerate(rules)],
        }  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"flags": made}, file)
        file.flush()
        source = Files.new_data_source(paths=[file.name], auto_update=False)
        client = ldclient.LDClient(ldclient.Config("sdk", update_processor_class=source, send_events=False), start_wait=30)
    attributes = {k: v for k, v in context.items() if k not in {"targetingKey", "user"}}
    given = ldclient.Context.from_dict({"kind": "user", "key": context["targetingKey"], **attributes})
    return lambda key: client.variation(key, given, "a" if key.startswith("W6") else False)


def all_of(flags: dict[str, Any], context: dict[str, Any], of: Callable[[int], Constants]) -> Asked:
    """Give every peer, loaded with `flags`: W1 to W6, or many named W1-0, W2-0 and so on."""
    keys = list(flags)
    return {
        "openfeature-flagd-core": flagd_core(flags, context),
        "growthbook": growthbook(keys, context, of),
        "launchdarkly": launchdarkly(keys, context, of),
    }
