"""Flag clients whose engine is Rust, fed as those of benchmarks/clients.py are."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

from benchmarks.clients import FOLDER, attributes_of

if TYPE_CHECKING:
    from benchmarks.clients import Ask
    from benchmarks.constants import Constants


def eppo(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """Eppo's client (Rust), over an initial configuration and without polling."""
    from eppo_client import ClientConfig, Configuration, init  # type: ignore[import-not-found]
    from eppo_client.assignment_logger import AssignmentLogger  # type: ignore[import-not-found]

    def rule(*tests: tuple[str, str, Any]) -> dict[str, Any]:
        return {"conditions": [{"attribute": name, "operator": operator, "value": value} for name, operator, value in tests]}

    def split(key: str, variant: str, start: int, end: int) -> dict[str, Any]:
        return {"variationKey": variant, "shards": [{"salt": key, "ranges": [{"start": start, "end": end}]}]}

    newer = (("age", "GTE", 18), ("version", "GTE", "2.0.0"))
    rules: dict[str, list[Any]] = {
        "W2": [rule(("country", "ONE_OF", of.countries))],
        "W4": [rule(("country", "ONE_OF", [country]), *newer) for country in of.countries],
        "W5": [rule(("id", "ONE_OF", of.segment))],
    }
    flags = {}
    for key in keys:
        drawn = key[:2] == "W6"
        splits = [split(key, "on", 0, 1_000 if key[:2] == "W3" else 10_000)]
        if drawn:
            splits = [split(key, name, i * 2_500, (i + 1) * 2_500) for i, name in enumerate("abcd")]
        first = {"key": "first", "rules": rules.get(key[:2], []), "splits": splits, "doLog": False}
        rest = {"key": "rest", "splits": [{"variationKey": "a" if drawn else "off", "shards": []}], "doLog": False}
        values: dict[str, Any] = {name: name for name in "abcd"} if drawn else {"on": True, "off": False}
        flags[key] = {
            "key": key, "enabled": True, "variationType": "STRING" if drawn else "BOOLEAN", "totalShards": 10_000,
            "variations": {name: {"key": name, "value": value} for name, value in values.items()},
            "allocations": [rest] if key[:2] == "W1" else [first, rest],
        }  # fmt: skip
    whole = {"createdAt": "2026-01-01T00:00:00Z", "format": "SERVER", "environment": {"name": "bench"}, "flags": flags}
    held = Configuration(flags_configuration=json.dumps(whole).encode())
    client = init(
        ClientConfig("offline", assignment_logger=AssignmentLogger(), poll_interval_seconds=None, initial_configuration=held)
    )
    unit, given = context["targetingKey"], attributes_of(context)

    def ask(key: str) -> Any:
        if key.startswith("W6"):
            return client.get_string_assignment(key, unit, given, "a")
        return client.get_boolean_assignment(key, unit, given, False)  # noqa: FBT003 - the peer's signature

    return ask


def statsig(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """Statsig's client (Rust), over a data store and with its network off; W6 is a dynamic config."""
    from statsig_python_core import (  # type: ignore[import-not-found]
        DataStore,
        Statsig,
        StatsigOptions,
        StatsigUser,
    )
    from statsig_python_core.data_store import DataStoreResponse  # type: ignore[import-not-found]

    unit = {"isDeviceBased": False, "idType": "userID"}
    conditions: dict[str, Any] = {}

    def test(name: str, kind: str, field: str | None, operator: str | None, target: Any, salt: str = "") -> str:
        conditions[name] = unit | {
            "type": kind, "field": field, "operator": operator, "targetValue": target,
            "additionalValues": {"salt": salt} if salt else {},
        }  # fmt: skip
        return name

    def rule(key: str, number: int, tests: list[str], share: int = 100, value: Any = True) -> dict[str, Any]:  # noqa: FBT002 - theirs
        name = f"{key}-{number}"
        return unit | {
            "name": name, "id": name, "salt": name, "passPercentage": share, "conditions": tests, "returnValue": value,
        }  # fmt: skip

    def spec(key: str, kind: str, rules: list[Any], default: Any) -> dict[str, Any]:
        return unit | {
            "type": kind, "entity": kind, "salt": key, "enabled": True, "defaultValue": default, "rules": rules, "version": 1,
        }  # fmt: skip

    newer = [test("adult", "user_field", "age", "gte", 18), test("newer", "user_field", "version", "version_gte", "2.0.0")]
    gates, configs = {}, {}
    for key in keys:
        shape, rules = key[:2], []
        if shape == "W2":
            rules = [rule(key, 0, [test("countries", "user_field", "country", "any", of.countries)])]
        elif shape == "W3":
            rules = [rule(key, 0, [test("everyone", "public", None, None, None)], 10)]
        elif shape == "W4":
            for number, country in enumerate(of.countries):
                rules.append(rule(key, number, [test(country, "user_field", "country", "any", [country]), *newer]))
        elif shape == "W5":
            rules = [rule(key, 0, [test("segment", "user_field", "userID", "any", of.segment)])]
        elif shape == "W6":
            for number, name in enumerate("abcd"):
                below = test(f"{key}-{number}", "user_bucket", None, "lt", (number + 1) * 250, key)
                rules.append(rule(key, number, [below], 100, {"arm": name}))
            configs[key] = spec(key, "dynamic_config", rules, {"arm": "a"})
        if shape != "W6":
            gates[key] = spec(key, "feature_gate", rules, default=False)
    whole = {
        "has_updates": True, "time": 1, "feature_gates": gates, "dynamic_configs": configs, "layer_configs": {},
        "experiment_to_layer": {}, "condition_map": conditions,
    }  # fmt: skip
    specs = json.dumps(whole)

    class Held(DataStore):  # type: ignore[misc]
        """Gives the one set of specs."""

        def get(self, key: str) -> Any:
            del key
            return DataStoreResponse(result=specs, time=1)

    options = StatsigOptions(
        disable_network=True,
        disable_all_logging=True,
        disable_country_lookup=True,
        disable_disk_access=True,
        output_log_level="error",  # it warns that the store gives text
        data_store=Held(),
    )
    client = Statsig("secret-offline", options)
    client.initialize().wait()
    given = attributes_of(context)
    user = StatsigUser(user_id=context["targetingKey"], country=given.pop("country"), custom=given)

    def ask(key: str) -> Any:
        if key.startswith("W6"):
            return client.get_dynamic_config(user, key).value["arm"]
        return client.check_gate(user, key)

    return ask


def unleash(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """Unleash's client (its engine is Rust), over a bootstrapped cache and without fetching, metrics or registration."""
    from UnleashClient import UnleashClient  # type: ignore[import-not-found]
    from UnleashClient.cache import FileCache  # type: ignore[import-not-found]

    logging.getLogger("UnleashClient").setLevel(logging.ERROR)

    def test(name: str, operator: str, value: str = "", values: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"contextName": name, "operator": operator, "value": value, "values": list(values)}

    def strategy(*tests: dict[str, Any]) -> dict[str, Any]:
        return {"name": "default", "parameters": {}, "constraints": list(tests)}

    newer = (test("age", "NUM_GTE", "18"), test("version", "SEMVER_GT", "1.9.9"))
    tenth = {"rollout": "10", "stickiness": "userId", "groupId": "W3"}
    shapes: dict[str, list[Any]] = {
        "W1": [],
        "W2": [strategy(test("country", "IN", values=tuple(of.countries)))],
        "W3": [{"name": "flexibleRollout", "parameters": tenth, "constraints": []}],
        "W4": [strategy(test("country", "IN", values=(country,)), *newer) for country in of.countries],
        "W5": [strategy(test("userId", "IN", values=tuple(of.segment)))],
        "W6": [strategy()],
    }
    arms = [{"name": name, "weight": 250, "weightType": "fix", "stickiness": "userId"} for name in "abcd"]
    features = [
        {
            "name": key, "enabled": key[:2] != "W1", "type": "release", "strategies": shapes[key[:2]],
            "variants": arms if key[:2] == "W6" else [],
        }
        for key in keys
    ]  # fmt: skip
    cache = FileCache("bench", directory=FOLDER.name)
    cache.bootstrap_from_dict({"version": 2, "features": features})
    client = UnleashClient("http://127.0.0.1:9/api", "bench", disable_metrics=True, disable_registration=True, cache=cache)
    client.initialize_client(fetch_toggles=False)
    given = {"userId": context["targetingKey"], "properties": {k: str(v) for k, v in attributes_of(context).items()}}
    return lambda key: client.get_variant(key, given)["name"] if key.startswith("W6") else client.is_enabled(key, given)


def flipt(keys: list[str], context: dict[str, Any], of: Constants) -> Ask:
    """Flipt's client (its engine is Rust), over what a server on loopback gives it: without one it does not start.

    It compares no versions, so W4 is left out.
    """
    from flipt_client import FliptClient  # type: ignore[import-not-found]
    from flipt_client.models import ClientOptions  # type: ignore[import-not-found]

    def group(*tests: tuple[str, list[str]]) -> dict[str, Any]:
        kind = "STRING_CONSTRAINT_COMPARISON_TYPE"
        members = [{"type": kind, "property": name, "operator": "isoneof", "value": json.dumps(v)} for name, v in tests]
        return {"key": "group", "matchType": "ALL_SEGMENT_MATCH_TYPE", "constraints": members}

    def rollout(*tests: tuple[str, list[str]]) -> dict[str, Any]:
        return {"segment": {"segmentOperator": "OR_SEGMENT_OPERATOR", "value": True, "segments": [group(*tests)]}}

    shares = [{"variantKey": name, "rollout": 25.0} for name in "abcd"]
    rules = [{"segments": [group()], "segmentOperator": "OR_SEGMENT_OPERATOR", "distributions": shares}]
    rollouts: dict[str, list[Any]] = {
        "W2": [rollout(("country", of.countries))],
        "W3": [{"threshold": {"percentage": 10.0, "value": True}}],
        "W5": [rollout(("targetingKey", of.segment))],
    }
    flags = []
    for key in (key for key in keys if key[:2] != "W4"):
        drawn = key[:2] == "W6"
        kind = "VARIANT_FLAG_TYPE" if drawn else "BOOLEAN_FLAG_TYPE"
        parts = {"rules": rules if drawn else [], "rollouts": rollouts.get(key[:2], [])}
        flags.append({"key": key, "name": key, "type": kind, "enabled": drawn, **parts})
    body = json.dumps({"namespace": {"key": "default"}, "flags": flags}).encode()

    class Answer(BaseHTTPRequestHandler):
        """Answers with the flags."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)  # it asks twice, and aborts the process where nobody answers
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = FliptClient(ClientOptions(url=f"http://127.0.0.1:{server.server_port}", update_interval=86_400))
    unit, given = context["targetingKey"], {k: str(v) for k, v in context.items() if k != "user"}

    def ask(key: str) -> Any:
        if key.startswith("W6"):
            return client.evaluate_variant(key, unit, given).variant_key
        return client.evaluate_boolean(key, unit, given).enabled

    return ask
