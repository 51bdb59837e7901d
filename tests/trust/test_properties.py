"""Properties of the walk over random chains: policies, adoptions, approvals, merges, forged dates, hostile trees.

A chain is made from a seed, so that a failure names the seed and can be made again.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from livecfg.errors import LivecfgError
from livecfg.revision import Candidate
from livecfg.trust import approvals, rules, verify
from livecfg.trust.verify import Judged, judgements
from tests.simulator.memory import APPROVE, BOUND, NOW, Files, MemoryRepo
from tests.trust.removed import without

PEOPLE = ("ana@acme", "bo@acme", "cy@acme", "dee@acme", "web@forge")
PERSONS = PEOPLE[:4]
PATHS = ("config/a/base.yaml", "config/a/prod.yaml", "config/b/prod.yaml", "flags/a/main.yaml")


class Chain:
    """A random chain of first parents, with branches that are merged into it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.repo = MemoryRepo()
        self.signer: dict[str, str] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.words: dict[str, str] = {}
        self.policies: dict[str, list[dict[str, Any]]] = {}
        root = PERSONS[: self.random.choice((1, 1, 2))]
        rules = self._rules()
        files = dict.fromkeys(PATHS, b"0\n")
        merge = self.random.choice(("person", "clean"))
        self.more = {"merge": merge, "forges": ["web@forge"], "break_glass": {"allow": ["ana@acme"], "threshold": 1}}
        first = self.repo.found(PEOPLE, rules, files, root=root, threshold=self.random.choice((1, len(root))), **self.more)
        self._note(first, root[0], ())
        self.chain = [first]
        self.side = first
        for _ in range(self.random.randint(4, 14)):
            self._step()

    def _rules(self) -> list[dict[str, Any]]:
        one = self.random.choice
        prod = {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": list(self.random.sample(PERSONS, 3))}
        prod |= {"threshold": one((1, 2, 2)), "four_eyes": one((False, False, True)), "bind_ref": one((False, False, True))}
        return [{"id": "all", "paths": ["**"], "allow": one((["*"], list(PERSONS[:3])))}, prod]

    def _note(self, commit: str, by: str, parents: tuple[str, ...], message: str = "") -> str:
        self.signer[commit], self.parents[commit], self.words[commit] = by, parents, message
        return commit

    def _commit(self, files: dict[str, bytes | None], on: tuple[str, ...], by: str, message: str = "Change it") -> str:
        if self.random.random() < 0.4:
            message += f"\n\n{BOUND}" if "\n\n" not in message else f"\n{BOUND}"
        date = self.repo.clock - self.random.choice((0, 0, 300, 5000)) if self.random.random() < 0.1 else None
        return self._note(self.repo.commit(files, on=on, by=by, message=message, date=date), by, on, message)

    def _who(self) -> str:
        return self.random.choice((*PERSONS, *PERSONS, "", "eve@evil", "web@forge"))

    def _change(self) -> dict[str, bytes | None]:
        paths = self.random.sample(PATHS, self.random.choice((1, 1, 1, 2)))
        return {path: b"%d\n" % self.random.randint(0, 3) for path in paths}

    def _step(self) -> None:
        tip, one = self.chain[-1], self.random.random()
        if one < 0.3:
            self.chain.append(self._commit(self._change(), (tip,), self._who()))
        elif one < 0.5:
            named = self.random.choice(self.chain[-4:])
            self.chain.append(self._commit({}, (tip,), self._who(), f"Adopt\n\nLivecfg-Adopt: {named}"))
        elif one < 0.6:
            self.side = tip if self.random.random() < 0.7 else self.random.choice(self.chain)
            self.side = self._commit(self._change(), (self.side,), self._who())
        elif one < 0.7:
            self.side = self._commit({}, (self.side,), self._who(), f"Approve\n\n{APPROVE}")
        elif one < 0.85:
            self._merge(tip)
        elif one < 0.9:
            back = self.repo.files[self.random.choice(self.chain)]
            now = self.repo.files[tip]
            undone: dict[str, bytes | None] = {path: back.get(path) for path in {*back, *now} if back.get(path) != now.get(path)}
            self.chain.append(self._commit(undone, (tip,), self._who(), "Back"))
        elif one < 0.95:
            policy = self.repo.policy(PEOPLE, self._rules(), **self.more)
            self.chain.append(self._commit(dict(policy), (tip,), self.random.choice(PERSONS)))
        else:
            message = "Glass\n\nLivecfg-Break-Glass: now"
            self.chain.append(self._commit(self._change(), (tip,), self._who(), message))

    def _merge(self, tip: str) -> None:
        if self.side == tip:
            return
        ours, theirs = self.repo.files[tip], self.repo.files[self.side]
        landed: dict[str, bytes | None] = {path: theirs[path] for path in PATHS if self.random.random() < 0.8}
        if self.random.random() < 0.1:
            landed |= self._change()
        self.chain.append(self._commit({p: t for p, t in landed.items() if ours.get(p) != t}, (tip, self.side), self._who()))

    def judge(self, tip: str) -> list[Judged]:
        return list(judgements(Candidate("main", tip, self.repo), self.repo.trusted(), NOW))

    # --- an oracle that knows no trees, no M(p), no merged sides: only who said anything about a path since g -----------------

    def could_stand_behind(self, path: str, good: str, commit: str) -> set[str]:
        """Everybody who signed some commit since `good` that changed the path, or that adopts or approves anything."""
        reach, stack = set(), [commit]
        seen = self._reach(good)
        while stack:
            at = stack.pop()
            if at in seen or at in reach:
                continue
            reach.add(at)
            stack += self.parents[at]
        return {self.signer[at] for at in reach if self._touches(at, path) or "Livecfg-A" in self.words[at]}

    def _reach(self, commit: str) -> set[str]:
        reach, stack = set(), [commit] if commit else []
        while stack:
            at = stack.pop()
            if at not in reach:
                reach.add(at)
                stack += self.parents[at]
        return reach

    def _touches(self, commit: str, path: str) -> bool:
        parents: list[Files] = [self.repo.files[parent] for parent in self.parents[commit]] or [{}]
        return any(files.get(path) != self.repo.files[commit].get(path) for files in parents)


def enough_people(chain: Chain) -> None:
    """No path of an accepted commit changed without as many of its people as its rules ask for."""
    good = ""
    for judged in chain.judge(chain.chain[-1]):
        commit = judged.commit.id
        if not judged.authorised:
            continue
        before: Files = chain.repo.files[good] if good else {}
        after = chain.repo.files[commit]
        for path in {p for p in {*before, *after} if before.get(p) != after.get(p)}:
            _check_path(chain, judged, path, good)
        good = commit


def _check_path(chain: Chain, judged: Judged, path: str, good: str) -> None:
    said = chain.could_stand_behind(path, good, judged.commit.id) - {"", "eve@evil", "web@forge"}
    findings = [finding for finding in judged.verdict.findings if finding.path == path]
    assert findings, f"{path} was accepted without a rule"
    if judged.verdict.broke_glass:
        assert chain.signer[judged.commit.id] == "ana@acme", "somebody else broke the glass"
    for finding in findings:
        allowed = set(PERSONS) if "*" in finding.rule.allow else set(finding.rule.allow)
        assert set(finding.behind) <= said | {""}, f"{path}: {finding.behind} never said anything"
        assert len(said & allowed) >= finding.rule.threshold, f"{path}: too few people for {finding.rule.id}"


def halves_are_whole(chain: Chain) -> None:
    """A chain verified in two parts, at any place, ends where it ends when verified whole."""
    tip = chain.chain[-1]
    whole = chain.repo.verify(tip).trusted
    for middle in chain.random.sample(chain.chain, min(3, len(chain.chain))):
        first = chain.repo.verify(middle).trusted
        assert chain.repo.verify(tip, first).trusted == whole, f"split at {chain.chain.index(middle)}"


def verdicts_stay(chain: Chain) -> None:
    """Adding a commit never changes an older verdict."""
    whole = chain.judge(chain.chain[-1])
    shorter = chain.judge(chain.chain[-2]) if len(chain.chain) > 1 else []
    assert whole[: len(shorter)] == shorter


PROPERTIES = (enough_people, halves_are_whole, verdicts_stay)


def check_chains(seeds: range) -> tuple[int, int]:
    """Check every property over these chains; give how many commits were judged and how many were accepted."""
    judged = accepted = 0
    for seed in seeds:
        chain = Chain(seed)
        try:
            for holds in PROPERTIES:
                holds(chain)
            found = chain.judge(chain.chain[-1])
        except LivecfgError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {len(chain.chain)} commits: {error}") from error
        judged += len(found)
        accepted += sum(one.authorised for one in found)
    return judged, accepted


def test_random_chains_hold_every_property() -> None:
    judged, accepted = check_chains(range(300))
    assert judged > 1500
    assert 0.2 < accepted / judged < 0.9, "the chains must be neither all good nor all bad"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_random_chains_hold_every_property() -> None:
    check_chains(range(300, 5300))


@pytest.mark.parametrize(
    ("module", "check", "instead"),
    [
        (rules, "self.count >= self.rule.threshold", "True"),
        (approvals, "            if self.trees.changed(seen.commit, path):\n", "            if seen is self.since[-1]:\n"),
        (verify, "chain.append(commit)\n        if object_id == stop:", "chain.append(commit)\n        if len(chain) > 2:"),
    ],
)
def test_the_properties_can_fail(module: Any, check: str, instead: str) -> None:
    with without(module, check, instead), pytest.raises(AssertionError):
        check_chains(range(300))
