"""`livecfg flags test|stale|codegen|eval`: tests of flags in the repository, flags that can go, typed accessors."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.desk import PROD, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.desk import Desk

FLAGS = """\
flags:
  beta:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting: {if: [{"==": [{var: plan}, pro]}, "on"]}
    metadata: {owner: ana, expires: "2199-01-01", kind: release, description: "The new look"}
  limit: {state: ENABLED, variants: {few: 10, many: 50}, defaultVariant: few, metadata: {kind: ops}}
"""
TESTS = """\
version: 1
service: checkout
env: prod
at: 2026-11-26T12:00:00Z
tests:
  - {name: pro users get the beta, flag: beta, context: {plan: pro}, variant: "on", reason: TARGETING_MATCH}
  - {name: others do not, flag: beta, value: false}
  - name: the ranking team sees the new arm
    split: ranker
    context: {targetingKey: u1, team: ranking}
    variant: new
"""
SPLIT = """\
split: ranker
salt: s
arms: {old: {weight: 1}, new: {weight: 0}}
overrides: [{when: {"==": [{var: team}, ranking]}, arm: new}]
"""


@pytest.fixture
def flags(desk: Desk) -> Desk:
    desk.write(PROD, "a: 1\n")
    desk.write("flags/checkout/f.yaml", FLAGS)
    desk.write("splits/checkout/ranker.yaml", SPLIT)
    desk.write("flag_tests/checkout.yaml", TESTS)
    return desk


def test_flag_tests_pass_or_are_pointed_at(flags: Desk) -> None:
    assert "ok: 3 of 3 passed" in flags.run("flags", "test")
    assert "ok" in flags.run("check")
    flags.write(
        "flag_tests/checkout.yaml", TESTS.replace('variant: "on"', 'variant: "off"').replace("value: false", "value: true")
    )
    said = flags.run("flags", "test", code=1)
    at = "flag_tests/checkout.yaml:6:79"
    assert f"{at}  error LC405  pro users get the beta (prod): expected the variant 'off', got the variant 'on'" in said
    assert "(TARGETING_MATCH, by targeting.if[1])" in said
    assert "flag_tests/checkout.yaml:7:46" in said
    assert "2 failed: 1 of 3 passed" in said
    found = flags.json("check", code=1)["findings"]
    assert [(f["code"], f["line"]) for f in found] == [("LC405", 6), ("LC405", 7)]
    data = flags.json("flags", "test", code=1)
    assert [row["ok"] for row in data["data"]] == [False, False, True]
    assert "::error file=flag_tests/checkout.yaml,line=6,col=79" in flags.run("flags", "test", "-o", "github", code=1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("flag: beta, context", "flag: bta, context", "6:42  error LC405  pro users get the beta (prod): there is no flag 'bta'"),
        ("env: prod", "env: stage", "3:6  error LC405  the layers have no file for checkout/stage; envs of the service: prod"),
        ('variant: "on", reason: TARGETING_MATCH', "", "expected at least one of variant, value, reason"),
        ("split: ranker", "split: ranker\n    flag: beta", "expected a flag or a split"),
        ("reason: TARGETING_MATCH", "reason: LUCK", "6:93"),
        ("12:00:00Z", "12:00:00", "4:5"),
        ("version: 1", "version: 2", "1:10"),
    ],
)
def test_a_test_that_cannot_be_meant_is_refused_at_its_place(flags: Desk, old: str, new: str, said: str) -> None:
    assert old in TESTS
    flags.write("flag_tests/checkout.yaml", TESTS.replace(old, new))
    assert said in flags.run("flags", "test", code=1)


def test_the_clock_of_a_test_is_the_one_it_names(flags: Desk) -> None:
    rule = {">=": [{"var": "$flagd.timestamp"}, 1_800_000_000]}
    flag = {"state": "ENABLED", "variants": {"true": 1, "false": 0}, "targeting": rule}
    flags.write("flags/checkout/clock.json", json.dumps({"flags": {"clock": flag}}))
    head = "version: 1\nservice: checkout\nenv: [prod]\nat: %s\ntests: [{name: x, flag: clock, value: %d}]\n"
    flags.write("flag_tests/a.yaml", head % ("2020-01-01T00:00:00+00:00", 0))
    flags.write("flag_tests/deep/b.yaml", head % ("2100-01-01T00:00:00+00:00", 1))
    assert "ok: 5 of 5" in flags.run("flags", "test")


def test_without_tests_the_command_says_where_they_go(desk: Desk) -> None:
    desk.run("flags", "test", code=1)
    assert "flag_tests/" in desk.talk


def test_a_trace_is_shown_for_flags_and_splits(flags: Desk) -> None:
    flags.run("commit", "-m", "Flags")
    assert "targeting.if" in flags.run("flags", "eval", "ranker", "--ctx", "team=ranking", "--why")
    data = flags.json("flags", "eval", "beta", "--ctx", "plan=pro", "--why")["data"]
    assert data["trace"] == [
        {"where": "targeting.if[0].==", "operator": "==", "value": "True"},
        {"where": "targeting.if", "operator": "if", "value": "True"},
    ]
    assert "(ana, until 2199-01-01)" in flags.run("flags", "list")


# --- stale ------------------------------------------------------------------------------------------------------------------


def stale(desk: Desk, document: dict[str, Any], *words: str) -> list[tuple[int, int, str]]:
    desk.write("flags/checkout/f.yaml", json.dumps({"flags": document}, indent=1))
    desk.run("commit", "-m", "Flags")
    found = desk.json("flags", "stale", "--exit-zero", *words)["findings"]
    assert {f["code"] for f in found} <= {"LC412"}
    return [(f["line"], f["column"], f["message"]) for f in found]


def flag(targeting: Any = None, default: str | None = "off", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default}
    return made | ({"targeting": targeting} if targeting else {}) | more


def test_a_flag_that_gives_one_variant_only_is_finished(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    flags = {"f": flag(metadata={"owner": "ana"}), "g": flag(default=None), "open": flag({"if": [{"var": "a"}, "on"]})}
    rests = {"ops": flag(metadata={"kind": "ops"}), "lasts": flag(metadata={"permanent": True})}
    assert stale(desk, flags | rests) == [
        (3, 3, "f is finished: everybody gets 'off' (owner: ana)"),
        (14, 3, "g is finished: everybody gets what the code says"),
    ]


def test_a_flag_that_differs_between_envs_is_not_finished(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("config/checkout/dev.yaml", "a: 1\n")
    manifest = (desk.conf / "livecfg.yaml").read_text().replace("flags/{service}/**", "flags/{service}/{env}/**")
    desk.write("livecfg.yaml", manifest)
    one = {"flags": {"f": flag({"if": [{"var": "a"}, "on"]})}}
    desk.write("flags/checkout/dev/f.json", json.dumps(one))
    desk.write("flags/checkout/prod/f.json", json.dumps({"flags": {"f": flag()}}))
    found = desk.json("flags", "stale", "--exit-zero")["findings"]
    assert [f["path"] for f in found] == ["flags/checkout/prod/f.json"]


def test_days_that_have_passed_are_found_in_metadata_and_in_the_code(desk: Desk, tmp_path: Path) -> None:
    desk.write(PROD, "a: 1\n")
    rule = {"if": [{"var": "a"}, "on"]}
    late = flag(rule, metadata={"expires": "2020-01-31", "owner": "ana"})
    found = stale(desk, {"late": late, "never": flag(rule, metadata={"expires": "soon"})})
    (first, second) = [m for _, _, m in found]
    assert first.startswith("late expired on 2020-01-31, ")
    assert first.endswith(" days ago (owner: ana)")
    assert second == "never: expected expires: a day such as 2027-03-01"
    (tmp_path / "app.py").write_text(
        "from livecfg import Flag, FlagSet\n\n\n"
        "class Flags(FlagSet):\n    old = Flag(1, kind='release', owner='bo', expires='2020-01-31')\n"
    )
    said = desk.run("flags", "stale", "--flags", "app:Flags", code=1, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert "app:Flags" in said
    assert "old expired on 2020-01-31" in said


def test_an_experiment_after_its_last_day_is_found(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("flags/checkout/f.yaml", json.dumps({"flags": {"f": flag({"if": [{"var": "a"}, "on"]})}}))
    experiment = "experiment: e\nhypothesis: h\nowner: o\narms: {on: {weight: 1}, off: {weight: 1}}\nflag: f\nuntil: 2020-01-31\n"
    desk.write("experiments/checkout/e.yaml", experiment)
    said = desk.run("flags", "stale", code=1)
    assert "experiments/checkout/e.yaml:6:8  warn LC412  the experiment e ended on 2020-01-31" in said


def test_flags_and_splits_that_no_code_names_are_found(flags: Desk, tmp_path: Path) -> None:
    code = tmp_path / "src"
    (code / "venv").mkdir(parents=True)
    (code / "venv/other.py").write_text("'ranker'\n")
    (code / "broken.py").write_text("def (:\n")
    (code / "app.py").write_text("view.flag('beta', False)\n")
    (code / "flags.py").write_text("class Flags(FlagSet):\n    new_one: Flag[int] = Flag(1, kind='ops', owner='x')\n")
    flags.write("flags/checkout/new.json", json.dumps({"flags": {"new-one": flag(metadata={"kind": "ops"})}}))
    said = flags.run("flags", "stale", "--code", str(code), code=1)
    assert "broken.py is no Python that can be read" in flags.talk
    assert "flags/checkout/f.yaml:8:3        warn LC412  limit is in no code" in said
    assert "splits/checkout/ranker.yaml:1:8  warn LC412  the split ranker is in no code" in said
    assert "beta" not in said
    assert "new-one" not in said
    (code / "more.py").write_text("limit, split = 'limit', 'ranker'\n")
    assert "ok: none of 3 flags is stale" in flags.run("flags", "stale", "--code", str(code))


# --- codegen ----------------------------------------------------------------------------------------------------------------

ODD = {
    "a-bool": flag(metadata={"kind": "permission", "owner": "ana"}),
    "class": {"state": "ENABLED", "variants": {"x": 'quote " and \\'}, "defaultVariant": "x"},
    "2 words\u202e\n": {"state": "ENABLED", "variants": {"x": 1.5, "y": 2}},
    "tree": {"state": "ENABLED", "variants": {"x": {"a": [1, None]}}, "defaultVariant": "x"},
}


def test_the_generated_flag_set_is_what_the_repository_has(desk: Desk, tmp_path: Path) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("flags/checkout/f.yaml", FLAGS)
    desk.write("flags/checkout/odd.json", json.dumps({"flags": ODD}))
    desk.run("commit", "-m", "Flags")
    module = tmp_path / "generated.py"
    module.write_text(desk.run("flags", "codegen", "--class", "Ours"))
    assert "beta = Flag(default=False, kind='release', owner='ana', expires='2199-01-01'" in module.read_text()
    assert module.read_text().isascii()
    script = (
        "import json, generated; from livecfg.flagset import declared\n"
        "print(json.dumps({k: [f.default, f.kind, f.owner, f.expires] for k, f in declared(generated.Ours).items()}))\n"
        "print(json.dumps([n for n in vars(generated.Ours) if not n.startswith('_')]))"
    )
    environment = desk.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    made, names = map(json.loads, done.stdout.splitlines())
    assert made == {
        "2 words\u202e\n": [0.0, "ops", "nobody", ""],
        "a-bool": [False, "permission", "ana", ""],
        "beta": [False, "release", "ana", "2199-01-01"],
        "class": ['quote " and \\', "ops", "nobody", ""],
        "limit": [10, "ops", "nobody", ""],
        "tree": [{"a": [1, None]}, "ops", "nobody", ""],
    }
    assert names == ["flag_2_words", "a_bool", "beta", "class_", "limit", "tree"]
    checked = [sys.executable, "-m", "mypy", "--strict", str(module)]
    done = subprocess.run(checked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_manifest_has_a_type_and_a_default_for_each_flag(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("flags/checkout/f.yaml", FLAGS)
    desk.write("flags/checkout/odd.json", json.dumps({"flags": ODD}))
    desk.run("commit", "-m", "Flags")
    made = json.loads(desk.run("flags", "codegen", "--as", "manifest"))
    assert made["$schema"].endswith("/flag-manifest.json")
    assert made["flags"]["beta"] == {"flagType": "boolean", "defaultValue": False, "description": "The new look"}
    assert {key: row["flagType"] for key, row in made["flags"].items()} == {
        "2 words\u202e\n": "float",
        "a-bool": "boolean",
        "beta": "boolean",
        "class": "string",
        "limit": "integer",
        "tree": "object",
    }


def test_two_keys_that_would_be_one_attribute_are_told(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"a-b": flag(), "a.b": flag()}}))
    desk.run("commit", "-m", "Flags")
    desk.run("flags", "codegen", code=1)
    assert "'a.b' and 'a-b' would both be the attribute a_b" in desk.talk
    desk.run("flags", "codegen", "--class", "no class", code=2)
