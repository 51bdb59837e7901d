"""Attack 23: what one commit does to the walk of everybody. It may be refused; it may not stop the branch, nor keep it busy."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.errors import LivecfgError, MissingObjectError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.revision import Candidate
from livecfg.trust import changes, paths, policy, rules
from livecfg.trust.commits import MAX_COMMIT_BYTES, parse_commit
from livecfg.trust.paths import matches
from livecfg.trust.root import Trusted, TrustedRoot
from livecfg.trust.tree import Entry, parse
from livecfg.trust.verify import MAX_TOLD, judgements, verify
from tests.simulator import ConfigRepo, GitHttpServer
from tests.simulator.memory import NOW, MemoryRepo
from tests.trust.removed import without

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.revision import Kind

ANA, BO, CY = PEOPLE = ("ana@acme", "bo@acme", "cy@acme")
PROD, FLAGS, STEPS = "config/a/prod.yaml", "flags/a/main.yaml", "rollouts/a.yaml"
RULES = [
    {"id": "all", "paths": ["**"], "allow": ["*"]},
    {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": [BO, CY], "threshold": 2},
    {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": ["*"]},
]
FILES = {PROD: b"a: 1\n", FLAGS: b"flags: {}\n", STEPS: b"weight: 1\n"}
LIMITS = [{"id": "steps", "paths": ["rollouts/**"], "max_weight_step": 50}]
MISSING = "1" * 40


def begin(**more: Any) -> tuple[MemoryRepo, str]:
    repo = MemoryRepo()
    return repo, repo.found(PEOPLE, RULES, FILES, limits=LIMITS, **more)


def put(repo: MemoryRepo, tree: str, path: str, entry: Entry) -> str:
    """Write a tree with one more entry, whatever it is."""
    name, _, rest = path.partition("/")
    here = parse(repo.read(tree, "tree"), 20)
    if rest:
        entry = Entry("40000", put(repo, here[name].id if name in here else repo.add("tree", b""), rest, entry))
    rows = sorted((here | {name: entry}).items(), key=lambda row: row[0] + "/" * row[1].is_tree)
    return repo.add("tree", b"".join(f"{e.mode} {n}\0".encode() + bytes.fromhex(e.id) for n, e in rows))


@pytest.mark.parametrize("by", [ANA, CY])
@pytest.mark.parametrize("path", [".livecfg/policy.yaml", ".livecfg/openpgp/ana.asc", FLAGS, STEPS])
def test_attack_23_a_link_to_another_repository_where_a_file_is_read_stops_nobody(path: str, by: str) -> None:
    repo, first = begin()
    whole = repo.tree(repo.files[first])
    bad = repo.commit_tree(put(repo, whole, path, Entry("160000", MISSING)), on=(first,), by=by)
    healed = repo.commit_tree(whole, on=(bad,), by=CY)
    assert repo.good(bad) == first
    assert repo.good(healed) == healed


@pytest.mark.parametrize(
    ("module", "check", "path"),
    [
        (policy, "if entry is None or not entry.is_file:\n            message", ".livecfg/policy.yaml"),
        (policy, 'objects.read(entry.id, "blob") if entry.is_file else b""', ".livecfg/openpgp/ana.asc"),
        (changes, "if not entry.is_file:", FLAGS),
    ],
)
def test_a_link_would_stop_the_walk_without_the_look_at_its_mode(module: Any, check: str, path: str) -> None:
    repo, first = begin()
    bad = repo.commit_tree(put(repo, repo.tree(repo.files[first]), path, Entry("160000", MISSING)), on=(first,), by=ANA)
    instead = check.replace("not entry.is_file", "False").replace(' if entry.is_file else b""', "")
    with without(module, check, instead), pytest.raises((MissingObjectError, AttributeError)):
        repo.good(bad)
    assert repo.good(bad) == first


@pytest.mark.parametrize("transport", ["path", "http"])
def test_attack_23_a_tree_under_the_mode_of_a_file_is_taken_by_git_and_healed_by_taking_it_back(
    tmp_path: Path, transport: str
) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.person(ANA)
    first = repo.found({FLAGS: "flags: {}\n"})
    repo.push()
    (repo.work / "fresh").mkdir()
    (repo.work / "fresh/x").write_text("x\n")
    repo.git("add", "fresh")
    tree = repo.git("rev-parse", repo.git("write-tree") + ":fresh")
    repo.git("rm", "-rq", "--cached", "fresh")
    (repo.work / "fresh/x").unlink()
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{tree},livecfg.yaml")
    repo.git("-c", "user.name=eve", "-c", "user.email=eve@evil", "commit", "-q", "--no-gpg-sign", "-m", "poison")
    repo.push()
    root = TrustedRoot.parse(repo.trusted_root, "trusted_root.yaml")
    with GitHttpServer(repo.path) as server, Mirror(tmp_path / "home", GitSource(_url(repo, server, transport))) as mirror:
        found = mirror.fetch(None)
        assert found is not None
        mirror.promote()
        walk = verify(found, Trusted.start(root, "main"), NOW)
        assert walk.trusted.good is not None
        assert walk.trusted.good.commit == first
        repo.git("reset", "-q", "--hard", first)
        healed = repo.commit({FLAGS: "flags: {a: 1}\n"})
        repo.git("reset", "-q", "--soft", repo.remote_tip())
        healed = repo.commit({}, message="Take it back")
        repo.push()
        later = mirror.fetch(found.tip)
        assert later is not None
        assert verify(later, walk.trusted, NOW).trusted.good.commit == healed  # type: ignore[union-attr]


def _url(repo: ConfigRepo, server: GitHttpServer, transport: str) -> str:
    return str(repo.remote_path) if transport == "path" else server.url(repo.remote_path)


def test_attack_23_keys_that_nobody_of_the_root_signed_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysequoia", None)  # as where the extra is not installed
    repo, first = begin()
    bad = repo.commit({".livecfg/openpgp/cy.asc": b"a key"}, on=(first,), by=CY)
    assert repo.good(bad) == first
    check = "changed and all(f.holds for f in findings if is_root_path(f.path))"
    with without(rules, check, "changed"), pytest.raises(LivecfgError, match="pysequoia"):
        repo.good(bad)
    by_root = repo.commit({".livecfg/openpgp/cy.asc": b"a key"}, on=(first,), by=ANA)
    with pytest.raises(LivecfgError, match="pysequoia"):
        repo.good(by_root)


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("config/" + "*a" * 40 + "*b", "config/" + "a" * 128),
        ("config/" + "*a" * 40 + "*b*", "config/" + "a" * 128),
        ("/".join(["**"] * 60) + "/b", "/".join("a" * 16)),
        ("/".join(["**", "*a*"] * 30), "/".join(["aaaa"] * 16)),
    ],
)
def test_attack_23_no_pattern_of_a_policy_takes_long(glob: str, path: str) -> None:
    began = time.process_time()
    assert not matches([glob], path)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("a/**/b/**/c", "a/b/x/b/c", True),
        ("a/*/b", "a/b", False),
        ("a/*", "a/b/c", False),
        ("*", "a", True),
        ("a*c*e", "abcde", True),
        ("a*c*e", "ae", False),
        ("a*a", "a", False),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "ab", False),
        ("a.b", "aXb", False),
        ("**/**", "a", True),
        ("**/*", "a/b", True),
    ],
)
def test_a_pattern_matches_part_by_part(glob: str, path: str, expected: object) -> None:
    assert matches([glob], path) is expected


def test_attack_23_a_long_row_of_changes_by_one_person_ends_in_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_PENDING", 5)
    repo, tip = begin()
    pending = []
    for n in range(6):
        tip = repo.commit({PROD: b"a: %d\n" % (n + 2)}, on=(tip,), by=BO)
        pending.append(tip)
    whole = "\n".join(f"Livecfg-Adopt: {commit}" for commit in pending)
    last = repo.commit({}, on=(tip,), by=CY, message=f"All of it\n\n{whole}")
    found = list(judgements(Candidate("main", last, repo), repo.trusted(), NOW))[-1]
    assert not found.authorised
    assert "over 5 commits changed it" in found.refusals[0].message
    with without(rules, "if len(makers) > MAX_PENDING:", "if False:"):
        assert repo.good(last) == last
    healed = repo.commit({PROD: FILES[PROD]}, on=(last,), by=CY)
    assert repo.good(healed) == healed


def test_attack_23_merges_of_merges_by_one_person_keep_nobody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    repo, tip = begin()
    repo.objects.clear()
    rule = RULES[1] | {"paths": ["config/**"]}
    many = {f"config/{n}/prod.yaml": b"a: 1\n" for n in range(5)}
    first = tip = repo.found(PEOPLE, [RULES[0], rule], many)
    for n in range(6):
        side = tip
        for _ in range(8):
            side = repo.commit(dict.fromkeys(many, b"a: %d\n" % (n + 2)), on=(side,), by=BO)
        tip = repo.merge(tip, side, dict.fromkeys(many, b"a: %d\n" % (n + 2)), by=BO)
    monkeypatch.setattr(rules, "MAX_LOOKS", 800)
    found = list(judgements(Candidate("main", tip, repo), repo.trusted(), NOW))[-1]
    assert not found.authorised
    assert "too much was merged" in found.refusals[0].message
    last = repo.commit(
        {}, on=(tip,), by=CY, message="\n".join(["All of it", "", *(f"Livecfg-Adopt: {c}" for c in _chain(repo, tip, first))])
    )
    assert repo.good(last) == first
    with without(rules, "if self.evidence.looks > MAX_LOOKS:", "if False:"):
        assert repo.good(last) == last
    healed = repo.commit(many, on=(last,), by=CY)
    again = repo.commit({"x": b"a: 1\n"}, on=(healed,), by=CY)
    assert repo.good(again) == again


def _chain(repo: MemoryRepo, tip: str, stop: str) -> list[str]:
    chain = []
    while tip != stop:
        chain.append(tip)
        tip = repo.parents(tip)[0]
    return chain


def test_attack_23_thousands_of_pending_changes_are_judged_in_seconds() -> None:
    repo, tip = begin()
    first = tip
    for n in range(2000):
        tip = repo.commit({PROD: b"a: %d\n" % (n + 2)}, on=(tip,), by=BO)
    began = time.process_time()
    found = repo.verify(tip)
    assert time.process_time() - began < 60
    assert (found.good is not None, found.trusted.good is not None and found.trusted.good.commit) == (True, first)
    assert len(found.skipped) == MAX_TOLD
    assert found.skipped[-1].commit == tip


@pytest.mark.parametrize(("date", "lands"), [(99_999_999_999, True), (100_000_000_000, False), (10**17, False)])
def test_attack_23_a_date_that_no_calendar_has_is_no_ordinary_commit(date: int, lands: object) -> None:
    repo, first = begin()
    tip = repo.commit({STEPS: b"weight: 2\n"}, on=(first,), by=CY, date=date)
    found = repo.verify(tip, now=date)
    assert (found.good is not None and found.good.commit.id == tip) is lands
    if lands:
        assert found.good is not None
        assert datetime.fromtimestamp(found.good.commit.committer_time, UTC).year == 5138


def test_attack_23_merges_that_share_no_history_cost_one_pass_over_the_chain() -> None:
    repo, tip = begin(merge="clean", forges=[])
    whole = repo.tree(FILES)
    for _ in range(100):
        tip = repo.commit_tree(whole, on=(tip,))
    orphan = repo.commit_tree(whole)
    for _ in range(20):
        tip = repo.commit_tree(whole, on=(tip, orphan))
    reads: Counter[str] = Counter()

    class Counting:
        def read(self, object_id: str, kind: Kind) -> bytes:
            reads[object_id] += kind == "commit"
            return repo.read(object_id, kind)

    verify(Candidate("main", tip, Counting()), repo.trusted(), NOW)
    assert max(reads.values()) <= 2, "once to find the chain, once for all merges"


@pytest.mark.parametrize("by", ["", CY])
def test_attack_23_a_dozen_trees_that_stand_for_a_trillion_files_stop_nobody(by: str) -> None:
    repo, first = begin()
    below = repo.tree({"x": b"1"})
    for _ in range(12):
        below = repo.add("tree", b"".join(b"40000 %d\0" % n + bytes.fromhex(below) for n in range(10)))
    bad = repo.commit_tree(put(repo, repo.tree(repo.files[first]), "zzz", Entry("40000", below)), on=(first,), by=by)
    healed = repo.commit_tree(repo.tree(repo.files[first]), on=(bad,), by=CY)
    began = time.process_time()
    assert repo.good(bad) == first
    assert repo.good(healed) == healed
    assert time.process_time() - began < 30


@pytest.mark.parametrize("size", [60_000, 8_000_000])
def test_attack_23_a_header_of_endless_lines_is_read_in_no_time_and_not_kept(size: int) -> None:
    repo, first = begin()
    head = f"tree {repo.tree(repo.files[first])}\nparent {first}\nauthor a <a> 1 +0000\ncommitter a <a> {repo.clock} +0000\n"
    began = time.process_time()
    bad = parse_commit("1" * 40, head.encode() + b"x y\n" + b" z\n" * (size // 3) + b"\nx\n")
    assert time.process_time() - began < 2
    assert bad.flaw
    assert bad.parents == (first,)
    assert len(bad.payload) + len(bad.message) < 2 * MAX_COMMIT_BYTES


def test_attack_23_a_commit_with_thousands_of_faults_is_told_with_a_hundred_of_them() -> None:
    repo, first = begin()
    many = {f"zzz/{n}.yaml": b"a: 1\n" for n in range(500)}
    bad = repo.commit(many, on=(first,))
    on_top = repo.commit({}, on=(bad,), by=CY)
    refusals = [refusal for refusal in repo.verify(on_top).skipped if refusal.commit == on_top]
    assert len(refusals) == rules.MAX_FAULTS + 1
    assert refusals[-1].message.endswith("what follows it was not looked at")


def test_attack_8_a_policy_behind_a_hundred_faults_is_not_taken_over() -> None:
    repo, first = begin()
    mine = repo.policy(PEOPLE, RULES, root={"people": [CY], "threshold": 1})
    bad = repo.commit(mine | {f"+{n}": b"" for n in range(rules.MAX_FAULTS)}, on=(first,))
    assert repo.good(repo.commit({}, on=(bad,), by=CY)) == first


def test_the_patterns_can_be_told_from_ones_that_try_again() -> None:
    with without(paths, 'f"(?>.*?{piece})"', 'f".*{piece}"'):
        began = time.process_time()
        matches(["*a" * 4 + "*b*"], "a" * 128)
        slow = time.process_time() - began
    began = time.process_time()
    matches(["*a" * 4 + "*b*"], "a" * 128)
    assert time.process_time() - began < slow / 10
