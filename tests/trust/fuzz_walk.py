"""The whole walk as something to fuzz: a commit, a tree, a policy or a key file of somebody's making, in the middle of a chain.

Whatever they are, the walk raises nothing, and a later commit with the last good tree heals; only an object that is missing stops
it. That is asserted here, so that a breach is no error of the package.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from livecfg.errors import MissingObjectError, RefusedError
from tests.simulator.memory import APPROVE, BOUND, MemoryRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.trust.root import Trusted

ANA, BO, CY = PEOPLE = ("ana@acme", "bo@acme", "cy@acme")
POLICY, SIGNERS = ".livecfg/policy.yaml", ".livecfg/allowed_signers"
RULES = [
    {"id": "all", "paths": ["**", "!flags/**"], "allow": ["*"]},
    {"id": "flags", "paths": ["flags/**"], "allow": ["payments"], "threshold": 2, "four_eyes": False},
    {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": ["*"], "fast": True},
]
MORE = {
    "teams": {"payments": [ANA, BO]},
    "break_glass": {"allow": ["payments"], "threshold": 1},
    "limits": [{"id": "steps", "paths": ["rollouts/**"], "max_weight_step": 50}],
}
FLAGS, STEPS = "flags/a/main.yaml", "rollouts/a.yaml"
FLAG = b"flags:\n  a: {state: ENABLED, variants: {one: 1, two: 2}, defaultVariant: one}\n"
WEIGHTS = b"weight: 10\nsteps: [{weights: {a: 50, b: 50}}]\n"


@cache
def begin() -> tuple[MemoryRepo, str, Trusted]:
    repo = MemoryRepo()
    first = repo.found(PEOPLE, RULES, {FLAGS: FLAG, STEPS: WEIGHTS}, **MORE)
    return repo, first, repo.verify(first).trusted


def _walk(make: Callable[[MemoryRepo, str], str]) -> str:
    """Walk over the commit that `make` adds and one that takes it back; tell how it ended, in a few words."""
    repo, first, trusted = begin()
    kept, files, clock = dict(repo.objects), dict(repo.files), repo.clock
    try:
        bad = make(repo, first)
        healed = repo.commit_tree(repo.tree(repo.files[first]), on=(bad,), by=CY)
        descends = repo.parents(bad)[:1] == (first,)
        found = repo.verify(healed, trusted if descends else None)
        if descends and any(refusal.commit == bad for refusal in found.skipped):
            assert found.trusted.good is not None
            assert found.trusted.good.commit == healed, "the commit that takes it back is not good"
        return " ".join(f"{r.code.value} {r.message}" for r in found.skipped if r.commit == bad)
    except MissingObjectError:
        return "an object is missing"
    except RefusedError as error:
        raise AssertionError(f"the walk was stopped by what a commit says: {error}") from error
    finally:
        repo.objects, repo.files, repo.clock = kept, files, clock


def _file(path: str, by: str) -> Callable[[bytes], str]:
    return lambda data: _walk(lambda repo, first: repo.commit({path: data}, on=(first,), by=by))


def _tree(data: bytes) -> str:
    return _walk(lambda repo, first: repo.commit_tree(repo.add("tree", data), on=(first,), by=CY))


def _commit(data: bytes) -> str:
    return _walk(lambda repo, _: repo.add("commit", data))


def _message(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return _walk(lambda repo, first: repo.commit({FLAGS: b"flags: {}\n"}, on=(first,), by=BO, message=text))


WALKS: dict[str, Callable[[bytes], object]] = {
    "walk_policy": _file(POLICY, ANA),
    "walk_signers": _file(SIGNERS, ANA),
    "walk_flags": _file(FLAGS, CY),
    "walk_weights": _file(STEPS, CY),
    "walk_tree": _tree,
    "walk_commit": _commit,
    "walk_message": _message,
}


def walk_seeds() -> Iterator[tuple[str, str, bytes]]:
    """The corpus as it is written: parser, name, content."""
    repo, first, _ = begin()
    yield "walk_policy", "json", repo.files[first][POLICY]
    yield "walk_policy", "new-root", repo.policy(PEOPLE, RULES, **MORE | {"root": {"people": [ANA, BO], "threshold": 1}})[POLICY]
    yield "walk_signers", "people", repo.files[first][SIGNERS]
    yield "walk_signers", "options", repo.files[first][SIGNERS].replace(b"cy@acme ", b'cy@acme valid-before="20400101Z" ')
    yield "walk_flags", "on", FLAG
    yield "walk_flags", "off", FLAG.replace(b"ENABLED", b"DISABLED")
    yield "walk_weights", "steps", WEIGHTS
    tree = repo.read(repo.tree(repo.files[first]), "tree")
    yield "walk_tree", "root", tree
    yield "walk_tree", "modes", tree.replace(b"100644", b"160000").replace(b"40000", b"120000")
    yield "walk_commit", "change", repo.read(repo.commit({FLAGS: b"flags: {}\n"}, on=(first,), by=BO), "commit")
    side = repo.commit({STEPS: b"weight: 11\n"}, on=(first,), by=BO)
    yield "walk_commit", "merge", repo.read(repo.merge(first, side, {STEPS: b"weight: 11\n"}, by=CY), "commit")
    message = f"Say much\n\nLivecfg-Adopt: {first}\nLivecfg-Break-Glass: pager"
    yield "walk_message", "trailers", message.encode()
    yield "walk_message", "bound", f"Say more\n\n{BOUND}\n{APPROVE}\nLivecfg-Window: override friday\n".encode()
    yield "walk_commit", "trailers", repo.read(repo.commit({}, on=(first,), by=BO, message=message), "commit")
