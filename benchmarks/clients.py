"""Other flag clients in Python, each fed with the flags of benchmarks/evaluate.py from local data: one function for each.

A function gives what asks its client for a flag by key, for the context it was given; it makes what the client lets an
application keep (a user, a context) once. W6 asks for one of four names, the others for a boolean.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.constants import Constants

    Ask = Callable[[str], Any]

FOLDER = tempfile.TemporaryDirectory(prefix="livecfg-peers-")  # until the interpreter ends: some look at their file at each call


def written(name: str, data: Any) -> str:
    """Write `data` as JSON; gives the path."""
    path = Path(FOLDER.name) / name
    path.write_text(json.dumps(data), "utf-8")
    return str(path)


def _default(key: str) -> Any:
    return "a" if key.startswith("W6") else False


def attributes_of(context: dict[str, Any]) -> dict[str, Any]:
    """Give the attributes beside the unit that every client can hold."""
    return {k: v for k, v in context.items() if k not in {"targetingKey", "user"}}


def flagd_core(flags: dict[str, Any], context: dict[str, Any]) -> Ask:
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


def growthbook(keys: list[str], context: dict[str, Any], of: Callable[[int], Constants]) -> Ask:
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


def launchdarkly(keys: list[str], context: dict[str, Any], of: Callable[[int], Constants]) -> Ask:
    """LaunchDarkly's client, over its file data source."""
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
    source = Files.new_data_source(paths=[written("launchdarkly.json", {"flags": made})], auto_update=False)
    client = ldclient.LDClient(ldclient.Config("sdk", update_processor_class=source, send_events=False), start_wait=30)
    attributes = {k: v for k, v in context.items() if k not in {"targetingKey", "user"}}
    given = ldclient.Context.from_dict({"kind": "user", "key": context["targetingKey"], **attributes})
    return lambda key: client.variation(key, given, "a" if key.startswith("W6") else False)


def flagd_provider(flags: dict[str, Any], context: dict[str, Any]) -> Ask:
    """Flagd's provider for OpenFeature with its file resolver, without the OpenFeature client around it."""
    from openfeature.contrib.provider.flagd import FlagdProvider  # type: ignore[import-not-found]
    from openfeature.contrib.provider.flagd.config import ResolverType  # type: ignore[import-not-found]
    from openfeature.evaluation_context import EvaluationContext

    path = written("flagd.json", {"flags": flags})
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=path)
    provider.initialize(EvaluationContext())
    given = EvaluationContext(context["targetingKey"], {k: v for k, v in context.items() if k != "targetingKey"})

    def ask(key: str) -> Any:
        if key.startswith("W6"):
            return provider.resolve_string_details(key, "a", given).value
        return provider.resolve_boolean_details(key, False, given).value  # noqa: FBT003 - the peer's signature

    return ask


def configcat(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """ConfigCat's client, over its local file overrides alone; it looks at the file's time at each call."""
    import configcatclient  # type: ignore[import-not-found]
    from configcatclient.configcatoptions import ConfigCatOptions  # type: ignore[import-not-found]
    from configcatclient.localfiledatasource import LocalFileFlagOverrides  # type: ignore[import-not-found]
    from configcatclient.overridedatasource import OverrideBehaviour  # type: ignore[import-not-found]
    from configcatclient.user import User  # type: ignore[import-not-found]

    one_of, number_at_least, version_at_least = 0, 15, 9  # its comparators

    def when(*tests: tuple[str, int, str, Any]) -> dict[str, Any]:
        return {"c": [{"u": {"a": name, "c": code, kind: value}} for name, code, kind, value in tests], "s": {"v": {"b": True}}}

    newer = (("age", number_at_least, "d", 18), ("version", version_at_least, "s", "2.0.0"))
    off = {"t": 0, "v": {"b": False}}
    shapes: dict[str, dict[str, Any]] = {
        "W1": off,
        "W2": off | {"r": [when(("country", one_of, "l", of.countries))]},
        "W3": off | {"p": [{"p": 10, "v": {"b": True}}, {"p": 90, "v": {"b": False}}]},
        "W4": off | {"r": [when(("country", one_of, "l", [country]), *newer) for country in of.countries]},
        "W5": off | {"r": [when(("Identifier", one_of, "l", of.segment))]},
        "W6": {"t": 1, "v": {"s": "a"}, "p": [{"p": 25, "v": {"s": name}} for name in "abcd"]},
    }
    path = written("configcat.json", {"p": {"u": "", "r": 0, "s": "bench"}, "f": {key: shapes[key[:2]] for key in keys}})
    overrides = LocalFileFlagOverrides(path, OverrideBehaviour.LocalOnly)
    client = configcatclient.get("bench", ConfigCatOptions(offline=True, flag_overrides=overrides))
    user = User(context["targetingKey"], custom=attributes_of(context))
    return lambda key: client.get_value(key, _default(key), user)


def optimizely(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """Optimizely's client, over a datafile; decisions send no events."""
    from optimizely.decision.optimizely_decide_option import OptimizelyDecideOption  # type: ignore[import-not-found]
    from optimizely.helpers.sdk_settings import OptimizelySdkSettings  # type: ignore[import-not-found]
    from optimizely.optimizely import Optimizely  # type: ignore[import-not-found]

    def test(name: str, value: Any, match: str = "exact") -> dict[str, Any]:
        return {"match": match, "name": name, "type": "custom_attribute", "value": value}

    newer = [test("age", 18, "ge"), test("version", "2.0.0", "semver_ge")]
    audiences: dict[str, list[Any]] = {
        "W2": ["or", *(test("country", country) for country in of.countries)],
        "W4": ["or", *(["and", test("country", country), *newer] for country in of.countries)],
        "W5": ["or", *(test("targetingKey", unit) for unit in of.segment)],
    }
    flags, rollouts, used = [], [], []
    for key in keys:
        shape = key[:2]
        if shape in audiences:
            used.append({"id": key, "name": key, "conditions": audiences[shape]})
        arms = "abcd" if shape == "W6" else ["on"]
        ends = [2_500, 5_000, 7_500, 10_000] if shape == "W6" else [{"W1": 0, "W3": 1_000}.get(shape, 10_000)]
        rule = {
            "id": f"rule-{key}", "key": f"rule-{key}", "status": "Running", "layerId": key, "forcedVariations": {},
            "audienceIds": [key] if shape in audiences else [],
            "variations": [{"id": f"{key}-{arm}", "key": arm, "featureEnabled": True, "variables": []} for arm in arms],
            "trafficAllocation": [{"entityId": f"{key}-{arm}", "endOfRange": end} for arm, end in zip(arms, ends, strict=True)],
        }  # fmt: skip
        rollouts.append({"id": f"rollout-{key}", "experiments": [rule]})
        flags.append({"id": key, "key": key, "rolloutId": f"rollout-{key}", "experimentIds": [], "variables": []})
    attributes = {"targetingKey": context["targetingKey"], **attributes_of(context)}
    datafile = {
        "version": "4", "accountId": "1", "projectId": "1", "revision": "1", "anonymizeIP": True, "botFiltering": False,
        "events": [], "groups": [], "experiments": [], "audiences": [audience | {"conditions": "[]"} for audience in used],
        "typedAudiences": used, "featureFlags": flags, "rollouts": rollouts,
        "attributes": [{"id": name, "key": name} for name in attributes],
    }  # fmt: skip
    client = Optimizely(json.dumps(datafile), settings=OptimizelySdkSettings(odp_disabled=True))
    user = client.create_user_context(context["targetingKey"], attributes)
    options = [OptimizelyDecideOption.DISABLE_DECISION_EVENT]

    def ask(key: str) -> Any:
        decision = user.decide(key, options)
        return decision.variation_key if key.startswith("W6") else decision.enabled

    return ask
