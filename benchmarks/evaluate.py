"""Evaluating flags: nanoseconds of CPU per call, against hand-written floors in the same interleaved run.

W1 static boolean, W2 a text in a list of 10, W3 10 % by user id, W4 ten rules of three conditions with a version (the last
matches), W5 a segment of 1,000, W6 four variants, W7 the mean over all of 1,000 flags. The floors do no type check, cannot
fail over to a default and explain nothing: `function` is what a person would write for that one flag, `client` adds a
look-up by key, `details` the slotted result object.
"""

from __future__ import annotations

import importlib.util
import json
import time
from typing import TYPE_CHECKING, Any

from mmh3 import hash as murmur3

from benchmarks.figures import Figure, interleaved_ns, ratio, show
from livecfg.document import Document, DocumentLimits, read
from livecfg.flags.evaluate import Evaluation, Reason
from livecfg.flags.flag import CompiledFlag, compile_flags
from livecfg.flags.targeting import Dialect
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPS = 20_000
COUNTRIES = ["DE", "FR", "IT", "ES", "PT", "NL", "BE", "AT", "CH", "PL"]
SEGMENT = [f"user-{i}" for i in range(1000)]
BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
CONTEXT: dict[str, Any] = {"targetingKey": "user-500", "country": "PL", "age": 30, "version": "2.4.1", "user": {"id": "user-500"}}


def _rule(country: str) -> dict[str, Any]:
    newer = {"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}
    return {"and": [{"==": [{"var": "country"}, country]}, {">=": [{"var": "age"}, 18]}, newer]}


def documents() -> dict[str, Any]:
    """Give the flags of W1 to W6."""
    letters = {"state": "ENABLED", "variants": {k: k for k in "abcd"}, "defaultVariant": "a"}
    clauses: list[Any] = []
    for country in COUNTRIES:
        clauses += [_rule(country), "on"]
    return {
        "W1": BOOLEAN,
        "W2": {**BOOLEAN, "targeting": {"if": [{"in": [{"var": "country"}, COUNTRIES]}, "on", "off"]}},
        "W3": {**BOOLEAN, "targeting": {"fractional": [["on", 10], ["off", 90]]}},
        "W4": {**BOOLEAN, "targeting": {"if": [*clauses, "off"]}},
        "W5": {**BOOLEAN, "targeting": {"if": [{"in": [{"var": "targetingKey"}, SEGMENT]}, "on", "off"]}},
        "W6": {**letters, "targeting": {"fractional": [["a", 25], ["b", 25], ["c", 25], ["d", 25]]}},
    }


def functions() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Give a hand-written function for each of W1 to W6."""
    countries, segment, parsed = frozenset(COUNTRIES), frozenset(SEGMENT), {"2.4.1": (2, 4, 1)}

    def w1(_: dict[str, Any]) -> bool:
        return False

    def w2(c: dict[str, Any]) -> bool:
        return c.get("country") in countries

    def w3(c: dict[str, Any]) -> bool:
        return murmur3("W3" + c["targetingKey"], 0, False) * 100 >> 32 < 10  # noqa: FBT003 - signed=False

    def w5(c: dict[str, Any]) -> bool:
        return c.get("targetingKey") in segment

    def w6(c: dict[str, Any]) -> str:
        bucket = murmur3("W6" + c["targetingKey"], 0, False) * 100 >> 32  # noqa: FBT003 - signed=False
        if bucket < 25:
            return "a"
        if bucket < 50:
            return "b"
        return "c" if bucket < 75 else "d"

    lines = ["def w4(c):"]
    for country in COUNTRIES:
        test = f"c.get('country') == {country!r} and c.get('age') >= 18 and parsed[c.get('version')] >= (2, 0, 0)"
        lines += [f"    if {test}:", "        return True"]
    names: dict[str, Any] = {"parsed": parsed}
    exec("\n".join([*lines, "    return False"]), names)  # noqa: S102 - our own text: ten lines alike
    return {"W1": w1, "W2": w2, "W3": w3, "W4": names["w4"], "W5": w5, "W6": w6}


class Client:
    """The least that a client is: a look-up by key."""

    def __init__(self, by_key: dict[str, Callable[[dict[str, Any]], Any]]) -> None:
        self.by_key = by_key

    def flag(self, key: str, default: Any, context: dict[str, Any]) -> Any:
        try:
            return self.by_key[key](context)
        except Exception:  # noqa: BLE001 - as any client would
            return default

    def details(self, key: str, default: Any, context: dict[str, Any]) -> Evaluation[Any]:
        try:
            value = self.by_key[key](context)
        except Exception:  # noqa: BLE001 - as any client would
            return Evaluation(default, None, Reason.ERROR, None, "r", "", None, {})
        return Evaluation(value, "on", Reason.TARGETING_MATCH, None, "r", "", None, {})


def _loop(call: Callable[..., Any], *arguments: Any) -> Callable[[int], None]:
    def run(n: int) -> None:
        for _ in range(n):
            call(*arguments)

    return run


def _bare(n: int) -> None:
    for _ in range(n):
        pass


def _peer(flags: dict[str, Any]) -> tuple[str, Callable[[str], Callable[[int], None]]] | None:
    if importlib.util.find_spec("openfeature") is None or importlib.util.find_spec("openfeature.contrib") is None:
        return None
    from openfeature.contrib.tools.flagd.core import FlagdCore  # type: ignore[import-not-found]
    from openfeature.evaluation_context import EvaluationContext

    core = FlagdCore()
    core.set_flags(json.loads(json.dumps({"flags": flags})))
    context = EvaluationContext(str(CONTEXT["targetingKey"]), {k: v for k, v in CONTEXT.items() if k != "targetingKey"})
    return "openfeature-flagd-core", lambda key: _loop(
        core.resolve_string_value if key == "W6" else core.resolve_boolean_value, key, "a" if key == "W6" else False, context
    )


def evaluations() -> list[Figure]:
    """Measure W1 to W6."""
    flags, floor = documents(), functions()
    view = snapshot(flags={"flags": flags}).view(CONTEXT)
    client = Client(floor)
    peer = _peer(flags)
    figures = []
    for key, function in floor.items():
        default = "a" if key == "W6" else False
        if view.flag(key, default) != function(CONTEXT):
            raise SystemExit(f"{key}: the flag and its floor differ")
        calls = {
            "bare": _bare,
            "function": _loop(function, CONTEXT),
            "client": _loop(client.flag, key, default, CONTEXT),
            "details": _loop(client.details, key, default, CONTEXT),
            "flag": _loop(view.flag, key, default),
            "evaluate": _loop(view.evaluate, key, default),
        }
        if peer is not None:
            calls[peer[0]] = peer[1](key)
        ns = interleaved_ns(calls, loops=LOOPS if key != "W5" or peer is None else LOOPS // 20)
        ns = {name: value - ns["bare"] for name, value in ns.items()}
        figures += [
            Figure(f"{key} floor: function", ns["function"], "ns"),
            Figure(f"{key} floor: client", ns["client"], "ns"),
            Figure(f"{key} view.flag", ns["flag"], "ns", "floor: client", ratio(ns["flag"], ns["client"])),
            Figure(f"{key} view.evaluate", ns["evaluate"], "ns", "floor: details", ratio(ns["evaluate"], ns["details"])),
        ]
        if peer is not None:
            figures.append(Figure(f"{key} {peer[0]}", ns[peer[0]], "ns", "view.flag", ratio(ns[peer[0]], ns["flag"])))
    return figures


def thousand() -> list[Figure]:
    """Measure W7, and what it costs to load its 1,000 flags."""
    six = documents()
    flags = {f"{key}-{i}": six[key] for i in range(167) for key in six}
    while len(flags) > 1000:
        flags.popitem()
    document = read(json.dumps({"flags": flags}).encode(), "flags.json", DocumentLimits(size_bytes=1 << 23, nodes=1 << 20))
    made = _compile(document)
    view = snapshot(flags={"flags": {}}).view(CONTEXT)
    view._serve.update({key: flag.serve for key, flag in made.items()})  # noqa: SLF001 - beyond one document's limit of 1 MiB
    client = Client({f"{key}-{i}": function for i in range(167) for key, function in functions().items()})
    asks = [(key, "a" if key.startswith("W6") else False) for key in flags]

    def ours(n: int) -> None:
        flag = view.flag
        for _ in range(n):
            for key, default in asks:
                flag(key, default)

    def floor(n: int) -> None:
        flag = client.flag
        for _ in range(n):
            for key, default in asks:
                flag(key, default, CONTEXT)

    ns = interleaved_ns({"flag": ours, "client": floor}, loops=20)
    return [
        Figure("W7 floor: client", ns["client"] / 1000, "ns"),
        Figure("W7 view.flag", ns["flag"] / 1000, "ns", "floor: client", ratio(ns["flag"], ns["client"])),
        *_loads(flags, document, made),
    ]


def _loads(flags: dict[str, Any], document: Document, made: dict[str, CompiledFlag]) -> list[Figure]:
    """Measure a load of all flags, and a load of the same flags with one of them changed, both after the parser."""
    key = next(key for key in flags if key.startswith("W2"))
    edited = Document(document.path, b"", {"flags": json.loads(json.dumps(flags | {key: BOOLEAN}))})
    load, reload = _compile_ms(document, None), _compile_ms(edited, made)
    return [
        Figure("load 1,000 flags, parsed", load, "ms"),
        Figure("reload, 1 of 1,000 changed, parsed", reload, "ms", "load", ratio(reload, load)),
    ]


def _clock() -> int:
    return 0


def _compile(document: Document, before: dict[str, CompiledFlag] | None = None) -> dict[str, CompiledFlag]:
    return compile_flags(document, Dialect("v2", "strict", {}, {}, _clock), before)


def _compile_ms(document: Document, before: dict[str, CompiledFlag] | None) -> float:
    taken = []
    for _ in range(7):
        started = time.process_time_ns()
        _compile(document, before)
        taken.append((time.process_time_ns() - started) / 1e6)
    return sorted(taken)[3]


if __name__ == "__main__":
    if _peer({}) is None:
        print("skipped: openfeature-flagd-core (not installed)")
    show("Evaluation, ns of CPU per call", evaluations())
    show("A thousand flags", thousand())
