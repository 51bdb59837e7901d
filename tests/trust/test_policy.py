"""Policy: narrow rules, limits, broken glass, services and lock-outs; each by the attack it stops."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from livecfg.errors import RefusedError
from livecfg.trust import changes, policy, rules
from livecfg.trust.policy import load_policy
from livecfg.trust.policy_tests import run_policy_tests
from livecfg.trust.tree import SplitObjects
from tests.simulator import ConfigRepo
from tests.simulator.memory import BOUND, MemoryRepo
from tests.simulator.repo import REPO_ID
from tests.trust.removed import without

ANA, BO, CY, HUB = "ana@acme", "bo@acme", "cy@acme", "hub@acme"
PEOPLE = (ANA, BO, CY, HUB)
FLAGS, BASE = "flags/shop/main.json", "config/shop/base.yaml"
RULES = [
    {"id": "all", "paths": ["**", "!flags/**"], "allow": ["*"]},
    {"id": "flags", "paths": ["flags/**"], "allow": ["payments"], "threshold": 2},
    {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": ["*"], "fast": True},
]
TEAMS = {"payments": [ANA, BO]}


def flags(**states: Any) -> bytes:
    shown = {
        name: state if isinstance(state, dict) else {"state": state, "variants": {"one": 1, "two": 2}, "defaultVariant": "one"}
        for name, state in states.items()
    }
    return json.dumps({"flags": shown}).encode()


def begin(**more: Any) -> tuple[MemoryRepo, str]:
    repo = MemoryRepo()
    first = {FLAGS: flags(a="ENABLED", b="DISABLED"), BASE: b"a: 1\n"}
    found = repo.found(PEOPLE, more.pop("rules", RULES), first, **{"teams": TEAMS, "services": [HUB]} | more)
    assert repo.good(found) == found, [str(r) for r in repo.verify(found).skipped]
    return repo, found


def lands(repo: MemoryRepo, on: str, files: dict[str, bytes | None], by: str = CY, message: str = "Change it") -> bool:
    tip = repo.commit(files, on=(on,), by=by, message=message)
    return repo.good(tip) == tip


# --- only: disable -----------------------------------------------------------------------------------------------------------


def test_anybody_may_switch_a_flag_off_and_only_off() -> None:
    repo, first = begin()
    assert lands(repo, first, {FLAGS: flags(a="DISABLED", b="DISABLED")})


FLAG = {"state": "DISABLED", "variants": {"one": 1, "two": 2}, "defaultVariant": "one"}


@pytest.mark.parametrize(
    "after",
    [
        flags(a="ENABLED", b="ENABLED"),
        flags(a="DISABLED", b="ENABLED"),
        flags(a="DISABLED", b="DISABLED", c="DISABLED"),
        flags(a="DISABLED"),
        flags(a=FLAG | {"defaultVariant": "two"}, b="DISABLED"),
        flags(a=FLAG | {"variants": {"one": True, "two": 2}}, b="DISABLED"),
        flags(a=FLAG | {"variants": {"one": 1.0, "two": 2}}, b="DISABLED"),
        flags(a=FLAG | {"metadata": {"x": 1}}, b="DISABLED"),
        flags(a="OFF", b="DISABLED"),
        b'{"flags": {"a": {"state": "DISABLED"}, "a": {"state": "ENABLED"}}}',
        b"not json",
        b"[]",
        None,
    ],
)
def test_attack_7_whatever_is_more_than_switching_off_takes_the_ordinary_rules(after: bytes | None) -> None:
    repo, first = begin()
    assert not lands(repo, first, {FLAGS: after})


def test_that_one_equals_true_in_python_lets_nobody_change_a_value_under_the_narrow_rule() -> None:
    repo, first = begin()
    smuggled = {FLAGS: flags(a=FLAG | {"variants": {"one": True, "two": 2}}, b="DISABLED")}
    assert not lands(repo, first, smuggled)
    check = "json.dumps(_off(before)) == json.dumps(_off_where(after, before)) and json.dumps(before) != json.dumps(after)"
    with without(changes, check, "_off(before) == _off_where(after, before)"):
        assert lands(repo, first, smuggled)


# --- limits ------------------------------------------------------------------------------------------------------------------

STEPS = "rollouts/checkout/override.yaml"
LIMITS = {"limits": [{"id": "small-steps", "paths": ["rollouts/**"], "max_weight_step": 20}]}


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("weight: 10", "weight: 30", True),
        ("weight: 10", "weight: 31", False),
        ("weight: 90", "weight: 0", True),
        ("weights: {a: 50, b: 50}", "weights: {a: 70, b: 30}", True),
        ("weights: {a: 50, b: 50}", "weights: {a: 75, b: 25}", False),
        ("weights: [[a, 50], [b, 50]]", "weights: [[a, 80], [b, 20]]", False),
        ("steps: [{weight: 1}]", "steps: [{weight: 1}, {weight: 21}]", False),
        ("other: 1", "other: 99", True),
        ("weight: 1", "weight: {{", False),
        ("weight: 1", "weight: .nan", False),
        ("weight: .nan", "weight: 2", False),
        ("weights: {a: .nan, b: 1}", "weights: {a: .nan, b: 99}", False),
    ],
)
def test_a_weight_rises_no_further_than_the_limit_in_one_commit(before: str, after: str, allowed: bool) -> None:  # noqa: FBT001
    repo, first = begin(**LIMITS)
    second = repo.commit({STEPS: before.encode()}, on=(first,), by=ANA, message="Break\n\nLivecfg-Break-Glass: first")
    with without(rules, "if rise > limit.max_weight_step", "if False"):
        trusted = repo.verify(second).trusted
    found = repo.verify(repo.commit({STEPS: after.encode()}, on=(second,), by=ANA), trusted)
    assert (found.good is not None) is allowed, found.skipped


def test_attack_7_a_weight_that_is_no_number_does_not_hide_a_rise() -> None:
    repo, first = begin(**LIMITS)
    assert not lands(repo, first, {STEPS: b"weight: .nan\n"}, by=ANA)
    with without(changes, "math.inf if any(map(math.isnan, rises)) else ", ""):
        tip = repo.commit({STEPS: b"weight: .nan\n"}, on=(first,), by=ANA)
        tip = repo.commit({STEPS: b"weight: 100\n"}, on=(tip,), by=ANA)
        assert repo.good(tip) == tip


def test_attack_7_splitting_a_rise_over_skipped_commits_does_not_get_around_the_limit() -> None:
    repo, first = begin(**LIMITS)
    tip = repo.commit({STEPS: b"weight: 15\n"}, on=(first,), by="")
    tip = repo.commit({STEPS: b"weight: 30\n"}, on=(tip,), by=ANA, message=f"Take both\n\nLivecfg-Adopt: {tip}")
    assert repo.good(tip) == first


# --- break glass -------------------------------------------------------------------------------------------------------------

GLASS: dict[str, Any] = {"break_glass": {"allow": ["payments"], "threshold": 1}}
REASON = "Turn it\n\nLivecfg-Break-Glass: pager 4711"


def test_breaking_the_glass_sets_path_rules_aside_and_is_told() -> None:
    repo, first = begin(**GLASS)
    on = flags(a="ENABLED", b="ENABLED")
    assert not lands(repo, first, {FLAGS: on}, by=BO)
    tip = repo.commit({FLAGS: on}, on=(first,), by=BO, message=REASON)
    found = repo.verify(tip)
    assert found.good is not None
    assert found.good.broke_glass == "pager 4711"
    assert [(one.commit.id, one.signers) for one in found.broke_glass] == [(tip, (BO,))]


@pytest.mark.parametrize(
    ("by", "message", "glass"),
    [
        (CY, REASON, GLASS),
        (HUB, REASON, GLASS),
        (BO, "Turn it\n\nLivecfg-Break-Glass: ", GLASS),
        (BO, "Livecfg-Break-Glass: no trailer\n\nbut a subject", GLASS),
        (BO, REASON, {}),
        (BO, REASON, {"break_glass": {"allow": ["payments"], "threshold": 2}}),
    ],
)
def test_attack_7_the_glass_is_for_its_people_with_a_reason(by: str, message: str, glass: dict[str, Any]) -> None:
    repo, first = begin(**glass)
    assert not lands(repo, first, {FLAGS: flags(a="ENABLED", b="ENABLED")}, by=by, message=message)


@pytest.mark.parametrize("by", [CY, HUB, ""])
def test_attack_7_nobody_else_breaks_the_glass_for_a_change_that_waits_for_a_second_person(by: str) -> None:
    repo, first = begin(**GLASS)
    waiting = repo.commit({FLAGS: flags(a="ENABLED", b="ENABLED")}, on=(first,), by=BO)
    tip = repo.commit({}, on=(waiting,), by=by, message=REASON)
    assert repo.good(tip) == first
    if by:
        check = "not isinstance(signed, Signed) or not self.policy.allows(self.policy.file.break_glass.allow, signed.person)"
        with without(rules, check, "False"):
            assert repo.good(tip) == tip
    own = repo.commit({}, on=(waiting,), by=BO, message=REASON)
    assert repo.good(own) == own


def test_attack_12_a_broken_glass_of_another_branch_is_not_replayed_where_signatures_are_bound() -> None:
    repo, first = begin(rules=[rule | {"bind_ref": True} for rule in RULES], **GLASS)
    on = {FLAGS: flags(a="ENABLED", b="ENABLED")}
    elsewhere = repo.commit(on, on=(first,), by=BO, message=REASON)
    assert repo.good(elsewhere) == first
    with without(rules, "bind_ref=bound)", "bind_ref=False)"):
        assert repo.good(elsewhere) == elsewhere
    here = repo.commit(on, on=(first,), by=BO, message=f"{REASON}\n{BOUND}")
    assert repo.good(here) == here


def test_attack_8_no_glass_protects_the_policy_itself() -> None:
    repo, first = begin(**GLASS)
    more = repo.policy(PEOPLE, RULES, teams={"payments": [BO, CY]}, services=[HUB])
    assert not lands(repo, first, dict(more), by=BO, message=REASON)
    with without(rules, "if broken and not is_root_path(path):", "if broken:"):
        assert lands(repo, first, dict(more), by=BO, message=REASON)


# --- services, forges ----------------------------------------------------------------------------------------------------------


def test_a_service_counts_only_where_a_rule_names_it() -> None:
    named = [*RULES, {"id": "hub", "paths": ["config/shop/**"], "allow": [HUB, "*"]}]
    repo, first = begin()
    assert not lands(repo, first, {BASE: b"a: 2\n"}, by=HUB)
    with without(policy, "person not in self.file.services and ", ""):
        assert lands(repo, first, {BASE: b"a: 2\n"}, by=HUB)
    only = [rule for rule in named if rule["id"] != "all"] + [{"id": "all", "paths": ["**", "!config/shop/**"], "allow": ["*"]}]
    repo, first = begin(rules=only)
    assert lands(repo, first, {BASE: b"a: 2\n"}, by=HUB)


# --- lock-outs and names that mean two things ---------------------------------------------------------------------------

SECOND = {"id": "more", "paths": ["x/**"], "allow": [BO]}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"services": [ANA]}, "is a service or a forge"),
        ({"forges": [ANA]}, "is a service or a forge"),
        ({"forges": [CY], "teams": {"payments": [ANA, BO, CY]}}, "holds a forge"),
        ({"teams": {**TEAMS, ANA: [BO]}}, "the name of a person"),
        ({"teams": {**TEAMS, "root": [BO]}}, "a word of its own"),
        ({"teams": {**TEAMS, "empty": ["nobody@acme"]}}, "has no key"),
        ({"timestamp": ["nobody@acme"]}, "has no key"),
        ({"break_glass": {"allow": ["payments"], "threshold": 3}}, "needs 3"),
        ({"break_glass": {"allow": ["nobody"]}}, "neither a team nor a person"),
        ({"rules": [*RULES, SECOND, {**SECOND}]}, "the same id"),
        ({"rules": [*RULES, SECOND | {"fast": True}]}, "fast needs"),
        (
            {"rules": [*RULES, SECOND | {"four_eyes": True}]},
            "needs 1 beside the author, who does not count (four_eyes), and allows 1",
        ),
        ({"rules": [*RULES, SECOND | {"only": "enable"}]}, "expected 'disable'"),
        ({"rules": RULES[1:]}, "no rule would match"),
        ({"rules": [rule for rule in RULES if rule["id"] != "flags"]}, "no rule would match flags/shop/main.json"),
        ({"windows": [{"id": "w", "paths": ["**"], "deny": {"weekdays": ["fri"], "from": "9", "until": "12:00"}}]}, "from"),
        (
            {
                "windows": [
                    {
                        "id": "w",
                        "paths": ["**"],
                        "deny": {"weekdays": ["fri"], "from": "09:00", "until": "12:00"},
                        "override": "nobody",
                    }
                ]
            },
            "neither root, nor a team",
        ),
    ],
)
def test_attack_8_a_policy_that_locks_out_or_says_two_things_is_skipped_with_the_reason(
    change: dict[str, Any], word: str
) -> None:
    repo, first = begin()
    text = {"teams": TEAMS, "services": [HUB]} | change
    files = repo.policy(PEOPLE, text.pop("rules", RULES), **text)
    tip = repo.commit(dict(files), on=(first,), by=ANA)
    found = repo.verify(tip)
    assert found.trusted.good is not None
    assert found.trusted.good.commit == first
    assert word in " ".join(str(refusal) for refusal in found.skipped)


def test_attack_8_every_root_file_that_changes_with_the_root_needs_the_new_root_too() -> None:
    repo, first = begin()
    new = repo.policy(PEOPLE, RULES, teams=TEAMS, services=[HUB], root={"people": [BO], "threshold": 1})
    table = {".livecfg/policy_tests.yaml": b"version: 1\ntests: []\n"}
    rest = repo.commit(table, on=(repo.commit(dict(new), on=(first,), by=ANA),), by=ANA)
    only_policy = repo.commit({}, on=(rest,), by=BO, message=f"Agree\n\nLivecfg-Adopt: {repo.parents(rest)[0]}")
    assert repo.good(only_policy) == first
    both = repo.commit({}, on=(only_policy,), by=BO, message=f"Agree\n\nLivecfg-Adopt: {rest}")
    assert repo.good(both) == both


def test_attack_8_a_team_named_like_a_root_person_would_be_root() -> None:
    repo, first = begin()
    files = repo.policy(PEOPLE, RULES, teams=TEAMS | {ANA: [CY]}, services=[HUB])
    check = 'if policy.knows(team) or team in {"root", "*"}:'
    with without(policy, check, "if False:"):
        tip = repo.commit(dict(files), on=(first,), by=ANA)
        assert repo.good(tip) == tip
        assert lands(repo, tip, {"livecfg.yaml": b"version: 1\nlayers: []\n"}, by=CY), "Cy is no root person"


def test_root_people_have_ssh_keys_of_enough_bits(tmp_path: Any) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.person(ANA, "rsa", 2048)
    repo.found({"config/_shared/base.yaml": "{}\n"}, by=ANA)
    tree = repo.git("rev-parse", "HEAD^{tree}")

    class Objects:
        def read(self, object_id: str, kind: str) -> bytes:
            return repo.raw(object_id, kind)

    with pytest.raises(RefusedError, match="RSA key of less than 3072 bits"):
        load_policy(Objects(), tree)


def test_the_policy_of_the_documentation_is_read(tmp_path: Any) -> None:  # noqa: ARG001 - the shape of its neighbours
    text = f"""
version: 1
repo_id: {REPO_ID}
root: {{people: [{ANA}, {BO}], threshold: 2}}
teams: {{payments: [{BO}, {CY}], controller: [{HUB}]}}
services: [{HUB}]
merge: person
rules:
  - {{id: all,      paths: ["**", "!rollouts/**"],           allow: ["*"]}}
  - {{id: rollouts, paths: ["rollouts/**"],                  allow: [controller, payments]}}
  - {{id: prod,     paths: ["config/*/prod.yaml"], allow: ["*"], threshold: 2, four_eyes: true, bind_ref: true}}
  - {{id: kill,     paths: ["flags/**"], only: disable, allow: ["*"], fast: true}}
break_glass: {{allow: [payments], threshold: 1, trailer_required: reason}}
protected: {{envs: [prod], keys: [checkout.payment_timeout_s]}}
windows:
  - id: no-friday
    paths: ["config/*/prod.yaml"]
    deny: {{weekdays: [fri], from: "15:00", until: "23:59", zone: Europe/Berlin}}
    override: root
limits:
  - {{id: small-steps, paths: ["rollouts/**"], max_weight_step: 50}}
"""
    repo = MemoryRepo()
    repo.root = ((ANA, BO), 2)
    files = repo.policy(PEOPLE, RULES) | {".livecfg/policy.yaml": text.encode()}
    loaded = load_policy(repo, repo.tree(files))
    assert loaded.file.windows[0].deny.start == "15:00"
    assert yaml.safe_load(text)["merge"] == loaded.file.merge


def test_a_policy_is_read_once_for_as_long_as_its_files_are_the_same() -> None:
    repo = MemoryRepo()
    repo.root = ((ANA, BO), 2)
    files = repo.policy(PEOPLE, RULES[:1])
    objects = SplitObjects(repo)
    first = load_policy(objects, repo.tree(files))
    other = repo.tree({**files, "other": b"1"})
    repo.objects = {name: kept for name, kept in repo.objects.items() if kept[0] == "tree"}
    assert load_policy(objects, other) is first
    fewer = files | {".livecfg/allowed_signers": b"".join(files[".livecfg/allowed_signers"].splitlines(keepends=True)[:-1])}
    assert load_policy(objects, repo.tree(fewer)).keyholders == first.keyholders - {HUB}


# --- table tests -------------------------------------------------------------------------------------------------------------

TABLE = """
version: 1
tests:
  - {name: one is not enough, paths: [flags/shop/main.json], by: [ana@acme], expect: denied, rule: flags}
  - {name: two are, paths: [flags/shop/main.json], by: [ana@acme, bo@acme], expect: allowed}
  - {name: a stranger is not counted, paths: [flags/shop/main.json], by: [ana@acme, zoe@acme], expect: denied}
  - {name: anybody kills, paths: [flags/shop/main.json], by: [cy@acme], kind: disable, expect: allowed}
  - {name: a service does not, paths: [config/shop/base.yaml], by: [hub@acme], expect: denied, rule: all}
  - {name: root alone, paths: [.livecfg/policy.yaml], by: [bo@acme], expect: denied, rule: root}
  - {name: glass, paths: [flags/shop/main.json], by: [bo@acme], break_glass: pager, expect: allowed}
  - {name: no glass over root, paths: [livecfg.yaml], by: [bo@acme], break_glass: pager, expect: denied}
"""


def test_a_policy_is_tested_by_a_table_beside_it() -> None:
    repo, first = begin(**GLASS)
    outcomes = run_policy_tests(load_policy(repo, repo.tree(repo.files[first])), TABLE.encode())
    assert [(outcome.case.name, outcome.why) for outcome in outcomes if outcome.why] == []
    assert outcomes[0].line == 4


def test_a_table_that_expects_something_else_fails_with_what_was_found() -> None:
    repo, first = begin()
    turned = TABLE.replace("allowed}", "X}").replace("denied", "allowed").replace("X}", "denied}").replace(", rule: flags", "")
    outcomes = run_policy_tests(load_policy(repo, repo.tree(repo.files[first])), turned.encode())
    assert outcomes[0].why == "expected allowed, got denied by flags"
    assert outcomes[1].why == "expected denied, got allowed"


def test_the_table_and_the_walk_agree() -> None:
    """What the table says of one signer is what a commit by that signer gets."""
    repo, first = begin(**GLASS)
    loaded = load_policy(repo, repo.tree(repo.files[first]))
    paths = {
        FLAGS: flags(a="ENABLED", b="ENABLED"),
        BASE: b"a: 2\n",
        "other/x": b"1",
        "livecfg.yaml": b"version: 1\nlayers: []\n",
    }
    for person in (*PEOPLE, "zoe@acme"):
        for path, text in paths.items():
            row = f"version: 1\ntests: [{{name: x, paths: [{path}], by: [{person}], expect: allowed}}]"
            (outcome,) = run_policy_tests(loaded, row.encode())
            assert lands(repo, first, {path: text}, by=person) is not bool(outcome.why), (person, path)
