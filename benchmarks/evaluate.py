"""Evaluating flags: nanoseconds of CPU per call, against hand-written floors in the same interleaved run.

W1 static boolean, W2 a text in a list of 10, W3 10 % by user id, W4 ten rules of three conditions with a version (the last
matches), W5 a segment of 1,000, W6 four variants, W7 the mean over all of 1,000 flags. The floors do no type check, cannot
fail over to a default and explain nothing: `function` is what a person would write for that one flag, `client` adds a
look-up by key, `details` the slotted result object.

Where there are many flags, no two have the same constants: each has its own countries, ages, versions, user ids and weights, as
the flags of a repository have, so that a load pays for reading each of them. In every second flag the ten rules of W4 ask for
an age and a version each. Peers and floors get the same constants.
"""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

from mmh3 import hash as murmur3

from benchmarks import clients, peers
from benchmarks.constants import Constants, constants_of
from benchmarks.figures import Figure, interleaved_ns, ratio, show
from livecfg.document import Document, DocumentLimits, read
from livecfg.flags.evaluate import Evaluation, Reason
from livecfg.flags.file import FlagFile, read_flags
from livecfg.flags.flag import CompiledFlag, compile_flags
from livecfg.flags.generate import code_of
from livecfg.flags.targeting import Dialect
from livecfg.flags.templates import Templates
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from livecfg.snapshot import View

LOOPS = 20_000
WITH_PEERS = False
BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
CONTEXT: dict[str, Any] = {"targetingKey": "user-500", "country": "PL", "age": 30, "version": "2.4.1", "user": {"id": "user-500"}}


def documents(of: Constants = constants_of(0)) -> dict[str, Any]:  # noqa: B008 - a constant
    """Give the flags of W1 to W6, with constants of their own."""
    letters = {"state": "ENABLED", "variants": {k: k for k in "abcd"}, "defaultVariant": "a"}
    clauses: list[Any] = []
    for country, (age, version) in zip(of.countries, of.limits, strict=True):
        newer = {"sem_ver": [{"var": "version"}, ">=", version]}
        clauses += [{"and": [{"==": [{"var": "country"}, country]}, {">=": [{"var": "age"}, age]}, newer]}, "on"]
    return {
        "W1": BOOLEAN,
        "W2": {**BOOLEAN, "targeting": {"if": [{"in": [{"var": "country"}, of.countries]}, "on", "off"]}},
        "W3": {**BOOLEAN, "targeting": {"fractional": [["on", of.percent], ["off", 100 - of.percent]]}},
        "W4": {**BOOLEAN, "targeting": {"if": [*clauses, "off"]}},
        "W5": {**BOOLEAN, "targeting": {"if": [{"in": [{"var": "targetingKey"}, of.segment]}, "on", "off"]}},
        "W6": {**letters, "targeting": {"fractional": [[name, w] for name, w in zip("abcd", of.weights, strict=True)]}},
    }


def functions(of: Constants = constants_of(0), number: str = "") -> dict[str, Callable[[dict[str, Any]], Any]]:  # noqa: B008 - a constant
    """Give a hand-written function for each of W1 to W6; the flags' keys are `W1` + number and so on."""
    countries, segment, parsed = frozenset(of.countries), frozenset(of.segment), {"2.4.1": (2, 4, 1)}
    percent, (a, b, c, _) = of.percent, of.weights
    third, sixth = f"W3{number}", f"W6{number}"

    def w1(_: dict[str, Any]) -> bool:
        return False

    def w2(c: dict[str, Any]) -> bool:
        return c.get("country") in countries

    def w3(c: dict[str, Any]) -> bool:
        return murmur3(third + c["targetingKey"], 0, False) * 100 >> 32 < percent  # noqa: FBT003 - signed=False

    def w5(c: dict[str, Any]) -> bool:
        return c.get("targetingKey") in segment

    below_b, below_c, below_d = a, a + b, a + b + c

    def w6(c: dict[str, Any]) -> str:
        bucket = murmur3(sixth + c["targetingKey"], 0, False) * 100 >> 32  # noqa: FBT003 - signed=False
        if bucket < below_b:
            return "a"
        if bucket < below_c:
            return "b"
        return "c" if bucket < below_d else "d"

    lines = ["def w4(c):"]
    for country, (age, version) in zip(of.countries, of.limits, strict=True):
        newer = tuple(map(int, version.split(".")))
        test = f"c.get('country') == {country!r} and c.get('age') >= {age} and parsed[c.get('version')] >= {newer}"
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


def evaluations() -> list[Figure]:
    """Measure W1 to W6."""
    flags, floor = documents(), functions()
    view = snapshot(flags={"flags": flags}).view(CONTEXT)
    client = Client(floor)
    every = peers.all_of(flags, CONTEXT, constants_of) if WITH_PEERS else {}
    figures = []
    for key, function in floor.items():
        default = "a" if key == "W6" else False
        asked = {name: ask for name, ask in every.items() if (name, key) not in peers.LACKING}
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
        wrong = [name for name, ask in asked.items() if key not in {"W3", "W6"} and ask(key) != view.flag(key, default)]
        if wrong:  # what draws units by a hash of its own may differ
            raise SystemExit(f"{key}: {', '.join(wrong)} gives something else than livecfg")
        calls |= {name: _loop(ask, key) for name, ask in asked.items()}
        ns = interleaved_ns(calls, loops=LOOPS // 20 if asked else LOOPS)
        ns = {name: value - ns["bare"] for name, value in ns.items()}
        figures += [
            Figure(f"{key} floor: function", ns["function"], "ns"),
            Figure(f"{key} floor: client", ns["client"], "ns"),
            Figure(f"{key} view.flag", ns["flag"], "ns", "floor: client", ratio(ns["flag"], ns["client"])),
            Figure(f"{key} view.evaluate", ns["evaluate"], "ns", "floor: details", ratio(ns["evaluate"], ns["details"])),
        ]
        figures += [Figure(f"{key} {name}", ns[name], "ns", "view.flag", ratio(ns[name], ns["flag"])) for name in asked]
    return figures


def thousand() -> list[Figure]:
    """Measure W7, and what it costs to load its 1,000 flags."""
    flags = many(1_000, segments=True)
    document = read(json.dumps({"flags": flags}).encode(), "flags.json", DocumentLimits(size_bytes=1 << 23, nodes=1 << 20))
    made = _compile(document)
    view = _view_of(made)
    client = Client({f"{k}-{i}": f for i in range(167) for k, f in functions(constants_of(i), f"-{i}").items()})
    asks = [(key, "a" if key.startswith("W6") else False) for key in flags]
    wrong = [key for key, default in asks if view.flag(key, default) != client.flag(key, default, CONTEXT)]
    if wrong:
        raise SystemExit(f"{', '.join(wrong)}: the flag and its floor differ")

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


def _compile(
    document: Document, before: dict[str, CompiledFlag] | None = None, templates: Templates | None = None
) -> dict[str, CompiledFlag]:
    return compile_flags(document, Dialect("v2", "strict", {}, {}, _clock), before, templates)


def _compile_ms(document: Document, before: dict[str, CompiledFlag] | None) -> float:
    taken = []
    for _ in range(7):
        started = time.process_time_ns()
        _compile(document, before)
        taken.append((time.process_time_ns() - started) / 1e6)
    return sorted(taken)[3]


def many(count: int, *, segments: bool = False) -> dict[str, Any]:
    """Give that many flags, W1 to W6 in turn, each with constants of its own; W5 is W2 again unless `segments`."""
    flags = {}
    for i in range(count // 6 + 1):
        six = documents(constants_of(i))
        for key, flag in six.items():
            flags[f"{key}-{i}"] = six["W2"] if key == "W5" and not segments else flag
    return dict(list(flags.items())[:count])


def sizes() -> list[Figure]:
    """Measure one call among 10, 1,000 and 10,000 flags, and what they take in memory."""
    taken: dict[int, int] = {}
    calls: dict[str, Callable[[int], None]] = {"bare": _bare}
    for count in (10, 1_000, 10_000):
        document = Document("flags.json", b"", {"flags": json.loads(json.dumps(many(count)))})
        tracemalloc.start()
        made = _compile(document)
        view = _view_of(made)  # all have been asked for then
        taken[count] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        calls[f"{count:,}"] = _loop(view.flag, f"W2-{count // 6 - 1}", False)  # noqa: FBT003 - the default
    ns = interleaved_ns(calls, loops=LOOPS)
    figures = [Figure(f"memory of {count:,} flags beside their text", size / 1e6, "MB") for count, size in taken.items()]
    bare = ns.pop("bare")
    ns = {n: v - bare for n, v in ns.items()}
    return figures + [Figure(f"view.flag among {n}", v, "ns", "among 10", ratio(v, ns["10"])) for n, v in ns.items()]


def _view_of(made: dict[str, CompiledFlag]) -> View[Any]:
    """Give a view of flags that no one document could hold."""
    view = snapshot(flags={"flags": {}}).view(CONTEXT)
    view._serving = {key: flag.ready() for key, flag in made.items()}  # noqa: SLF001 - a document holds 1 MiB at most
    return view


def threads() -> list[Figure]:
    """Count evaluations per second of wall time, W1 to W6 in turn, by one thread and by four."""
    flags = documents()
    view = snapshot(flags={"flags": flags}).view(CONTEXT)
    asked = {"livecfg": [partial(view.flag, key, "a" if key == "W6" else False) for key in flags]}
    for name, ask in (peers.all_of(flags, CONTEXT, constants_of) if WITH_PEERS else {}).items():
        asked[name] = [partial(ask, key) for key in flags if (name, key) not in peers.LACKING]
    best: dict[str, float] = {}
    for _ in range(5):  # all once, then all again: the machine is not the same in every minute
        for name, calls in asked.items():
            for count in (1, 4):
                done = _per_second(calls, count, 10_000 if name == "livecfg" else 100)
                best[f"{name}, threads: {count}"] = max(done, best.get(f"{name}, threads: {count}", 0))
    return [Figure(name, done, "/s") for name, done in best.items()]


def _per_second(calls: Sequence[Callable[[], object]], count: int, rounds: int) -> float:
    begin = threading.Barrier(count + 1)

    def work() -> None:
        begin.wait()
        for _ in range(rounds):
            for call in calls:
                call()

    workers = [threading.Thread(target=work) for _ in range(count)]
    for worker in workers:
        worker.start()
    begin.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return count * rounds * len(calls) / (time.perf_counter() - started)


def loads() -> list[Figure]:
    """Measure a load of 1,000 flags, and of the same with one of them changed; peers load all again.

    "parsed" is after the parser, which a document in YAML or one without a known version before it needs for all of its flags;
    "from JSON" is from the bytes on, the floor what `json.loads` takes for it. A patch is one flag in a file of its own.
    The first load of a process also learns the form of each rule and compiles the code of its shape; the others know them.

    LaunchDarkly is left out: its file source starts threads, and takes seconds for it.
    """
    flags = many(1_000)
    document, edited = _two(flags)
    large = many(10_000)
    made, text, text_large = _compile(document), _bytes(flags), _bytes(large)
    file, file_large = _read(text), _read(text_large)
    new, new_large = (_bytes(f | {"W2-1": BOOLEAN}) for f in (flags, large))

    def first() -> None:
        code_of.cache_clear()
        _compile(document)

    one, other = (Document("w2.json", b"", {"flags": {"W2-1": f}}) for f in (flags["W2-1"], BOOLEAN))
    lone, templates = _compile(one), Templates()
    _compile(document, None, templates)

    def patched() -> dict[str, CompiledFlag]:
        return {**made, **_compile(other, lone, templates)}

    floor = "floor: json.loads of 1,000"
    calls: dict[str, Callable[[], object]] = {
        floor: lambda: json.loads(text),
        "load 1,000, parsed, first of a process": first,
        "load 1,000, parsed": lambda: _compile(document, None, templates),
        "load 1,000, from JSON": lambda: _read(text),
        "the first call of each of 1,000": lambda: [flag.ready() for flag in made.values()],
        "reload, 1 of 1,000 changed, parsed, the first": lambda: _compile(edited, made),
        "reload, 1 of 1,000 changed, parsed": lambda: _compile(edited, made),
        "reload, 1 of 1,000 changed, from JSON": lambda: _read(new, file),
        "reload, 1 of 10,000 changed, from JSON": lambda: _read(new_large, file_large),
        "patch, 1 of 1,000 changed, parsed": patched,
    }
    if WITH_PEERS:
        calls |= {
            "load 1,000: openfeature-flagd-core": lambda: clients.flagd_core(flags, CONTEXT),
            "load 1,000: growthbook": lambda: clients.growthbook(list(flags), CONTEXT, constants_of),
        }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(7):
        made = _compile(document)
        for name, call in calls.items():
            started = time.process_time_ns()
            call()
            taken[name].append((time.process_time_ns() - started) / 1e6)
    ms = {name: sorted(values)[3] for name, values in taken.items()}
    least = ms.pop(floor)
    return [
        Figure(floor, least, "ms"),
        *(Figure(name, value, "ms", "the floor", ratio(value, least)) for name, value in ms.items()),
    ]


def _bytes(flags: dict[str, Any]) -> bytes:
    return json.dumps({"flags": flags}).encode()


def _read(data: bytes, before: FlagFile | None = None) -> FlagFile:
    limits = DocumentLimits(size_bytes=1 << 23, nodes=1 << 20)
    return read_flags(data, "flags.json", limits, Dialect("v2", "strict", {}, {}, _clock), before, Templates())


def _two(flags: dict[str, Any]) -> tuple[Document, Document]:
    """Give a document, and the same with one flag changed."""
    first, second = (json.loads(json.dumps({"flags": f})) for f in (flags, flags | {"W2-1": BOOLEAN}))
    return Document("flags.json", b"", first), Document("flags.json", b"", second)


if __name__ == "__main__":
    WITH_PEERS = peers.enter()
    show("Evaluation, ns of CPU per call", evaluations())
    show("Evaluations per second of wall time", threads())
    show("Many flags", sizes())
    show("Loads, ms of CPU", loads())
    show("A thousand flags, W5 with a thousand members each", thousand())
    if WITH_PEERS:
        peers.leave()
