"""Approvals on the merged side: who stands behind a path of a merge, proved from Git objects alone; each rule by its attack."""

from __future__ import annotations

import random
from typing import Any

import pytest

from livecfg.revision import Candidate
from livecfg.trust import approvals, forge, merged, rules, verify
from livecfg.trust.approvals import BROKEN, Trees
from livecfg.trust.commits import parse_commit
from livecfg.trust.tree import TreeFaultError, lookup
from tests.simulator.memory import APPROVE, BOUND, NOW, MemoryRepo
from tests.trust.removed import without
from tests.trust.softkeys import SoftCertificate, soft_key

ANA, BO, CY, DEE, HOST = "ana@acme", "bo@acme", "cy@acme", "dee@acme", "web@forge"
PROD, BASE = "config/shop/prod.yaml", "config/shop/base.yaml"
PEOPLE = (ANA, BO, CY, DEE, HOST)
ALL = {"id": "all", "paths": ["**"], "allow": ["*"]}


def prod(**more: Any) -> dict[str, Any]:
    return {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": [BO, CY, DEE], "threshold": 2} | more


class Story:
    """A main branch whose production file takes two people, and a branch beside it."""

    def __init__(self, **policy: Any) -> None:
        self.repo = MemoryRepo()
        rules = policy.pop("rules", [ALL, prod()])
        self.first = self.repo.found(PEOPLE, rules, {PROD: b"a: 1\n", BASE: b"a: 1\n"}, forges=[HOST], **policy)
        self.main = self.side = self.first

    def on_main(self, files: dict[str, bytes | None] | None = None, by: str = ANA, message: str = "Change it") -> str:
        self.main = self.repo.commit(files, on=(self.main,), by=by, message=message)
        return self.main

    def on_side(self, files: dict[str, bytes | None] | None = None, by: str = BO, message: str = "Change it") -> str:
        self.side = self.repo.commit(files, on=(self.side,), by=by, message=message)
        return self.side

    def approve(self, by: str = CY, message: str = f"Approve\n\n{APPROVE}") -> str:
        return self.on_side(None, by=by, message=message)

    def merge(self, files: dict[str, bytes | None], by: str = ANA, message: str = "Merge") -> str:
        self.main = self.repo.merge(self.main, self.side, files, by=by, message=message)
        return self.main

    @property
    def lands(self) -> bool:
        return self.repo.good(self.main) == self.main


def changed(text: bytes = b"a: 2\n") -> dict[str, bytes | None]:
    return {PROD: text}


def test_the_author_on_the_branch_and_the_merger_are_two_people() -> None:
    story = Story()
    story.on_side(changed())
    story.merge(changed(), by=CY)
    assert story.lands


def test_a_reviewer_who_does_not_merge_approves_with_an_empty_commit() -> None:
    story = Story()
    story.on_side(changed())
    story.approve(by=CY)
    story.merge(changed(), by=ANA)
    assert story.lands
    found = story.repo.verify(story.main)
    assert found.good is not None
    assert set(found.good.signers) >= {BO, CY}


def test_the_author_alone_and_a_merger_who_is_not_of_the_team_are_not_enough() -> None:
    story = Story()
    story.on_side(changed())
    story.merge(changed(), by=ANA)
    assert not story.lands


def test_two_commits_of_one_author_are_one_person() -> None:
    story = Story()
    story.on_side(changed(b"a: 3\n"))
    story.on_side(changed())
    story.merge(changed(), by=BO)
    assert not story.lands


def attack_empty_commit_without_the_words(story: Story) -> None:
    story.on_side(changed())
    story.approve(by=CY, message="Looks good")
    story.merge(changed())


def attack_approval_for_another_ref(story: Story) -> None:
    story.on_side(changed())
    story.approve(by=CY, message=f"Approve\n\n{APPROVE.replace('main', 'dev')}")
    story.merge(changed())


def attack_approval_that_is_not_empty(story: Story) -> None:
    story.on_side(changed())
    story.on_side({BASE: b"a: 9\n"}, by=CY, message=f"Approve\n\n{APPROVE}")
    story.merge(changed() | {BASE: b"a: 9\n"})


def attack_change_after_the_approval(story: Story) -> None:
    story.on_side(changed(b"a: 3\n"))
    story.approve(by=CY)
    story.on_side(changed())
    story.merge(changed())


def attack_second_author_writes_over_the_first(story: Story) -> None:
    """Cy only touches a line of what Bo wrote: Bo's word is not for what lands, and Cy's not for Bo's part."""
    story.on_side(changed(b"a: 666\n"), by=BO)
    story.on_side(changed(b"a: 666\nb: 1\n"), by=CY)
    story.merge(changed(b"a: 666\nb: 1\n"), by=DEE)


def attack_merge_lands_something_else(story: Story) -> None:
    story.on_side(changed(b"a: 3\n"))
    story.approve(by=CY)
    story.merge(changed(b"a: 666\n"), by=ANA)


def attack_branch_that_was_declined_lands_after_all(story: Story) -> None:
    """A merge took the branch in without its change of the file: what was said there was said of that merge, not of this one."""
    story.on_side(changed())
    story.approve(by=CY)
    story.merge({})
    assert story.lands
    story.on_side({BASE: b"a: 5\n"}, by=ANA)
    story.merge(changed() | {BASE: b"a: 5\n"}, by=ANA)


def attack_unmerged_approval_after_main_changed(story: Story) -> None:
    """Approved against one state of main; main changed the file and back; what was approved then is not what is asked now."""
    story.on_side(changed())
    story.approve(by=CY)
    story.on_main(changed(b"a: 7\n"), by=BO)
    adopted = story.main
    story.on_main(by=CY, message=f"Adopt\n\nLivecfg-Adopt: {adopted}")
    assert story.lands
    story.merge(changed(), by=ANA)


def attack_innocent_commit_on_top(story: Story) -> None:
    story.on_side(changed(), by="")
    story.on_side({BASE: b"a: 3\n"}, by=CY)
    story.merge(changed() | {BASE: b"a: 3\n"}, by=DEE)


ATTACKS: list[tuple[Any, Any, str, str]] = [
    (attack_empty_commit_without_the_words, approvals, "or not self._says(commit, APPROVE)", ""),
    (attack_approval_for_another_ref, approvals, "if value == self.statement", "if True"),
    (attack_approval_that_is_not_empty, approvals, "return self.trees.tree_of(commit.parents[0]) == commit.tree", "return True"),
    (attack_change_after_the_approval, approvals, "commit_id not in standing", "False"),
    (attack_second_author_writes_over_the_first, approvals, "and others[commit_id] <= {signed.person}", ""),
    (attack_merge_lands_something_else, approvals, "commit_id not in standing", "False"),
    (attack_branch_that_was_declined_lands_after_all, merged, "if commit_id not in before", "if True"),
    (attack_unmerged_approval_after_main_changed, approvals, "side.base.get(commit_id, steady) >= steady", "False"),
    (
        attack_innocent_commit_on_top,
        approvals,
        "(self.trees.made(commit, path) and others[commit_id] <= {signed.person})",
        "True",
    ),
]


@pytest.mark.parametrize(("attack", "module", "check", "instead"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
def test_attack_24_approvals_are_not_laundered(attack: Any, module: Any, check: str, instead: str) -> None:
    story = Story()
    attack(story)
    assert not story.lands
    with without(module, check, instead):
        assert story.lands, "with the check removed the attack succeeds"


def test_merging_unrelated_work_voids_no_approval() -> None:
    story = Story()
    story.on_side(changed())
    story.approve(by=CY)
    story.on_main({BASE: b"a: 4\n"})
    story.side = story.repo.merge(story.side, story.main, {BASE: b"a: 4\n"}, by=BO)
    story.on_main({BASE: b"a: 5\n"})
    story.merge(changed(), by=ANA)
    assert story.lands


def test_a_withdrawn_approval_branch_does_not_count() -> None:
    story = Story()
    story.on_side(changed())
    story.approve(by=CY)
    story.on_side(changed(b"a: 1\n"), by=CY, message="I take it back")
    story.on_side(changed(), by=BO, message="I bring it back")
    story.merge(changed(), by=ANA)
    assert not story.lands


def test_over_a_thousand_commits_a_merged_side_vouches_for_nothing() -> None:
    story = Story()
    story.on_side(changed())
    story.approve(by=CY)
    for _ in range(merged.MAX_MERGED):
        story.on_side(None, by="")
    story.merge(changed(), by=ANA)
    assert not story.lands


def test_a_branch_that_left_the_chain_long_ago_still_vouches() -> None:
    story = Story()
    story.on_side(changed())
    story.approve(by=CY)
    for number in range(1200):
        story.main = story.repo.commit({BASE: b"a: %d\n" % number}, on=(story.main,), by=ANA)
    story.merge(changed(), by=ANA)
    assert story.lands


def test_a_criss_cross_of_merges_counts_nothing_twice() -> None:
    story = Story()
    story.on_side(changed())
    one = story.side
    story.on_side({BASE: b"a: 8\n"}, by=ANA)
    story.merge(changed() | {BASE: b"a: 8\n"}, by=CY)
    assert story.lands
    story.side = story.repo.commit(changed(b"a: 1\n"), on=(one,), by=BO)  # from inside the side that was merged
    story.merge(changed(b"a: 1\n"), by=BO)
    assert not story.lands
    story.on_main(by=DEE, message=f"Adopt\n\nLivecfg-Adopt: {story.main}")
    assert story.lands


# --- four eyes -----------------------------------------------------------------------------------------------------------


def four_eyes() -> Story:
    return Story(rules=[ALL, prod(threshold=1, four_eyes=True)])


def test_under_four_eyes_the_author_does_not_count_and_the_reviewer_does() -> None:
    alone = four_eyes()
    alone.on_main(changed(), by=BO)
    assert not alone.lands
    alone.on_main(by=BO, message=f"Adopt\n\nLivecfg-Adopt: {alone.main}")
    assert not alone.lands
    alone.on_main(by=CY, message=f"Adopt\n\nLivecfg-Adopt: {alone.main}")
    assert not alone.lands, "adopting an adoption vouches for no change"
    with without(rules, "one not in authors and ", ""):
        assert alone.lands


def test_attack_24_an_authority_that_names_two_people_is_no_four_eyes() -> None:
    authority = soft_key("ed25519", 9)
    repo = MemoryRepo()
    signers = repo.policy(PEOPLE, [])[".livecfg/allowed_signers"] + f"*@ca cert-authority {authority.line}\n".encode()
    rule = prod(allow=["*"], threshold=1, four_eyes=True)
    first = repo.found(PEOPLE, [ALL, rule], {PROD: b"a: 1\n", ".livecfg/allowed_signers": signers})
    for number, person in enumerate((b"eve@ca", b"ivy@ca")):
        repo.pens[person.decode()] = SoftCertificate(soft_key("ed25519", number), authority, (person,)).sign
    mine = repo.commit(changed(), on=(first,), by="eve@ca")
    both = repo.commit({}, on=(mine,), by="ivy@ca", message=f"Adopt\n\nLivecfg-Adopt: {mine}")
    assert repo.good(both) == first
    with without(approvals, "s.authority or s.person", "s.person"):
        assert repo.good(both) == both
    seen = repo.commit({}, on=(both,), by=CY, message=f"Adopt\n\nLivecfg-Adopt: {mine}")
    assert repo.good(seen) == seen


def test_under_four_eyes_a_merger_who_wrote_nothing_counts() -> None:
    story = four_eyes()
    story.on_side(changed(), by=BO)
    story.merge(changed(), by=CY)
    assert story.lands


def test_under_four_eyes_a_merger_who_wrote_on_the_branch_is_an_author() -> None:
    story = four_eyes()
    story.on_side(changed(b"a: 3\n"), by=CY)
    story.on_side(changed(), by=BO)
    story.merge(changed(), by=CY)
    assert not story.lands
    with without(approvals, "makers += [commit for commit in side.commits.values() if self.trees.made(commit, path)]", "pass"):
        assert story.lands


def test_under_four_eyes_a_change_by_an_unknown_hand_never_holds() -> None:
    story = four_eyes()
    story.on_side(changed(), by="")
    story.merge(changed(), by=CY)
    assert not story.lands
    assert "not known" in story.repo.verify(story.main).skipped[0].message
    with without(approvals, "if any(isinstance(s, Refusal) for s in signed):", "if False:"):
        assert story.lands


# --- bound to a repository and a ref ---------------------------------------------------------------------------------------


def bound() -> Story:
    return Story(rules=[ALL, prod(threshold=1, bind_ref=True)])


def test_attack_12_signed_work_in_progress_does_not_land_by_moving_the_branch() -> None:
    story = bound()
    story.on_main(changed(), by=BO, message="Work in progress")
    assert not story.lands
    with without(rules, "(voucher.bound or not rule.bind_ref)", "True"):
        assert story.lands


@pytest.mark.parametrize(
    ("trailer", "lands"),
    [
        (BOUND, True),
        (BOUND.replace("main", "dev"), False),
        (BOUND.replace("6f1c", "6f1d"), False),
        (BOUND.lower(), False),
        (f"{BOUND}x", False),
        (f"{BOUND}\n\nfurther text", False),
    ],
)
def test_a_binding_is_the_exact_trailer_for_this_repository_and_ref(trailer: str, lands: bool) -> None:  # noqa: FBT001
    story = bound()
    story.on_main(changed(), by=BO, message=f"Raise it\n\n{trailer}")
    assert story.lands is lands


def test_an_approval_names_repository_and_ref_and_is_thereby_bound() -> None:
    story = bound()
    story.on_side(changed(), by=BO)
    story.merge(changed(), by=ANA)
    assert not story.lands
    story = bound()
    story.on_side(changed(), by=BO)
    story.approve(by=CY)
    story.merge(changed(), by=ANA)
    assert story.lands


# --- merges by a forge -------------------------------------------------------------------------------------------------------


def approved(by_merge: str, **policy: Any) -> Story:
    story = Story(**policy)
    story.on_side(changed())
    story.approve(by=CY)
    story.merge(changed(), by=by_merge)
    return story


@pytest.mark.parametrize("signer", [HOST, ""])
def test_a_forges_merge_counts_for_nothing_unless_policy_says_clean(signer: str) -> None:
    assert not approved(signer).lands
    assert approved(signer, merge="clean").lands


def test_a_forges_merge_of_an_unapproved_branch_is_refused() -> None:
    story = Story(merge="clean", rules=[ALL])
    story.on_side(changed())
    story.merge(changed(), by=HOST)
    assert not story.lands
    assert "nobody on the merged side approved it" in story.repo.verify(story.main).skipped[0].message
    with (
        without(verify, "not why and not self.evidence.is_approved(commit, moment)", "False"),
        without(rules, "not any(v.explicit and self._allows(rule, v.signed.person) for v in vouchers)", "False"),
    ):
        assert story.lands


def test_attack_9_a_forges_merge_does_not_land_work_in_progress_on_the_word_of_somebody_whom_the_rule_does_not_name() -> None:
    story = Story(merge="clean", rules=[ALL, prod(threshold=1)])
    story.on_side(changed(), by=BO)
    story.approve(by=ANA)
    story.merge(changed(), by=HOST)
    assert not story.lands
    with without(rules, "v.explicit and self._allows(rule, v.signed.person)", "v.explicit"):
        assert story.lands
    story.on_side(None, by=BO, message=f"Approve\n\n{APPROVE}")
    story.main = story.first
    story.merge(changed(), by=HOST)
    assert story.lands, "Bo says so himself"


def test_attack_9_a_forges_merge_that_adds_something_of_its_own_is_refused() -> None:
    story = Story(merge="clean")
    story.on_side(changed())
    story.approve(by=CY)
    story.approve(by=BO)
    story.merge(changed() | {BASE: b"a: 666\n"}, by=HOST)
    assert "the merged side did not change it" in story.repo.verify(story.main).skipped[0].message
    assert not story.lands


def test_attack_9_a_forges_merge_that_drops_part_of_the_branch_is_refused() -> None:
    story = Story(merge="clean")
    story.on_side(changed())
    story.on_side({BASE: b"a: 2\n"}, by=ANA)
    story.approve(by=CY)
    story.merge(changed(), by=HOST)
    assert "is not what the merged side made it" in story.repo.verify(story.main).skipped[0].message
    with without(forge, "if result != there:", "if False:"):
        assert story.lands


def test_attack_9_a_forges_merge_that_resolves_a_conflict_is_refused() -> None:
    story = Story(merge="clean", rules=[ALL])
    story.on_side({BASE: b"a: 2\n"})
    story.approve(by=CY)
    story.on_main({BASE: b"a: 3\n"})
    story.merge({BASE: b"a: 2\n"}, by=HOST)
    assert "changed on both sides" in story.repo.verify(story.main).skipped[0].message
    assert not story.lands


def test_a_refused_forges_merge_is_healed_by_a_person_who_adopts_it() -> None:
    story = approved(HOST)
    merge = story.main
    story.on_main(by=DEE, message=f"Adopt\n\nLivecfg-Adopt: {merge}")
    assert story.lands, "Bo and Cy on the merged side, Dee by adoption"
    alone = Story()
    alone.on_side(changed())
    alone.merge(changed(), by=HOST)
    alone.on_main(by=DEE, message=f"Adopt\n\nLivecfg-Adopt: {alone.main}")
    assert alone.lands, "Bo wrote it, Dee adopted it"


_NAMES = (b"a", b"b", b"c", b"/c", b"a/b", b"")


def odd_tree(repo: MemoryRepo, rng: random.Random, depth: int = 0) -> str:
    """Write a tree of odd names, some of its folders malformed."""
    if rng.random() < 0.1:
        return repo.add("tree", b"malformed %d" % rng.randrange(9))
    raw = b""
    for name in rng.sample(_NAMES, rng.randrange(5)):
        folder = depth < 3 and rng.random() < 0.6
        entry = odd_tree(repo, rng, depth + 1) if folder else repo.add("blob", b"%d" % rng.randrange(256))
        raw += (b"40000 " if folder else b"100644 ") + name + b"\0" + bytes.fromhex(entry)
    return repo.add("tree", raw)


def test_what_a_path_names_is_found_by_way_of_its_folder_as_by_way_of_all() -> None:
    rng, repo = random.Random(1), MemoryRepo()
    for _ in range(1000):
        tree, trees = odd_tree(repo, rng), Trees(repo)
        for _ in range(20):
            path = "/".join(rng.choice(("a", "a", "b", "c", "")) for _ in range(rng.randrange(1, 5)))
            try:
                expected = lookup(repo, tree, path)
            except TreeFaultError:
                expected = BROKEN
            assert trees.entry(tree, path) == expected, path


def beside(repo: MemoryRepo, tree: str, path: str, blob: str) -> str:
    """Write a tree with one more entry, whose name is a whole path: for whoever joins names it stands at that path."""
    return repo.add("tree", repo.read(tree, "tree") + b"100644 " + path.encode() + b"\0" + bytes.fromhex(blob))


@pytest.mark.parametrize("by", [ANA, BO, DEE, "eve@evil", ""])
def test_an_entry_that_is_named_like_a_path_takes_no_change_of_it_back(by: str) -> None:
    """Who removes the entry, as the refusal says, would else vouch for a change that nobody was allowed to make."""
    story = Story(rules=[ALL, prod(allow=[CY], threshold=1)])
    repo = story.repo
    evil = repo.tree({**repo.files[story.first], PROD: b"a: 666\n"})
    was = repo.add("blob", repo.files[story.first][PROD])
    attack = repo.commit_tree(beside(repo, evil, PROD, was), on=(story.first,), by=by)
    story.main = repo.commit_tree(evil, on=(attack,), by=CY, message="Remove the odd entry")
    assert repo.good(attack) == repo.good(story.main) == story.first


@pytest.mark.parametrize("seed", range(20))
def test_what_a_walk_has_noted_of_its_trees_is_what_a_look_at_them_gives(seed: int) -> None:
    rng, story = random.Random(seed), Story(rules=[ALL, prod(), {"id": "odd", "paths": ["a/**"], "allow": [BO]}])
    repo = story.repo
    walk = verify._Walk(Candidate("main", story.first, repo), repo.trusted())
    tip, noted = story.first, 0
    for _ in range(12):
        files = {**repo.files[story.first], rng.choice((PROD, BASE, "a/b", "a/c")): b"%d" % rng.randrange(4)}
        tree = repo.tree(files)
        if rng.random() < 0.5:
            tree = beside(repo, tree, rng.choice((PROD, BASE, "a/b", "config")), repo.add("blob", b"%d" % rng.randrange(4)))
        tip = repo.commit_tree(tree, on=(tip,), by=rng.choice((ANA, BO, CY, "")))
        walk.step(parse_commit(tip, repo.read(tip, "commit")), NOW)
        for (tree_id, path), entry in walk.evidence.trees._entries.items():
            assert entry == Trees(repo).entry(tree_id, path), path
            noted += 1
    assert noted > 20
