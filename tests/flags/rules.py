"""Random flags and contexts, seeded: material for the differential and the property tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

NAMES = ["plan", "age", "country", "version", "beta", "user.id", "user.team", "tags", "email", "missing", "targetingKey"]
TEXTS = ["pro", "free", "DE", "FR", "1", "0", "", "18", "1.2.3", "2.0.0-rc.1", "a@x.org", "beta", "true", "é", "10.5", "a"]
NUMBERS = [0, 1, 2, 17, 18, 18.5, 100, -1, 2.0]
VARIANTS = ["a", "b", "c", "true", "false"]
VERSIONS = ["1.2.3", "1.2.4", "2.0.0", "2.0.0-rc.1", "v1.2.3", "1.2", "10.0.0", "2.0.0+build.5"]


def literal(r: random.Random) -> Any:
    return r.choice([r.choice(TEXTS), r.choice(TEXTS), r.choice(NUMBERS), True, False, None])


def var(r: random.Random) -> Any:
    name = r.choice(NAMES)
    return {"var": [name, literal(r)]} if r.random() < 0.15 else {"var": name}


def expression(r: random.Random, depth: int = 3) -> Any:
    if depth <= 0 or r.random() < 0.15:
        return var(r) if r.random() < 0.6 else literal(r)
    return r.choice(_KINDS)(r, depth - 1)


def _compare(r: random.Random, depth: int) -> Any:
    return {r.choice(["==", "!=", "===", "!==", "<", "<=", ">", ">="]): [expression(r, depth), expression(r, depth - 1)]}


def _between(r: random.Random, depth: int) -> Any:
    return {r.choice(["<", "<="]): [r.choice(NUMBERS), expression(r, depth), r.choice(NUMBERS)]}


def _logic(r: random.Random, depth: int) -> Any:
    return {r.choice(["and", "or"]): [expression(r, depth) for _ in range(r.randint(1, 3))]}


def _not(r: random.Random, depth: int) -> Any:
    return {r.choice(["!", "!!"]): [expression(r, depth)]}


def _if(r: random.Random, depth: int) -> Any:
    return {"if": [expression(r, depth) for _ in range(r.randint(2, 5))]}


def _in(r: random.Random, depth: int) -> Any:
    many = [r.choice(TEXTS) for _ in range(r.randint(1, 4))]
    return {"in": [expression(r, depth), r.choice([many, {"var": "tags"}, {"var": "email"}, r.choice(TEXTS), [1, 2, "1"]])]}


def _text(r: random.Random, depth: int) -> Any:
    return {r.choice(["starts_with", "ends_with"]): [expression(r, depth), r.choice([*TEXTS, var(r)])]}


def _version(r: random.Random, _: int) -> Any:
    relation = r.choice(["=", "!=", "<", "<=", ">", ">=", "^", "~"])
    return {"sem_ver": [r.choice([{"var": "version"}, r.choice(VERSIONS)]), relation, r.choice(VERSIONS)]}


def _number(r: random.Random, depth: int) -> Any:
    return {r.choice(["+", "-", "*", "%", "max", "min"]): [expression(r, depth), r.choice(NUMBERS)]}


def _many(r: random.Random, _: int) -> Any:
    return {r.choice(["cat", "merge", "missing"]): [r.choice([literal(r), var(r)]) for _ in range(r.randint(1, 3))]}


def _items(r: random.Random, _: int) -> Any:
    return {r.choice(["map", "filter", "all", "some", "none"]): [{"var": "tags"}, {"==": [{"var": ""}, r.choice(TEXTS)]}]}


_KINDS = [_compare, _compare, _between, _logic, _logic, _not, _if, _in, _text, _version, _number, _many, _items]


def fractional(r: random.Random) -> Any:
    arms = [[v, r.randint(0, 60)] for v in r.sample(VARIANTS[:3], r.randint(2, 3))]
    arms[0][1] += 1
    by = r.choice([[], [{"var": "user.id"}], [{"var": "email"}], [{"cat": ["salt:", {"var": "user.id"}]}]])
    return {"fractional": [*by, *arms]}


def targeting(r: random.Random) -> Any:
    result = r.choice([r.choice(VARIANTS), None, fractional(r), "a", "b"])
    if r.random() < 0.2:
        return fractional(r)
    if r.random() < 0.3:
        return {"if": [expression(r), "a", expression(r), result, "b"]}
    return {"if": [expression(r), result, r.choice([r.choice(VARIANTS), None, fractional(r)])]}


def context(r: random.Random) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "targetingKey": f"user-{r.randint(0, 10_000)}",
        "plan": r.choice(["pro", "free", "1", ""]),
        "age": r.choice(NUMBERS),
        "country": r.choice(["DE", "FR", "IT"]),
        "version": r.choice(VERSIONS),
        "beta": r.choice([True, False]),
        "user": {"id": f"u{r.randint(0, 10_000)}", "team": r.choice(["ranking", "ops"])},
        "tags": r.sample(TEXTS, r.randint(0, 3)),
        "email": r.choice(["a@x.org", "b@y.org", "é@z.org"]),
    }
    return {k: v for k, v in whole.items() if k == "targetingKey" or r.random() < 0.85}


def flag(r: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"state": "ENABLED", "variants": {v: f"value-{v}" for v in VARIANTS}, "targeting": targeting(r)}
    if r.random() < 0.8:
        made["defaultVariant"] = r.choice(VARIANTS)
    return made
