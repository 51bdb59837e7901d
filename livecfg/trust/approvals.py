"""Who stands behind a change: who signed it, who adopted it later, and who approved it on the merged side of a merge.

An approval is proved from Git objects alone. A commit `a` of the merged side, with one parent and a person's signature, approves
path p in the merge m when all hold:

- (i) `a` changed p and nobody else's commit among its ancestors on the merged side did; or `a` is empty and says
  `Livecfg-Approve: <repo_id> <ref>`;
- (ii) `a` and every merged-side commit that descends from it have p as it lands in m: a change that was withdrawn does not count;
- (iii) where `a` left the chain, and on every chain commit after that, p is as the last good commit has it: an approval is not
  replayed after a revert.

A commit that merely sits on top approves nothing, and merging unrelated work voids nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from livecfg.refusal import Code, Refusal
from livecfg.trust.commits import read_commit, trailers
from livecfg.trust.identify import Signed, identify
from livecfg.trust.merged import MergedSide
from livecfg.trust.tree import TREE_MODE, Entry, TreeFaultError, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from livecfg.revision import Commit, Objects
    from livecfg.trust.allowed_signers import Signer

ADOPT, APPROVE, BIND = "Livecfg-Adopt", "Livecfg-Approve", "Livecfg-Ref"
BROKEN = Entry("", "")
"""What stands for an entry that cannot be read, because a tree on the way is malformed: equal to no real one."""
MAX_KEPT = 500_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit of the chain since the last good one, and whom it adopts.

    `hosted` marks a merge that a forge made: the people of its merged side alone vouch for it.
    """

    commit: Commit
    adopts: frozenset[str]
    hosted: bool = False


@dataclass(frozen=True, slots=True)
class Voucher:
    """One person behind one commit. `bound`: said for this repository and ref; `explicit`: by an approval, not as author.

    `hosted`: on the merged side of a forge's merge, where it counts only beside an explicit word of the rule's people.
    """

    signed: Signed
    bound: bool
    explicit: bool = False
    hosted: bool = False


class Identities:
    """Who signed a commit by one set of keys; each signature is proved once."""

    def __init__(self, signers: Mapping[bytes, Signer], forges: Iterable[str] = ()) -> None:
        self._signers = signers
        self._forges = frozenset(forges)
        self._known: dict[str, Signed | Refusal] = {}

    def raw(self, commit: Commit) -> Signed | Refusal:
        """Tell who signed, forges and times aside."""
        found = self._known.get(commit.id)
        if found is None:
            found = self._known[commit.id] = identify(commit, self._signers)
        return found

    def forge(self, commit: Commit) -> bool:
        """Whether a forge signed it, or nobody at all."""
        found = self.raw(commit)
        return found.person in self._forges if isinstance(found, Signed) else found.code is Code.UNSIGNED

    def at(self, commit: Commit, moment: float) -> Signed | Refusal:
        """Tell which person signed, with a key that holds at `moment`, or why nobody did."""
        found = self.raw(commit)
        if isinstance(found, Refusal):
            return found
        if found.person in self._forges:
            message = f"signed by {found.person}: that proves that the forge did it, never that a person did"
            advice = f"a person merges it (`git merge --no-ff -S`) or adopts it (`livecfg adopt {commit.id[:10]}`)"
            return Refusal(Code.MERGE, message, commit=commit.id, signer=found.person, advice=advice)
        return found.fault_at(commit, moment) or found


class Trees:
    """Entries and trees by commit, each read once."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._entries: dict[tuple[str, str], Entry | None] = {}
        self._trees: dict[str, str] = {}

    def know(self, commit: Commit) -> None:
        """Take note of a commit that was read already."""
        self.know_tree(commit.id, commit.tree)

    def know_tree(self, commit_id: str, tree: str) -> None:
        """Take note of the tree of a commit."""
        self._trees[commit_id] = tree

    def entry(self, tree: str | None, path: str) -> Entry | None:
        """Give what `path` names below a tree."""
        if not tree:
            return None
        at = (tree, path)
        if at not in self._entries:
            if len(self._entries) >= MAX_KEPT:
                self._entries.clear()
            self._entries[at] = self._look_up(tree, path)
        return self._entries[at]

    def know_entries(self, of: Trees, tree: str) -> None:
        """Take note of what others have looked up below a tree."""
        self._entries |= {at: entry for at, entry in of._entries.items() if at[0] == tree}

    def _look_up(self, tree: str, path: str) -> Entry | None:
        """Look into the folder that holds a path: the same one, mostly, as for the path before."""
        folder, slash, name = path.rpartition("/")
        holder = self.entry(tree, folder) if slash else Entry(TREE_MODE, tree)
        if holder is None or not holder.is_tree:
            return BROKEN if holder == BROKEN else None
        try:
            return read_tree(self.objects, holder.id).get(name)
        except TreeFaultError:
            return BROKEN

    def tree_of(self, commit_id: str) -> str:
        """Give the tree of a commit."""
        if commit_id not in self._trees:
            self._trees[commit_id] = read_commit(self.objects, commit_id).tree
        return self._trees[commit_id]

    def changed(self, commit: Commit, path: str) -> bool:
        """Whether `path` is not what it is in the first parent; so too where a folder above it cannot be read in one of the two.

        What such a folder holds nobody can compare, and the next commit may make it readable with anything in it.
        """
        before = self.entry(self.tree_of(commit.parents[0]), path) if commit.parents else None
        entry = self.entry(commit.tree, path)
        return entry != before or entry == BROKEN

    def made(self, commit: Commit, path: str) -> bool:
        """Whether a commit itself changed `path`: its entry differs from that of every parent."""
        entry = self.entry(commit.tree, path)
        if not commit.parents:
            return entry is not None
        return all(self.entry(self.tree_of(parent), path) != entry for parent in commit.parents)


class Evidence:
    """Who stands behind what, among the commits since the last good one; `statement` is `<repo_id> <full ref>`.

    `looks` counts the commits looked at since then, each as often as some path asked for it. It follows from the chain alone.
    """

    def __init__(self, objects: Objects, identities: Identities, statement: str) -> None:
        self.trees = Trees(objects)
        self.identities = identities
        self.statement = statement
        self.since: list[Seen] = []
        self.looks = 0
        self._adopters: dict[str, list[Seen]] = {}
        self._makers: dict[str, tuple[int, list[Seen]]] = {}
        self._sides: dict[str, MergedSide] = {}
        self._statements: dict[str, frozenset[str]] = {}

    def note(self, seen: Seen) -> None:
        """Take up the next commit of the chain."""
        self.since.append(seen)
        for adopted_id in seen.adopts:
            self._adopters.setdefault(adopted_id, []).append(seen)

    def under(self, identities: Identities) -> Evidence:
        """Give the same evidence as other keys see it."""
        other = Evidence(self.trees.objects, identities, self.statement)
        other.since, other._adopters, other._sides = self.since, self._adopters, self._sides
        other._statements, other.looks = self._statements, self.looks
        return other

    def makers(self, path: str, good_tree: str | None) -> list[Seen]:
        """M(p): the commits that changed p since its entry was last that of the last good commit, which stays the same."""
        was = self.trees.entry(good_tree, path)
        looked_at, makers = self._makers.get(path, (0, []))
        self.looks += len(self.since) - looked_at
        for seen in self.since[looked_at:]:
            if self.trees.changed(seen.commit, path):
                makers.append(seen)
            if self.trees.entry(seen.commit.tree, path) == was:
                makers.clear()
        self._makers[path] = (len(self.since), makers)
        return makers

    def vouchers(self, maker: Seen, path: str, good_tree: str | None, moment: float, *, merged: bool) -> list[Voucher]:
        """Give everybody behind one commit for one path; with `merged`, those of its merged side too."""
        found = [] if maker.hosted else self._signer(maker.commit, moment)
        adopters = self._adopters.get(maker.commit.id, ())
        self.looks += 1 + len(adopters)
        for seen in adopters:  # all of them later: an id cannot be named before it is there
            if not seen.hosted:
                found += self._signer(seen.commit, moment)
        if merged and len(maker.commit.parents) == 2 and not maker.commit.flaw:
            found += self._approvals(maker, path, good_tree, moment)
        return found

    def authors(self, path: str, moment: float) -> set[str] | None:
        """Give all who changed p since the last good commit, merged sides included; None: one of them is not known.

        Of somebody who is known through an authority alone, the authority: it could else name a second person for the first.
        """
        makers: list[Commit] = []
        self.looks += len(self.since)
        for seen in self.since:
            if not self.trees.changed(seen.commit, path):
                continue
            if self.trees.made(seen.commit, path):
                makers.append(seen.commit)
            if len(seen.commit.parents) == 2 and not seen.commit.flaw:
                side = self.side(seen.commit)
                if side.overflow:
                    return None
                self.looks += len(side.commits)
                makers += [commit for commit in side.commits.values() if self.trees.made(commit, path)]
        signed = [self.identities.at(commit, moment) for commit in makers]
        if any(isinstance(s, Refusal) for s in signed):
            return None
        return {s.authority or s.person for s in signed if isinstance(s, Signed)}

    def is_approved(self, merge: Commit, moment: float) -> bool:
        """Whether somebody on the merged side said so in a commit of its own."""
        return any(
            self._approves(commit) and isinstance(self.identities.at(commit, moment), Signed)
            for commit in self.side(merge).commits.values()
        )

    def side(self, merge: Commit) -> MergedSide:
        """Give the merged side of a merge."""
        if merge.id not in self._sides:
            self._sides[merge.id] = side = MergedSide(self.trees.objects, merge)
            self.looks += side.visited
        return self._sides[merge.id]

    def _signer(self, commit: Commit, moment: float) -> list[Voucher]:
        signed = self.identities.at(commit, moment)
        return [Voucher(signed, bound=self._says(commit, BIND))] if isinstance(signed, Signed) else []

    def _says(self, commit: Commit, *names: str) -> bool:
        if commit.id not in self._statements:  # asked anew for each path, of messages that may be long
            self._statements[commit.id] = frozenset(k for k, value in trailers(commit.message) if value == self.statement)
        return not self._statements[commit.id].isdisjoint(names)

    def _approvals(self, maker: Seen, path: str, good_tree: str | None, moment: float) -> list[Voucher]:
        merge, side = maker.commit, self.side(maker.commit)
        self.looks += len(side.commits) + max(side.base.values(), default=0)
        landed, was = self.trees.entry(merge.tree, path), self.trees.entry(good_tree, path)
        standing = self._standing(side, path, landed)
        steady = self._steady(side, path, was)
        others = self._other_makers(side, path, moment)
        found = []
        for commit_id, commit in side.commits.items():
            if len(commit.parents) != 1 or commit_id not in standing or side.base.get(commit_id, steady) >= steady:
                continue
            signed = self.identities.at(commit, moment)
            if not isinstance(signed, Signed):
                continue
            explicit = self._approves(commit)
            if explicit or (self.trees.made(commit, path) and others[commit_id] <= {signed.person}):
                found.append(Voucher(signed, self._says(commit, BIND, APPROVE), explicit, maker.hosted))
        return found

    def _approves(self, commit: Commit) -> bool:
        """Whether a commit is empty and says that it approves what it stands on."""
        if len(commit.parents) != 1 or not self._says(commit, APPROVE):
            return False
        return self.trees.tree_of(commit.parents[0]) == commit.tree

    def _standing(self, side: MergedSide, path: str, landed: Entry | None) -> set[str]:
        """(ii): the commits that, with all their descendants on the side, have p as it lands."""
        standing: set[str] = set()
        for commit_id, commit in reversed(side.commits.items()):
            if self.trees.entry(commit.tree, path) == landed and standing.issuperset(side.children.get(commit_id, ())):
                standing.add(commit_id)
        return standing

    def _steady(self, side: MergedSide, path: str, was: Entry | None) -> int:
        """(iii): for how many chain commits below the merge p is as the last good commit has it."""
        deepest = max(side.base.values(), default=-1)
        for place, commit in enumerate(side.chain[: deepest + 1]):
            if self.trees.entry(commit.tree, path) != was:
                return place
        return deepest + 1

    def _other_makers(self, side: MergedSide, path: str, moment: float) -> Mapping[str, frozenset[str]]:
        """(i): for each commit of the side, who changed p among its ancestors there; the unknown by their commit."""
        above: dict[str, frozenset[str]] = {}
        makers: dict[str, frozenset[str]] = {}
        for commit_id, commit in side.commits.items():
            parents: Sequence[str] = [parent for parent in commit.parents if parent in makers]
            above[commit_id] = frozenset().union(*(makers[parent] for parent in parents))
            mine: frozenset[str] = frozenset()
            if self.trees.made(commit, path):
                signed = self.identities.at(commit, moment)
                mine = frozenset({signed.person if isinstance(signed, Signed) else commit_id})
            makers[commit_id] = above[commit_id] | mine
        return above


def adopted(commit: Commit) -> frozenset[str]:
    """Give the full ids of the commits that a commit adopts."""
    return frozenset(value for key, value in trailers(commit.message) if key == ADOPT)
