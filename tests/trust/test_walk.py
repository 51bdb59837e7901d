"""The walk: which commits policy allows, attack by attack, over repositories made by real git."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from livecfg.errors import LivecfgError, MissingObjectError, RefusedError, RollbackError
from livecfg.origin import Origin
from livecfg.revision import Candidate
from livecfg.trust.history import last_change
from livecfg.trust.root import TrustedRoot
from livecfg.trust.verify import Trusted, Verification, WalkLimits, resume, verify
from tests.simulator import ConfigRepo
from tests.simulator.memory import MemoryRepo

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.revision import Kind

NOW = 2_000_000_000.0
BASE, PROD = "config/checkout/base.yaml", "config/checkout/prod.yaml"


class GitObjects:
    """Objects straight from the work repository, by the git program."""

    def __init__(self, repo: ConfigRepo) -> None:
        self.repo = repo

    def read(self, object_id: str, kind: Kind) -> bytes:
        try:
            return self.repo.raw(object_id, kind)
        except AssertionError:  # how the simulator says that git failed
            raise MissingObjectError(object_id) from None


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    """Ana is root; Bo and Cy write; prod needs two of them."""
    repo = ConfigRepo(tmp_path / "repo")
    for person in ("ana@acme", "bo@acme", "cy@acme"):
        repo.person(person)
    rules = [
        {"id": "all", "paths": ["config/**", "flags/**"], "allow": ["*"]},
        {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": ["payments"], "threshold": 2},
    ]
    files = {"config/_shared/base.yaml": "{}\n", BASE: "a: 1\n", PROD: "a: 1\n"}
    found(repo, rules, files)
    return repo


def found(repo: ConfigRepo, rules: list[dict[str, Any]], files: dict[str, str]) -> str:
    return repo.found(files, policy={"rules": rules, "teams": {"payments": ["bo@acme", "cy@acme"]}})


def start(repo: ConfigRepo) -> Trusted:
    return Trusted.start(TrustedRoot.parse(repo.trusted_root, "trusted_root.yaml"), "main")


def walk(repo: ConfigRepo, trusted: Trusted | None = None, tip: str = "", now: float = NOW) -> Verification:
    return verify(Candidate("main", tip or repo.tip(), GitObjects(repo)), trusted or start(repo), now)


def good(found: Verification) -> str:
    return found.trusted.good.commit if found.trusted.good is not None else ""


def codes(found: Verification) -> list[str]:
    return [refusal.code.value for refusal in found.skipped]


def policy_with(repo: ConfigRepo, **changes: Any) -> str:
    current = yaml.safe_load((repo.work / ".livecfg/policy.yaml").read_text())
    return yaml.safe_dump(current | changes)


def test_a_chain_of_allowed_commits_is_good_to_its_tip(repo: ConfigRepo) -> None:
    repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    tip = repo.commit({BASE: "a: 3\n"}, by="cy@acme")
    result = walk(repo)
    assert good(result) == tip
    assert result.good is not None
    assert result.good.signers == ("cy@acme",)
    assert (result.good.revision.position, codes(result)) == (2, [])


def test_attack_1_an_unsigned_commit_is_skipped(repo: ConfigRepo) -> None:
    before = repo.tip()
    bad = repo.commit({BASE: "a: 2\n"}, signed=False)
    result = walk(repo)
    assert (good(result), codes(result)) == (before, ["LC301"])
    assert result.skipped[0].commit == bad


def test_attack_2_a_commit_by_an_unknown_key_is_skipped(repo: ConfigRepo) -> None:
    before = repo.tip()
    repo.person("eve@evil")
    repo.commit({BASE: "a: 2\n"}, by="eve@evil")
    result = walk(repo)
    assert (good(result), codes(result)) == (before, ["LC303"])
    assert result.skipped[0].signer.startswith("SHA256:")


def test_attack_3_the_author_line_counts_for_nothing(repo: ConfigRepo) -> None:
    repo.person("eve@evil")
    repo.commit({BASE: "a: 2\n"}, by="eve@evil", message="Raise it\n\nSigned-off-by: ana <ana@acme>")
    assert codes(walk(repo)) == ["LC303"]


@pytest.mark.parametrize(
    ("option", "held"),
    [
        ('valid-before="20200101Z"', False),
        ('valid-after="20400101Z"', False),
        ('valid-after="20200101Z",valid-before="20400101Z"', True),
        ('namespaces="file"', False),
        ('namespaces="git,file"', True),
    ],
)
def test_attack_4_a_key_counts_only_in_its_time_and_for_its_purpose(repo: ConfigRepo, option: str, held: object) -> None:
    lines = repo.allowed_signers().replace("bo@acme ", f"bo@acme {option} ")
    repo.commit({".livecfg/allowed_signers": lines}, by="ana@acme")
    tip = repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    result = walk(repo)
    assert (good(result) == tip) is held
    assert codes(result) == ([] if held else ["LC304"])


def test_attack_5_a_revoked_key_signs_nothing_any_more(repo: ConfigRepo) -> None:
    repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    text = policy_with(repo, teams={"payments": ["cy@acme", "ana@acme"]})
    people = ["ana@acme", "cy@acme"]
    repo.commit({".livecfg/allowed_signers": repo.allowed_signers(people), ".livecfg/policy.yaml": text}, by="ana@acme")
    before = repo.tip()
    repo.commit({BASE: "a: 3\n"}, by="bo@acme")
    result = walk(repo)
    assert (good(result), codes(result)) == (before, ["LC303"])


def test_attack_6_a_date_moved_back_into_a_keys_window_does_not_help(repo: ConfigRepo) -> None:
    moment = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(repo.clock.now + 100))
    lines = repo.allowed_signers().replace("bo@acme ", f'bo@acme valid-before="{moment}" ')
    repo.commit({".livecfg/allowed_signers": lines}, by="ana@acme")
    repo.commit({BASE: "a: 2\n"}, by="ana@acme", date=repo.clock.now + 1000)
    repo.commit({BASE: "a: 3\n"}, by="bo@acme", date=repo.clock.now - 100)
    assert codes(walk(repo))[-1] in {"LC304", "LC306"}


def test_attack_7_a_path_without_enough_of_its_people_is_refused_with_who_is_missing(repo: ConfigRepo) -> None:
    before = repo.tip()
    repo.commit({PROD: "a: 2\n"}, by="bo@acme")
    result = walk(repo)
    assert (good(result), codes(result)) == (before, ["LC311"])
    refusal = result.skipped[0]
    assert (refusal.path, refusal.rule) == (PROD, "prod")
    assert "cy@acme" in refusal.advice


def test_a_path_that_no_rule_matches_is_denied(repo: ConfigRepo) -> None:
    repo.commit({"other/x.yaml": "a: 1\n"}, by="bo@acme")
    assert codes(walk(repo)) == ["LC310"]


def test_a_second_person_adopts_and_the_threshold_is_met(repo: ConfigRepo) -> None:
    landed = repo.commit({PROD: "a: 2\n"}, by="bo@acme")
    adopted = repo.adopt(landed, by="cy@acme")
    assert good(walk(repo)) == adopted


def test_adopting_ones_own_commit_is_still_one_person(repo: ConfigRepo) -> None:
    before = repo.tip()
    repo.adopt(repo.commit({PROD: "a: 2\n"}, by="bo@acme"), by="bo@acme")
    assert good(walk(repo)) == before


def test_attack_8_policy_belongs_to_the_root_role_alone(repo: ConfigRepo) -> None:
    before = repo.tip()
    rules = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
    repo.commit({".livecfg/policy.yaml": policy_with(repo, rules=rules), PROD: "a: 9\n"}, by="bo@acme")
    result = walk(repo)
    assert good(result) == before
    assert "LC312" in codes(result)


def test_attack_8_the_manifest_belongs_to_the_root_role_too(repo: ConfigRepo) -> None:
    repo.commit({"livecfg.yaml": "version: 1\nlayers: [config/_shared/base.yaml]\n"}, by="bo@acme")
    assert codes(walk(repo)) == ["LC312"]


@pytest.mark.parametrize(
    "changes",
    [
        {"root": {"people": ["ana@acme"], "threshold": 2}},
        {"root": {"people": ["zoe@acme"], "threshold": 1}},
        {"rules": [{"id": "all", "paths": ["flags/**"], "allow": ["*"]}]},
        {"rules": [{"id": "all", "paths": ["**"], "allow": ["nobody"]}]},
        {"rules": [{"id": "all", "paths": ["**"], "allow": ["bo@acme"], "threshold": 2}]},
        {"repo_id": "0" * 32},
        {"unheard_of": True},
        {"timestamp": ["bo@acme"]},
    ],
)
def test_attack_8_a_policy_that_locks_out_or_means_nothing_is_skipped(repo: ConfigRepo, changes: dict[str, Any]) -> None:
    before = repo.tip()
    repo.commit({".livecfg/policy.yaml": policy_with(repo, **changes)}, by="ana@acme")
    assert good(walk(repo)) == before


def test_a_new_root_must_agree_with_itself(repo: ConfigRepo) -> None:
    before = repo.tip()
    text = policy_with(repo, root={"people": ["bo@acme", "cy@acme"], "threshold": 2})
    change = repo.commit({".livecfg/policy.yaml": text}, by="ana@acme")
    assert good(walk(repo)) == before
    repo.adopt(change, by="bo@acme")
    assert good(walk(repo)) == before
    last = repo.adopt(change, by="cy@acme")
    assert good(walk(repo)) == last


def test_attack_9_a_merge_is_charged_with_its_whole_difference(repo: ConfigRepo) -> None:
    before = repo.tip()
    repo.branch("side")
    repo.switch("side")
    repo.commit({PROD: "a: 7\n"}, by="bo@acme")
    repo.switch("main")
    repo.commit({BASE: "a: 5\n"}, by="cy@acme")
    main = repo.tip()
    repo.merge("side", by="bo@acme")
    result = walk(repo)
    assert good(result) == main != before
    assert codes(result) == ["LC311"]


def test_attack_10_a_ref_without_the_last_good_commit_is_a_rollback(repo: ConfigRepo) -> None:
    first = repo.tip()
    second = repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    trusted = walk(repo).trusted
    with pytest.raises(RollbackError) as caught:
        walk(repo, trusted, tip=first)
    assert second[:10] in str(caught.value)


def test_attack_15_a_changed_byte_in_commit_or_signature_is_refused(repo: ConfigRepo) -> None:
    raw = repo.raw(repo.commit({BASE: "a: 2\n"}, by="bo@acme"))
    for old, new in ((b"Change", b"Chance"), (b"gpgsig ", b"gpgsiG "), (b"\nauthor", b"\nx-note y\nauthor")):
        forged = _store(repo, raw.replace(old, new, 1))
        result = walk(repo, tip=forged)
        assert codes(result) in (["LC302"], ["LC305"], ["LC305", "LC301"]), old


def _store(repo: ConfigRepo, raw: bytes) -> str:
    from tests.simulator.repo import isolated

    command = ["git", "-C", str(repo.work), "hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
    done = subprocess.run(command, input=raw, capture_output=True, check=True, env=isolated(repo.path / "home"))
    return done.stdout.decode().strip()


@pytest.mark.parametrize("name", ["config/checkout/x y.yaml", "config/checkout/BASE.yaml", "config/checkout/naïve.yaml"])
def test_attack_17_names_that_trick_people_or_file_systems_are_skipped(repo: ConfigRepo, name: str) -> None:
    repo.commit({name: "a: 1\n"}, by="bo@acme")
    result = walk(repo)
    assert codes(result) == ["LC314"]


def test_attack_17_links_and_executables_are_skipped_and_a_revert_heals(repo: ConfigRepo) -> None:
    link = repo.work / "config/checkout/link.yaml"
    link.symlink_to("/etc/passwd")
    repo.git("add", "-A")
    bad = repo.commit({}, by="bo@acme", message="a link")
    assert codes(walk(repo)) == ["LC314"]
    healed = repo.revert(bad, by="bo@acme")
    assert good(walk(repo)) == healed


def test_attack_23_a_commit_that_cannot_hold_does_not_block_the_branch(repo: ConfigRepo) -> None:
    repo.commit({BASE: "a: 666\n"}, signed=False)
    healed = repo.commit({BASE: "a: 1\n"}, by="cy@acme")
    assert good(walk(repo)) == healed


@pytest.mark.parametrize("name", ["/".join("abcdefghijklmnopqrst") + "/x.yaml", "config/checkout/\u202egnp.yaml"])
def test_attack_23_a_tree_that_breaks_the_rules_is_healed_by_taking_it_back(repo: ConfigRepo, name: str) -> None:
    bad = repo.commit({name: "a: 1\n"}, signed=False)
    between = repo.commit({BASE: "a: 4\n"}, by="bo@acme")
    assert good(walk(repo)) not in {bad, between}
    healed = repo.commit({name: None}, by="cy@acme")
    assert good(walk(repo)) == healed


def test_attack_24_an_innocent_commit_on_top_launders_nothing(repo: ConfigRepo) -> None:
    before = repo.tip()
    repo.commit({BASE: "a: 1\nevil: 1\n"}, signed=False)
    repo.commit({BASE: "a: 2\nevil: 1\n"}, by="cy@acme")
    assert good(walk(repo)) == before


def test_attack_24_two_keys_of_one_person_are_one_person(repo: ConfigRepo) -> None:
    second = repo.person("bo2@acme")
    lines = repo.allowed_signers(["ana@acme", "bo@acme", "cy@acme"]) + f"bo@acme {second.public}\n"
    repo.commit({".livecfg/allowed_signers": lines}, by="ana@acme")
    before = repo.tip()
    repo.adopt(repo.commit({PROD: "a: 2\n"}, by="bo@acme"), by="bo2@acme")
    assert good(walk(repo)) == before


def test_a_commit_of_the_future_stops_the_walk_until_its_time(repo: ConfigRepo) -> None:
    before = repo.tip()
    tip = repo.commit({BASE: "a: 2\n"}, by="bo@acme", date=NOW + 1000)
    assert good(walk(repo)) == before
    assert good(walk(repo, now=NOW + 1000)) == tip


def test_a_pinned_threshold_of_two_needs_a_second_person_from_the_first_commit_on(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "two")
    for person in ("ana@acme", "bo@acme"):
        repo.person(person)
    first = repo.found({"config/_shared/base.yaml": "{}\n"}, root=("ana@acme", "bo@acme"), threshold=2)
    assert good(walk(repo)) == ""
    second = repo.adopt(first, by="bo@acme")
    assert good(walk(repo)) == second


def test_a_missing_object_stops_the_walk_and_skips_nothing(repo: ConfigRepo) -> None:
    with pytest.raises(MissingObjectError):
        walk(repo, tip="0" * 39 + "1")


def test_a_walk_reads_and_splits_each_tree_once() -> None:
    repo = MemoryRepo()
    tip = repo.found(("ana@acme",), [{"id": "all", "paths": ["**"], "allow": ["*"]}], {BASE: b"a: 1\n", PROD: b"a: 1\n"})
    for n in range(5):
        tip = repo.commit({BASE: b"a: %d\n" % (n + 2)}, on=(tip,), by="ana@acme")
    reads: Counter[str] = Counter()

    class Counting:
        def read(self, object_id: str, kind: Kind) -> bytes:
            reads[object_id] += kind == "tree"
            return repo.read(object_id, kind)

    assert verify(Candidate("main", tip, Counting()), repo.trusted(), NOW).good is not None
    assert max(reads.values()) == 1


def test_a_chain_over_the_limit_is_refused(repo: ConfigRepo) -> None:
    repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    with pytest.raises(RefusedError, match="more than 1 commits"):
        verify(Candidate("main", repo.tip(), GitObjects(repo)), start(repo), NOW, WalkLimits(commits=1))


@pytest.mark.parametrize("limits", [WalkLimits(commits=3), WalkLimits(commit_bytes=100_000)], ids=["many", "large"])
def test_a_chain_that_anybody_made_too_long_is_healed_by_putting_the_branch_back_as_the_refusal_says(limits: WalkLimits) -> None:
    repo = MemoryRepo()
    good = repo.found(("ana@acme",), [{"id": "all", "paths": ["**"], "allow": ["*"]}], {BASE: b"a: 1\n"})
    trusted = repo.verify(good).trusted
    tip = good
    for _ in range(4):
        tip = repo.commit({}, on=(tip,), message="x" * 50_000)
    on_top = repo.commit({BASE: b"a: 2\n"}, on=(tip,), by="ana@acme")
    with pytest.raises(RefusedError, match=f"LC321.*put the branch back to {good[:10]}"):
        verify(Candidate("main", on_top, repo), trusted, NOW, limits)
    put_back = repo.commit({BASE: b"a: 2\n"}, on=(good,), by="ana@acme")
    found = verify(Candidate("main", put_back, repo), trusted, NOW, limits).good
    assert found is not None
    assert found.commit.id == put_back


def test_an_anchor_is_trusted_with_its_payload_and_no_other(repo: ConfigRepo) -> None:
    repo.commit({BASE: "a: 666\n"}, signed=False)
    repo.commit({BASE: "a: 1\n"}, by="bo@acme")
    anchor = repo.tip()
    tip = repo.commit({BASE: "a: 3\n"}, by="bo@acme")
    data = repo.trusted_root_at(anchor)
    root = TrustedRoot.parse(data, "trusted_root.yaml")
    assert good(walk(repo, Trusted.start(root, "main"))) == tip
    other = data.replace(repo.payload_sha256(anchor).encode(), b"f" * 64)
    with pytest.raises(LivecfgError, match="anchor"):
        walk(repo, Trusted.start(TrustedRoot.parse(other, "trusted_root.yaml"), "main"))


def test_two_halves_of_a_chain_give_the_verdict_of_the_whole(repo: ConfigRepo) -> None:
    commits = [repo.tip()]
    for n in range(12):
        kind = n % 4
        if kind == 0:
            commits.append(repo.commit({BASE: f"a: {n}\n"}, signed=False))
        elif kind == 1:
            commits.append(repo.adopt(commits[-1], by="cy@acme"))
        elif kind == 2:
            commits.append(repo.commit({PROD: f"a: {n}\n"}, by="bo@acme"))
        else:
            commits.append(
                repo.adopt(commits[-1], by="cy@acme") if n % 8 == 3 else repo.commit({BASE: f"b: {n}\n"}, by="bo@acme")
            )
    whole = walk(repo).trusted.good
    for middle in commits:
        assert walk(repo, walk(repo, tip=middle).trusted).trusted.good == whole


def test_what_was_remembered_is_taken_up_only_under_the_same_root_and_ref(repo: ConfigRepo) -> None:
    trusted = walk(repo).trusted
    state = trusted.as_state()
    assert resume(GitObjects(repo), Trusted.from_state(trusted.root, "main", state)).revision.commit == repo.tip()
    with pytest.raises(ValueError, match="another root or ref"):
        Trusted.from_state(trusted.root, "other", state)
    forged = Trusted.from_state(trusted.root, "main", state | {"payload_sha256": "0" * 64})
    with pytest.raises(ValueError, match="another commit"):
        resume(GitObjects(repo), forged)


def test_the_signer_of_a_change_is_told_by_the_policy_that_judged_it_never_by_its_own(repo: ConfigRepo) -> None:
    landed = repo.commit({BASE: "a: 2\n"}, by="bo@acme")
    start_here = start(repo)
    eve = repo.person("eve@evil")
    forged = repo.allowed_signers(["ana@acme", "cy@acme"]) + f"bo@acme {eve.public}\n"
    repo.commit({BASE: "a: 666\n", ".livecfg/allowed_signers": forged}, by="eve@evil")
    asked = Origin("a", BASE, BASE)
    assert last_change(GitObjects(repo), landed, asked, start_here).signers == ("bo@acme",)
    attacked = last_change(GitObjects(repo), repo.tip(), asked, start_here)
    assert attacked.commit == repo.tip()
    assert attacked.signers == (), "nobody whom policy knows"


def test_an_adopted_change_is_told_with_everybody_who_stands_behind_it(repo: ConfigRepo) -> None:
    landed = repo.commit({PROD: "a: 2\n"}, by="bo@acme")
    tip = repo.adopt(landed, by="cy@acme")
    origin = last_change(GitObjects(repo), tip, Origin("a", PROD, PROD), start(repo))
    assert (origin.commit, origin.signers) == (landed, ("bo@acme", "cy@acme"))
