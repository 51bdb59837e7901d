"""Every refusal of trust says which commit, which path, by which rule, who is missing, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.revision import Candidate
from livecfg.trust.verify import WalkLimits, verify
from tests.simulator.memory import NOW, MemoryRepo

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.trust.root import Trusted

ANA, BO, CY, EVE, FORGE = "ana@acme", "bo@acme", "cy@acme", "eve@acme", "forge@acme"
BASE, PROD, POLICY = "config/shop/base.yaml", "config/shop/prod.yaml", ".livecfg/policy.yaml"
PEOPLE = (ANA, BO, CY, FORGE)
RULES = [
    {"id": "all", "paths": ["config/**", "livecfg.yaml"], "allow": ["*"]},
    {"id": "prod", "paths": [PROD], "allow": [ANA, BO, CY], "threshold": 2},
    {"id": "mine", "paths": ["mine/**"], "allow": [ANA]},
]


class Chain:
    """One good commit, and what stands on it."""

    def __init__(self) -> None:
        self.repo = MemoryRepo()
        files = {"config/_shared/base.yaml": b"{}\n", BASE: b"a: 0\n", PROD: b"a: 0\n", "mine/a.yaml": b"{}\n"}
        self.good = self.repo.found(PEOPLE, RULES, files, forges=[FORGE])
        self.trusted = self.repo.trusted()
        self.limits = WalkLimits()

    def refusals(self, tip: str, trusted: Trusted | None = None) -> tuple[Refusal, ...]:
        try:
            return verify(Candidate("main", tip, self.repo), trusted or self.trusted, NOW, self.limits).skipped
        except RefusedError as error:
            return error.refusals

    def resigned(self, change: Callable[[bytes], bytes]) -> str:
        """A good commit by Bo whose bytes somebody has changed."""
        commit = self.repo.commit({BASE: b"a: 1\n"}, on=(self.good,), by=BO)
        return self.repo.add("commit", change(self.repo.read(commit, "commit")))


def unsigned(chain: Chain) -> str:
    return chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,))


def spoiled_signature(chain: Chain) -> str:
    return chain.resigned(lambda raw: raw.replace(b"Change it", b"Spoil it"))


def unknown_key(chain: Chain) -> str:
    return chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,), by=EVE)


def expired_key(chain: Chain) -> str:
    path = ".livecfg/allowed_signers"
    lines = chain.repo.files[chain.good][path].decode().replace(f"{BO} ", f'{BO} valid-before="20200101Z" ').encode()
    change = chain.repo.commit({path: lines}, on=(chain.good,), by=ANA)
    return chain.repo.commit({BASE: b"a: 1\n"}, on=(change,), by=BO)


def odd_header(chain: Chain) -> str:
    return chain.resigned(lambda raw: raw.replace(b"\ncommitter", b"\nextra x\ncommitter", 1))


def backdated(chain: Chain) -> str:
    return chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,), by=BO, date=chain.repo.clock - 10_000)


def no_rule(chain: Chain) -> str:
    return chain.repo.commit({"elsewhere/a.yaml": b"{}\n"}, on=(chain.good,), by=BO)


def not_allowed(chain: Chain) -> str:
    return chain.repo.commit({"mine/a.yaml": b"a: 1\n"}, on=(chain.good,), by=BO)


def too_few(chain: Chain) -> str:
    return chain.repo.commit({PROD: b"a: 1\n"}, on=(chain.good,), by=BO)


def not_root(chain: Chain) -> str:
    return chain.repo.commit(chain.repo.policy(PEOPLE, RULES, teams={"new": [BO]}), on=(chain.good,), by=BO)


def locked_out(chain: Chain) -> str:
    rules = [{"id": "all", "paths": ["flags/**"], "allow": ["*"]}]
    return chain.repo.commit(chain.repo.policy(PEOPLE, rules), on=(chain.good,), by=ANA)


def odd_name(chain: Chain) -> str:
    return chain.repo.commit({"config/shop/a b.yaml": b"{}\n"}, on=(chain.good,), by=BO)


def merged_by_the_forge(chain: Chain) -> str:
    side = chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,), by=BO)
    return chain.repo.merge(chain.good, side, {BASE: b"a: 1\n"}, by=FORGE)


def another_repository(chain: Chain) -> str:
    return chain.repo.commit(chain.repo.policy(PEOPLE, RULES, repo_id="0" * 32), on=(chain.good,), by=ANA)


Made = tuple[str, tuple[Refusal, ...]]


def _stands_on_good(make: Callable[[Chain], str]) -> Made:
    chain = Chain()
    tip = make(chain)
    return tip, chain.refusals(tip)


def _rewritten() -> Made:
    chain = Chain()
    trusted = chain.repo.verify(chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,), by=BO)).trusted
    other = chain.repo.commit({BASE: b"a: 2\n"}, on=(chain.good,), by=BO)
    return other, chain.refusals(other, trusted)


def _too_long() -> Made:
    chain = Chain()
    tip = chain.repo.commit({BASE: b"a: 1\n"}, on=(chain.good,), by=BO)
    chain.limits = WalkLimits(1)
    return tip, chain.refusals(tip)


def _other_anchor() -> Made:
    chain = Chain()
    root = replace(chain.trusted.root, anchor_commit=chain.good, anchor_payload_sha256="0" * 64)
    return chain.good, chain.refusals(chain.good, replace(chain.trusted, root=root))


# code, what makes it, the path, the rule, whom the signer is said to be, and what the advice must name
TABLE: list[tuple[Code, Callable[[], Made], str, str, str, str]] = [
    (Code.UNSIGNED, lambda: _stands_on_good(unsigned), "", "", "", "git commit -S"),
    (Code.BAD_SIGNATURE, lambda: _stands_on_good(spoiled_signature), "", "", "", "livecfg adopt"),
    (Code.UNKNOWN_KEY_SIGNED, lambda: _stands_on_good(unknown_key), "", "", "SHA256:", "allowed_signers"),
    (Code.KEY_NOT_VALID_NOW, lambda: _stands_on_good(expired_key), "", "", BO, "livecfg adopt"),
    (Code.NOT_CANONICAL, lambda: _stands_on_good(odd_header), "", "", "", "plain git"),
    (Code.COMMIT_TIME, lambda: _stands_on_good(backdated), "", "", BO, "clock"),
    (Code.PATH_DENIED, lambda: _stands_on_good(no_rule), "elsewhere/a.yaml", "", "", ANA),
    (Code.PATH_DENIED, lambda: _stands_on_good(not_allowed), "mine/a.yaml", "mine", BO, f"1 more of {ANA}"),
    (Code.THRESHOLD, lambda: _stands_on_good(too_few), PROD, "prod", BO, f"1 more of {ANA}, {CY}"),
    (Code.ROOT_REQUIRED, lambda: _stands_on_good(not_root), POLICY, "root", BO, f"1 more of {ANA}"),
    (Code.POLICY, lambda: _stands_on_good(locked_out), POLICY, "", "", "rule"),
    (Code.TREE_HYGIENE, lambda: _stands_on_good(odd_name), "config/shop/a b.yaml", "", "", "further commit"),
    (Code.MERGE, lambda: _stands_on_good(merged_by_the_forge), "", "", FORGE, "livecfg adopt"),
    (Code.WRONG_REPOSITORY, lambda: _stands_on_good(another_repository), POLICY, "", "", "never changes"),
    (Code.WRONG_REPOSITORY, _other_anchor, "", "", "", "trusted root"),
    (Code.ROLLBACK, _rewritten, "", "", "", "on top of the last good one"),
    (Code.WALK_LIMIT, _too_long, "", "", "", "anchor"),
]


@pytest.mark.parametrize(("code", "make", "path", "rule", "signer", "advice"), TABLE, ids=lambda v: getattr(v, "name", ""))
def test_a_refusal_says_commit_path_rule_who_is_missing_and_what_to_do(
    code: Code, make: Callable[[], Made], path: str, rule: str, signer: str, advice: str
) -> None:
    commit, refusals = make()
    found = next(r for r in refusals if r.code is code)
    assert found.commit == commit
    assert (found.path, found.rule, bool(found.signer)) == (path, rule, bool(signer))
    assert found.signer.startswith(signer)
    assert advice in found.advice
    assert len(found.message) > 15
    for shown in (str(found), found.as_dict()["message"]):
        assert "\n" not in shown


def test_no_code_of_trust_is_missing_from_the_table() -> None:
    waits = {Code.PENDING}  # what waits has the code of what it lacks
    assert {row[0] for row in TABLE} == {code for code in Code if code.value.startswith("LC3")} - waits
