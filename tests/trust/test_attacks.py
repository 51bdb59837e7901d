"""The 25 attacks of SECURITY.md, one by one: each fails, and succeeds against a version with the check removed that stops it.

A row names the check by its text and what stands in its place; `attack` says whether it got through. Attacks that need a real
remote, hub or disk are tested beside those too; SECURITY.md names every test, and `test_security.py` holds it to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from livecfg import document, refusal
from livecfg.document import read
from livecfg.errors import FetchError
from livecfg.git import graph, pack, quarantine, store
from livecfg.git.mirror import Mirror
from livecfg.git.pack import Entry, PackReader, write_pack
from livecfg.git.source import GitSource, Limits
from livecfg.refusal import Code, Refusal
from livecfg.revision import Candidate
from livecfg.trust import approvals, changes, commits, heartbeat, identify, keys, paths, policy, root, rules, tree, verify
from livecfg.trust.heartbeat import Freshness, beat
from livecfg.trust.root import Good, Trusted, TrustedRoot
from livecfg.trust.signatures import public_line, sign
from livecfg.trust.tree import TreeFaultError
from livecfg.trust.verify import WalkLimits, resume
from livecfg.trust.verify import verify as walk
from tests.simulator import ConfigRepo
from tests.simulator.memory import APPROVE, BOUND, NOW, MemoryRepo, key
from tests.simulator.repo import REPO_ID
from tests.trust.removed import Removed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANA, BO, CY, HUB, EVE = "ana@acme", "bo@acme", "cy@acme", "hub@acme", "eve@evil"
PEOPLE = (ANA, BO, CY, HUB)
BASE, PROD, BOUND_PATH = "config/a/base.yaml", "config/a/prod.yaml", "bound/a.yaml"
RULES: list[dict[str, Any]] = [
    {"id": "all", "paths": ["**", "!secret/**"], "allow": ["*"]},
    {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": [BO, CY], "threshold": 2},
    {"id": "bound", "paths": ["bound/**"], "allow": ["*"], "bind_ref": True},
]
FILES = {BASE: b"a: 1\n", PROD: b"a: 1\n", BOUND_PATH: b"a: 1\n"}
MORE: dict[str, Any] = {"services": [HUB], "timestamp": [HUB]}


class World:
    """A repository in memory whose first commit is good, and what an attacker does on top of it."""

    def __init__(self, **more: Any) -> None:
        self.repo = MemoryRepo()
        self.first = self.repo.found(PEOPLE, RULES, FILES, **MORE | more)

    def on(self, *parents: str, by: str = "", **how: Any) -> str:
        return self.repo.commit(how.pop("files", {BASE: b"a: 666\n"}), on=parents or (self.first,), by=by, **how)

    def lands(self, tip: str, trusted: Trusted | None = None) -> bool:
        return self.repo.good(tip, trusted) == tip

    def signers(self, change: Callable[[str], str]) -> str:
        """Root changes the keys; gives the commit."""
        text = change(self.repo.files[self.first][".livecfg/allowed_signers"].decode())
        return self.on(by=ANA, files={".livecfg/allowed_signers": text.encode()})


def attack_1() -> bool:
    world = World()
    return world.lands(world.on(name=BO))


def attack_2() -> bool:
    world = World()
    return world.lands(world.on(by=EVE, name=BO))


def attack_3() -> bool:
    world = World()
    return world.lands(world.on(by=CY, name=ANA, files={"livecfg.yaml": b"version: 1\nlayers: []\n"}))


def attack_4() -> bool:
    world = World()
    on = world.signers(lambda text: text.replace("bo@acme ", 'bo@acme valid-before="20200101Z" '))
    return world.lands(world.on(on, by=BO))


def attack_5() -> bool:
    world = World()
    lines = {person: f"{person} {public_line(key(person))}\n" for person in PEOPLE}
    rules = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
    files = world.repo.policy((ANA, CY, HUB), rules, **MORE)
    assert lines[BO] not in files[".livecfg/allowed_signers"].decode()
    on = world.on(by=ANA, files=dict(files))
    return world.lands(world.on(on, by=BO))


def _windowed(world: World) -> str:
    """Bo's key counts until a little after now; time then goes on."""
    until = world.repo.clock + 200
    on = world.signers(lambda text: text.replace("bo@acme ", f'bo@acme valid-before="{_utc(until)}Z" '))
    return world.on(on, by=ANA, date=world.repo.clock + 700, files={BASE: b"a: 2\n"})


def _utc(moment: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(moment))


def attack_6() -> bool:
    world = World()
    late = _windowed(world)
    return world.lands(world.on(late, by=BO, date=world.repo.clock + 100))


def attack_6_far_back() -> bool:
    world = World()
    return world.lands(world.on(world.on(by=CY, files={BASE: b"a: 2\n"}), by=CY, date=world.repo.clock - 5000))


def attack_7() -> bool:
    world = World()
    return world.lands(world.on(by=BO, files={PROD: b"a: 666\n"}))


def attack_7_denied() -> bool:
    world = World()
    return world.lands(world.on(by=BO, files={"secret/a.yaml": b"a: 666\n"}))


def attack_8() -> bool:
    world = World()
    return world.lands(world.on(by=BO, files={"livecfg.yaml": b"version: 1\nlayers: []\n"}))


def attack_8_self() -> bool:
    world = World()
    files = world.repo.policy(PEOPLE, RULES, **MORE | {"root": {"people": [BO], "threshold": 1}})
    return world.lands(world.on(by=BO, files=dict(files)))


def attack_8_lock_out() -> bool:
    world = World()
    files = world.repo.policy(PEOPLE, [{"id": "all", "paths": ["**"], "allow": [BO], "threshold": 2}], **MORE)
    return world.lands(world.on(by=ANA, files=dict(files)))


def attack_8_half() -> bool:
    """One of two old root people hands the root to somebody who never said yes."""
    world = World()
    files = world.repo.policy(PEOPLE, RULES, **MORE | {"root": {"people": [BO, CY], "threshold": 2}})
    return world.lands(world.on(by=ANA, files=dict(files)))


def attack_9() -> bool:
    """What the merge takes over from the branch shows in no combined diff."""
    world = World()
    side = world.on(files={PROD: b"a: 666\n"})
    return world.lands(world.on(world.first, side, by=HUB, files={PROD: b"a: 666\n"}))


def attack_9_octopus() -> bool:
    world = World()
    one, two = world.on(by=BO), world.on(by=CY, files={BASE: b"a: 3\n"})
    return world.lands(world.on(world.first, one, two, by=BO))


def attack_9_undone() -> bool:
    """What was approved on a branch and taken back there is merged as it was before that."""
    world = World()
    change = world.on(by=BO, files={PROD: b"a: 2\n"})
    back = world.on(change, by=BO, files={PROD: b"a: 1\n"})
    return world.lands(world.on(world.first, back, by=CY, files={PROD: b"a: 2\n"}))


def attack_10() -> bool:
    world = World()
    trusted = world.repo.verify(world.on(by=BO)).trusted
    return world.lands(world.on(by=CY, files={BASE: b"a: 2\n"}), trusted)


def attack_10_foxtrot() -> bool:
    world = World()
    main = world.on(by=BO)
    trusted = world.repo.verify(main).trusted
    side = world.on(by=CY, files={BASE: b"a: 2\n"})
    return world.lands(world.on(side, main, by=CY, files={}), trusted)


def attack_10_endless() -> bool:
    world = World()
    tip = world.on(world.on(by=BO), by=BO, files={BASE: b"a: 3\n"})
    return walk(Candidate("main", tip, world.repo), world.repo.trusted(), NOW, WalkLimits(commits=2)).good is not None


def attack_10_long_messages() -> bool:
    world = World()
    tip = world.on(world.on(by=BO, message="x" * 50_000), by=BO, files={BASE: b"a: 3\n"}, message="x" * 50_000)
    limits = WalkLimits(commit_bytes=50_000)
    return walk(Candidate("main", tip, world.repo), world.repo.trusted(), NOW, limits).good is not None


def _freshness(world: World, good: Good, at: float) -> Freshness:
    found = policy.load_policy(world.repo, world.repo.tree(world.repo.files[world.first]))
    freshness = Freshness("refs/heads/main", 60.0, at)
    said = beat(REPO_ID, "refs/heads/main", good, 1, at, lambda line: sign(key(HUB), heartbeat.NAMESPACE, line))
    freshness.take([said], found, at)
    assert freshness.newest is not None
    return freshness


def _good(world: World, tip: str) -> Good:
    good = world.repo.verify(tip).trusted.good
    assert good is not None
    return good


def attack_11() -> bool:
    world = World()
    return not _freshness(world, _good(world, world.first), NOW).stale(NOW + 3600)


def attack_11_withheld() -> bool:
    world = World()
    freshness = _freshness(world, _good(world, world.on(by=BO)), NOW)
    freshness.look(_good(world, world.first), world.repo.clock, NOW)
    return not freshness.alarms


def attack_12() -> bool:
    """A repository of the same people, for something else."""
    world = World(repo_id="0" * 32)
    return world.lands(world.first)


def attack_12_branch() -> bool:
    """Work in progress that was signed for no branch."""
    world = World()
    return world.lands(world.on(by=BO, files={BOUND_PATH: b"a: 666\n"}))


def attack_12_other_branch() -> bool:
    world = World()
    words = f"Change it\n\n{BOUND.replace('main', 'staging')}"
    return world.lands(world.on(by=BO, files={BOUND_PATH: b"a: 666\n"}, message=words))


def attack_12_reverted() -> bool:
    """A branch that was approved before its change was reverted is merged again."""
    world = World()
    change = world.on(by=BO, files={PROD: b"a: 2\n"})
    merge = world.on(world.first, change, by=CY, files={PROD: b"a: 2\n"})
    back = world.on(merge, by=BO, files={PROD: b"a: 1\n"})
    reverted = world.on(back, by=CY, files={}, message=f"Revert\n\nLivecfg-Adopt: {back}")
    assert world.lands(reverted)
    approval = world.on(change, by=BO, files={}, message=f"Approve\n\n{APPROVE}")
    again = world.on(reverted, approval, by=CY, files={PROD: b"a: 2\n"})
    return world.lands(again)


# --- the disk and the wire ---------------------------------------------------------------------------------------------------


@cache
def upstream() -> tuple[ConfigRepo, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="livecfg-attacks-")
    repo = ConfigRepo(Path(folder.name) / "upstream")
    repo.found({"config/checkout/base.yaml": "a: 1\n"})
    repo.push()
    return repo, folder


@contextmanager
def mirrored() -> Iterator[tuple[ConfigRepo, Mirror]]:
    repo, _ = upstream()
    with tempfile.TemporaryDirectory() as home, Mirror(Path(home), GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        yield repo, mirror


def _overwrite(mirror: Mirror, name: str, kind: bytes, content: bytes) -> None:
    path = mirror.folder / "mirror.git" / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"%s %d\0" % (kind, len(content)) + content))
    mirror.objects.forget()


def attack_13() -> bool:
    with mirrored() as (repo, mirror):
        blob = repo.git("rev-parse", "HEAD:config/checkout/base.yaml")
        _overwrite(mirror, blob, b"blob", b"a: 666\n")
        return mirror.objects.read(blob, "blob") == b"a: 666\n"


def attack_13_alternates() -> bool:
    with mirrored() as (_, mirror), tempfile.TemporaryDirectory() as name:
        other = ConfigRepo(Path(name) / "other")
        hostile = other.found({"x.yaml": "x: 1\n"})
        (mirror.folder / "mirror.git/objects/info/alternates").write_text(f"{other.work}/.git/objects\n")
        try:
            return bool(mirror.objects.read(hostile, "commit"))
        except FetchError:
            return False


def attack_14() -> bool:
    """The bytes of a remembered commit are others under the same id: what a collision would make."""
    world = World()
    tip = world.on(by=BO)
    trusted = world.repo.verify(tip).trusted
    other = world.on(by=BO, message="Other words")
    world.repo.objects[tip] = world.repo.objects[other]
    with contextlib.suppress(ValueError):
        return resume(world.repo, trusted).commit.id == tip
    return False


def attack_14_anchor() -> bool:
    world = World()
    other = world.repo.read(world.on(by=EVE, files={BASE: b"a: 1\n"}), "commit")
    payload = hashlib.sha256(b"what it was").hexdigest()
    anchor = {"commit": f"sha1:{world.first}", "payload_sha256": payload}
    people = {ANA: [public_line(key(ANA))]}
    text = {"version": 1, "repo_id": REPO_ID, "threshold": 1, "people": people, "anchor": anchor}
    world.repo.objects[world.first] = ("commit", other)
    return world.lands(world.first, Trusted.start(TrustedRoot.parse(yaml.safe_dump(text, width=1000).encode(), "r.yaml"), "main"))


def attack_14_parent() -> bool:
    """A last good commit whose bytes changed makes an unsigned change look like part of it."""
    world = World()
    trusted = world.repo.verify(world.first).trusted
    bad = world.on(files={BASE: b"a: 666\n"})
    tip = world.on(bad, by=BO, files={BASE: b"a: 666\nb: 1\n"})
    world.repo.objects[world.first] = ("commit", world.repo.read(bad, "commit"))
    return world.lands(tip, trusted)


def attack_15() -> bool:
    """A header that Git strips from the signed payload."""
    world = World()
    raw = world.repo.read(world.on(by=BO), "commit")
    return world.lands(world.repo.add("commit", raw.replace(b"\n\n", b"\ngpgsig-sha256 what nobody signed\n\n", 1)))


def attack_15_bytes() -> bool:
    world = World()
    raw = world.repo.read(world.on(by=BO), "commit")
    return world.lands(world.repo.add("commit", raw.replace(b"Change it", b"Chance it")))


def attack_16() -> bool:
    """A hub that offers a commit and keeps back its tree."""
    with mirrored() as (repo, mirror):
        tip = repo.git("commit-tree", "-m", "withheld", "-p", "HEAD", repo.git("hash-object", "-t", "tree", "-w", "/dev/null"))
        data, _ = write_pack([Entry(tip, "commit", repo.raw(tip))])
        mirror.accept_pack(data, tip)
        return True


def _tree(path: str, text: bytes = b"x\n", mode: str = "") -> bool:
    world = World()
    if not mode:
        return world.lands(world.on(by=BO, files={path: text}))
    whole = tree.parse(world.repo.read(world.repo.tree(world.repo.files[world.first]), "tree"), 20)
    rows = _rows(whole | {path: tree.Entry(mode, world.repo.add("blob", text))})
    return world.lands(world.repo.commit_tree(world.repo.add("tree", rows), on=(world.first,), by=BO))


def _rows(entries: dict[str, tree.Entry], *, backwards: bool = False) -> bytes:
    ordered = sorted(entries.items(), key=lambda row: row[0] + "/" * row[1].is_tree, reverse=backwards)
    return b"".join(f"{e.mode} {name}\0".encode() + bytes.fromhex(e.id) for name, e in ordered)


def attack_17_order() -> bool:
    world = World()
    whole = tree.parse(world.repo.read(world.repo.tree(world.repo.files[world.first] | {"z": b"1\n"}), "tree"), 20)
    tip = world.repo.commit_tree(world.repo.add("tree", _rows(whole, backwards=True)), on=(world.first,), by=BO)
    return world.lands(tip)


def _reads(text: bytes, name: str = "a.yaml", **limits: Any) -> Callable[[], bool]:
    return lambda: read(text, name, document.DocumentLimits(**limits)) is not None


def _unpacks(*entries: bytes, count: int = 0, **limits: Any) -> Callable[[], bool]:
    def attack() -> bool:
        body = b"PACK" + (2).to_bytes(4) + (count or len(entries)).to_bytes(4) + b"".join(entries)
        data = body + hashlib.sha1(body, usedforsecurity=False).digest()
        return bool(PackReader(data, Limits(**limits), _nothing).read())

    return attack


def _nothing(name: str) -> Any:
    raise FetchError(name)


def _blob(content: bytes, declared: int = -1) -> bytes:
    size = len(content) if declared < 0 else declared
    head, rest = [0x30 | (size & 15)], size >> 4
    while rest:
        head[-1] |= 0x80
        head.append(rest & 0x7F)
        rest >>= 7
    return bytes(head) + zlib.compress(content)


def _chain_of_deltas() -> tuple[bytes, ...]:
    """An object, a delta on it, and a delta on that."""
    base = _blob(b"x" * 100)
    one = bytes([0x64, len(base)]) + zlib.compress(b"\x64\x64\x90\x64")
    two = bytes([0x64, len(one)]) + zlib.compress(b"\x64\x64\x90\x64")
    return base, one, two


def attack_18_before_it_is_allowed() -> bool:
    """What nobody signed is parsed, to see whether it only switches a flag off, once somebody commits on top of it."""
    world = World()
    policy_files = world.repo.policy(PEOPLE, [*RULES, {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": [BO]}])
    on = world.on(by=ANA, files=policy_files | {"flags/a.yaml": b"flags: {}\n"})
    bad = world.on(on, files={"flags/a.yaml": b"flags: {evil: 1}\n"})
    seen: list[str] = []

    def parse(data: bytes, path: str) -> Any:
        seen.append(path)
        return read(data, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(changes, "read", parse)
        assert not world.lands(world.on(bad, by=CY, files={BASE: b"a: 2\n"}))
    return bool(seen)


def attack_20() -> bool:
    """What was verified is changed on the disk before it is read."""
    with mirrored() as (repo, mirror):
        trusted = Trusted.start(TrustedRoot.parse(repo.trusted_root, "root.yaml"), "main")
        assert walk(Candidate("main", repo.tip(), mirror.objects), trusted, NOW).good is not None
        blob = repo.git("rev-parse", "HEAD:config/checkout/base.yaml")
        _overwrite(mirror, blob, b"blob", b"a: 666\n")
        entry = tree.lookup(mirror.objects, repo.git("rev-parse", "HEAD^{tree}"), "config/checkout/base.yaml")
        assert entry is not None
        return mirror.objects.read(entry.id, "blob") == b"a: 666\n"


def attack_20_kind() -> bool:
    """A commit that is read as a file."""
    with mirrored() as (repo, mirror):
        return mirror.objects.read(repo.tip(), "blob") != b""


def attack_21() -> bool:
    said = str(Refusal(Code.PATH_DENIED, "by \x1b[2J\u202e", path="a\u202e\nLC000 fine", advice="\x9b"))
    return not said.isprintable()


def attack_21_record() -> bool:
    return any(not v.isprintable() for v in Refusal(Code.POLICY, "\x1b[2J", signer="\u202e").as_dict().values() if type(v) is str)


def attack_22() -> bool:
    world = World()
    people = {ANA: [public_line(key(ANA))], BO: [public_line(key(BO))]}
    text = {"version": 1, "repo_id": REPO_ID, "threshold": 2, "people": people}
    pinned = Trusted.start(TrustedRoot.parse(yaml.safe_dump(text, width=1000).encode(), "r.yaml"), "main")
    tip = world.on(by=BO, files={}, message=f"Agree\n\nLivecfg-Adopt: {world.first}")
    return world.lands(tip, pinned)


def attack_22_format() -> bool:
    world = World()
    trusted = world.repo.trusted()
    return world.lands(world.first, replace(trusted, root=replace(trusted.root, object_format="sha256")))


def attack_22_state() -> bool:
    """State that was remembered under a weaker root."""
    world = World()
    trusted = world.repo.verify(world.first).trusted
    with contextlib.suppress(ValueError):
        return Trusted.from_state(replace(trusted.root, digest="another"), "main", trusted.as_state()).good is not None
    return False


def attack_23() -> bool:
    """A tree that cannot be read stops everybody, also after it was taken back."""
    world = World()
    bad = world.repo.commit_tree(world.repo.add("tree", b"100644 broken"), on=(world.first,), by=BO)
    healed = world.repo.commit_tree(world.repo.tree(world.repo.files[world.first]), on=(bad,), by=BO)
    try:
        return not world.lands(healed)
    except TreeFaultError:
        return True


def attack_23_bomb() -> bool:
    """Four trees that stand for ten thousand files."""
    world = World()
    below = world.repo.tree({str(n): b"a: 1\n" for n in range(10)})
    for _ in range(3):
        below = world.repo.add("tree", b"".join(b"40000 %d\0" % n + bytes.fromhex(below) for n in range(10)))
    return len(tree.diff(world.repo, None, below, most=1000)) > 1000


def attack_24() -> bool:
    world = World()
    second = f"{BO} {public_line(key('bo2@acme'))}\n"
    on = world.signers(lambda text: text + second)
    landed = world.on(on, by=BO, files={PROD: b"a: 2\n"})
    return world.lands(world.on(landed, by="bo2@acme", files={}, message=f"Me too\n\nLivecfg-Adopt: {landed}"))


def attack_24_unreadable() -> bool:
    """What Bo and Cy stand behind is exchanged by nobody, over a commit whose folder cannot be compared with any other."""
    world = World()
    meant = world.on(by=BO, files={PROD: b"a: 2\n"})
    blob = bytes.fromhex(world.repo.add("blob", b"a: 666\n"))
    twice = world.repo.add("tree", 2 * (b"100644 prod.yaml\0" + blob))
    config = world.repo.add("tree", b"40000 a\0" + bytes.fromhex(twice))
    rest = {path: text for path, text in world.repo.files[meant].items() if not path.startswith("config/")}
    rows = tree.parse(world.repo.read(world.repo.tree(rest), "tree"), 20) | {"config": tree.Entry("40000", config)}
    ordered = sorted(rows.items(), key=lambda row: row[0] + "/" * row[1].is_tree)
    raw = b"".join(f"{e.mode} {name}\0".encode() + bytes.fromhex(e.id) for name, e in ordered)
    unreadable = world.repo.commit_tree(world.repo.add("tree", raw), on=(meant,))
    evil = world.repo.files[meant] | {PROD: b"a: 666\n"}
    exchanged = world.repo.commit_tree(world.repo.tree(evil), on=(unreadable,))
    world.repo.files[exchanged] = evil
    return world.lands(world.on(exchanged, by=CY, files={}, message=f"Me too\n\nLivecfg-Adopt: {meant}"))


def attack_24_on_top() -> bool:
    world = World()
    bad = world.on(files={BASE: b"a: 1\nevil: 1\n"})
    return world.lands(world.on(bad, by=CY, files={BASE: b"a: 2\nevil: 1\n"}))


def attack_25() -> bool:
    """A key that is over by the chain counts again where a clock is set back."""
    world = World()
    began = world.repo.clock
    on = world.signers(lambda text: text.replace("bo@acme ", f'bo@acme valid-before="{_utc(began + 200)}Z" '))
    tip = world.on(on, by=BO, date=began + 260)
    found = world.repo.verify(tip, now=began + 100)
    return found.trusted.good is not None and found.trusted.good.commit == tip


def attack_25_ahead() -> bool:
    world = World()
    return world.lands(world.on(by=BO, date=NOW + 100_000))


ATTACKS: dict[str, Removed] = {
    "1 unsigned": Removed(
        identify,
        'return Refusal(Code.UNSIGNED, "the commit is not signed", commit=commit.id, advice=advice)',
        'return Signed(commit.author.partition(" ")[0], "")',
        attack_1,
    ),
    "2 unknown key": Removed(
        identify,
        "raise _unknown(fingerprint(found.key), _KEYS)\n    proof = check(found, commit.payload)",
        "signer = next(s for s in signers.values() if s.person in commit.author)\n    proof = check(found, commit.payload)",
        attack_2,
    ),
    "3 valid key, other identity": Removed(
        identify,
        'return Signed(signer.person, name, proof.touch, proof.pin, "", signer.valid_after, signer.valid_before)',
        'return Signed(commit.author.partition(" ")[0], name)',
        attack_3,
    ),
    "4 expired key": Removed(identify, "if self.valid_after <= moment <= self.valid_before:", "if True:", attack_4),
    "5 revoked key": Removed(
        verify,
        "if self.policy is None or any(is_root_path(finding.path) for finding in judged.verdict.findings):",
        "if self.policy is None:",
        attack_5,
    ),
    "6 date forged into a key's window": Removed(
        verify, "moment = max(latest, commit.committer_time)", "moment = commit.committer_time", attack_6
    ),
    "6 date far back": Removed(verify, "if commit.committer_time < latest - BACKWARDS_S:", "if False:", attack_6_far_back),
    "7 path not allowed": Removed(rules, "self.count >= self.rule.threshold", "self.count > 0", attack_7),
    "7 path that no rule names": Removed(rules, "faults.append(self._denied(commit, path))", "pass", attack_7_denied),
    "8 policy by another": Removed(paths, 'path.startswith(".livecfg/") or path == MANIFEST_PATH', "False", attack_8),
    "8 self-authorising": Removed(
        verify,
        "judge = Judge(self.evidence, root, self.policy, ",
        "self.policy = self.policy and load_policy(self.objects, commit.tree)\n"
        "            judge = Judge(self.evidence, root, self.policy, ",
        attack_8_self,
    ),
    "8 lock-out": Removed(policy, "    if faults:\n        raise RefusedError(*faults)\n", "", attack_8_lock_out),
    "8 new root without its word": Removed(
        rules, "new.root_identity() == self.policy.root_identity()", "new is not None", attack_8_half
    ),
    "9 evil merge": Removed(
        rules,
        "delta = diff(self.objects, self.good_tree, commit.tree)",
        "whole = diff(self.objects, self.good_tree, commit.tree)\n"
        "        delta = {p: c for p, c in whole.items() if self.evidence.trees.made(commit, p)}",
        attack_9,
    ),
    "9 octopus": Removed(commits, 'counts[b"parent"] > 2 or ', "", attack_9_octopus),
    "9 side-branch revert": Removed(
        approvals,
        "self.trees.entry(commit.tree, path) == landed and standing.issuperset(side.children.get(commit_id, ()))",
        "self.trees.entry(commit.tree, path) == landed",
        attack_9_undone,
    ),
    "10 rollback": Removed(verify, "            if stop:\n", "            if False:\n", attack_10),
    "10 foxtrot merge": Removed(verify, "            if stop:\n", "            if False:\n", attack_10_foxtrot),
    "10 endless history": Removed(verify, "if len(chain) >= limits.commits or ", "if ", attack_10_endless),
    "10 endless messages": Removed(verify, " or size > limits.commit_bytes:", ":", attack_10_long_messages),
    "11 freeze": Removed(heartbeat, "<= self.max_staleness_s:", "<= self.max_staleness_s or True:", attack_11),
    "11 withheld": Removed(heartbeat, "if newest.position > good.position:", "if False:", attack_11_withheld),
    "12 another repository": Removed(rules, "if new.file.repo_id != self.root.repo_id:", "if False:", attack_12),
    "12 no branch": Removed(rules, "(voucher.bound or not rule.bind_ref)", "True", attack_12_branch),
    "12 another branch": Removed(approvals, "if value == self.statement", "if True", attack_12_other_branch),
    "12 after a revert": Removed(approvals, "or side.base.get(commit_id, steady) >= steady:", "or False:", attack_12_reverted),
    "13 object": Removed(store, "if object_id(kind, content, len(name)) != name:", "if False:", attack_13),
    "13 alternates": Removed(store, "if self._follow_alternates:", "if True:", attack_13_alternates),
    "14 same id, other bytes": Removed(verify, "commit.payload_sha256 != good.payload_sha256 or ", "", attack_14),
    "14 anchor": Removed(verify, "if commit.payload_sha256 != root.anchor_payload_sha256:", "if False:", attack_14_anchor),
    "14 parent": Removed(
        verify, "self.evidence.trees.know_tree(trusted.good.commit, trusted.good.tree)", "pass", attack_14_parent
    ),
    "15 injected header": Removed(
        commits,
        'any(name not in _ORDER or (name.startswith(b"gpgsig") and name != own) for name in names)',
        "False",
        attack_15,
    ),
    "15 changed bytes": Removed(keys, "_ed25519_key(public).verify(signature, data)", "_ed25519_key(public)", attack_15_bytes),
    "16 hub that withholds": Removed(graph, "if not has(name):", "if False:", attack_16),
    "17 submodule": Removed(
        tree, "if entry.mode not in {BLOB_MODE, TREE_MODE}:", "if False:", lambda: _tree("x.yaml", mode="160000")
    ),
    "17 symlink": Removed(tree, "if entry.mode not in {BLOB_MODE, TREE_MODE}:", "if False:", lambda: _tree("x", mode="120000")),
    "17 executable": Removed(
        tree, "if entry.mode not in {BLOB_MODE, TREE_MODE}:", "if False:", lambda: _tree("x", mode="100755")
    ),
    "17 traversal": Removed(tree, "name.casefold() in _RESERVED", "False", lambda: _tree("config/../x.yaml")),
    "17 .git": Removed(tree, "name.casefold() in _RESERVED", "False", lambda: _tree("config/.GIT/config")),
    "17 Unicode tricks": Removed(tree, "not _NAME.match(name) or ", "", lambda: _tree("config/b\u0430se.yaml")),
    "17 case-fold twins": Removed(tree, "if name.casefold() in folded:", "if False:", lambda: _tree("config/a/BASE.yaml")),
    "17 a twin of what stays": Removed(
        tree, "== 1 for name in added)", ">= 1 for name in added)", lambda: _tree("config/a/BASE.yaml")
    ),
    "17 order": Removed(tree, "if key <= order:", "if False:", attack_17_order),
    "17 order of what stays": Removed(tree, "not tree.is_canonical or ", "", attack_17_order),
    "17 depth": Removed(
        tree,
        'if prefix.count("/") >= MAX_DEPTH:',
        "if False:",
        lambda: _tree("/".join("abcdefghijklmnop") + "/x"),
    ),
    "18 alias": Removed(
        document,
        'raise self.fault(Code.YAML_FEATURE, event, f"an alias (*{event.anchor})", "write the value out")',
        "self._put(event, None)",
        _reads(b"[*a]\n"),
    ),
    "18 merge key": Removed(document, 'if key == "<<" and event.implicit[0]:', "if False:", _reads(b"<<: {a: 1}\n")),
    "18 tag": Removed(document, "if event.tag not in self.tags:", "if False:", _reads(b"a: !!python/object x\n")),
    "18 duplicate key": Removed(document, "if key in container:", "if False:", _reads(b"a: 1\na: 2\n")),
    "18 duplicate JSON key": Removed(
        document, "if len(result) != len(pairs):", "if False:", _reads(b'{"a": 1, "a": 2}', "a.json")
    ),
    "18 deep nesting": Removed(document, "if len(self.stack) >= self.limits.depth:", "if False:", _reads(b"[" * 99 + b"]" * 99)),
    "18 deep JSON": Removed(document, '_NO_BRACKETS.sub("", text)', '""', _reads(b"[" * 99 + b"]" * 99, "a.json")),
    "18 wide": Removed(
        document, "for _ in range(self.limits.nodes):", "while True:", _reads(b"[" + b"1," * 99 + b"1]", nodes=50)
    ),
    "18 before it is allowed": Removed(
        rules, "if narrow and allowed and is_disable", "if narrow and is_disable", attack_18_before_it_is_allowed
    ),
    "18 huge": Removed(document, "if len(data) > limits.size_bytes:", "if False:", _reads(b"a: 1\n", size_bytes=4)),
    "19 object count": Removed(pack, "if count > limits.objects:", "if False:", _unpacks(_blob(b"a"), _blob(b"b"), objects=1)),
    "19 huge object": Removed(
        pack,
        "-> tuple[bytes, int]:\n        if size > self.limits.object_bytes:",
        "-> tuple[bytes, int]:\n        if False:",
        _unpacks(_blob(b"a" * 1000), object_bytes=100),
    ),
    "19 inflated bytes": Removed(
        pack, "if self._inflated > self.limits.inflated_bytes:", "if False:", _unpacks(_blob(b"a" * 1000), inflated_bytes=100)
    ),
    "19 declared size": Removed(
        pack,
        'if got > size:\n                raise FetchError(f"an object inflates to more than the {size} bytes it declares")\n'
        "        if got != size:",
        "pass\n        if False:",
        _unpacks(_blob(b"a" * 1000, declared=10)),
    ),
    "19 delta depth": Removed(
        pack, "if depth > self.limits.delta_depth:", "if False:", _unpacks(*_chain_of_deltas(), delta_depth=1)
    ),
    "19 wire bytes": Removed(
        pack, "if len(data) > self.limits.wire_bytes:", "if False:", _unpacks(_blob(b"a" * 100), wire_bytes=20)
    ),
    "20 changed between check and use": Removed(store, "if object_id(kind, content, len(name)) != name:", "if False:", attack_20),
    "20 another kind": Removed(quarantine, "if found != kind:", "if False:", attack_20_kind),
    "21 control and bidi characters": Removed(refusal, "if text.isascii() and text.isprintable():", "if True:", attack_21),
    "21 in records": Removed(refusal, "k: printable(v) if type(v) is str else v", "k: v", attack_21_record),
    "22 threshold below the pinned": Removed(rules, "if new.file.root.threshold < self.root.threshold:", "if False:", attack_22),
    "22 object format": Removed(verify, "if root.object_format and found != root.object_format:", "if False:", attack_22_format),
    "22 state of another root": Removed(
        root, 'if state.get("ref") != ref or state.get("root") != root.digest:', "if False:", attack_22_state
    ),
    "23 poison": Removed(
        verify,
        "except TreeFaultError as error:\n            advice",
        "except KeyError as error:\n            advice",
        attack_23,
    ),
    "23 tree bomb": Removed(tree, "if self._left < 0:", "if False:", attack_23_bomb),
    "24 two keys of one person": Removed(
        rules,
        "tuple(sorted(behind)), len(counted))",
        "(), sum(len(self.evidence.vouchers(m, path, self.good_tree, moment, merged=merged)) for m in makers))",
        attack_24,
    ),
    "24 innocent commit on top": Removed(
        approvals,
        "            if self.trees.changed(seen.commit, path):\n                makers.append(seen)\n            if self.trees",
        "            if self.trees.changed(seen.commit, path):\n                makers[:] = [seen]\n            if self.trees",
        attack_24_on_top,
    ),
    "24 folder that cannot be read": Removed(
        approvals,
        "return entry != before or entry == BROKEN",
        "return entry != before and BROKEN not in (entry, before)",
        attack_24_unreadable,
    ),
    "25 clock set back": Removed(verify, "moment = max(latest, commit.committer_time)", "moment = now", attack_25),
    "25 commit of the future": Removed(verify, "if commit.committer_time > now + AHEAD_S:", "if False:", attack_25_ahead),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    ATTACKS[name].prove()


def test_every_attack_has_a_row() -> None:
    assert {int(name.partition(" ")[0]) for name in ATTACKS} == set(range(1, 26))
