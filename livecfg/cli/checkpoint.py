"""`livecfg checkpoint`: the root people sign, one after the other, where new applications may begin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import CommandError, Exit, envelope, fail, output_option, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.trust.policy import Policy

_DAY_S = 86_400


@click.command("checkpoint")
@click.argument("revision", metavar="[COMMIT]", default="")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How long a new one counts.")
@key_option
@output_option("json")
def checkpoint(revision: str, days: int, key: Path | None, output: str) -> None:
    """Sign that new applications may begin at COMMIT; default: at the one that waits for signatures, else at HEAD.

    It may not be older than a checkpoint that counts. As many of the root people as their threshold says must sign it, each in a
    clone of their own; every one of them first verifies the history and compares what the checkpoint says of it.
    """
    from livecfg.trust.checkpoint import NAMESPACE
    from livecfg.trust.policy import load_policy
    from livecfg.trust.statement import co_sign, write_statement

    clone = Clone()
    now = time.time()
    kept, said = _kept(clone)
    policy = load_policy(clone, clone.commit(clone.tip()).tree)
    fresh = bool(said) and said["expires"] > now
    counts = fresh and len(_signed_by(policy, kept, now)) >= policy.file.root.threshold
    waits = fresh and not counts
    commit = clone.resolve(revision) if revision else said["commit"] if waits else clone.tip()
    content = _content(clone, commit, int(now) + days * _DAY_S)
    signer = signing_key(clone, key)

    def sign(line: bytes) -> bytes:
        return signer.sign(line, NAMESPACE)

    if said.get("commit") == commit and said["expires"] > now:
        if {**said, "expires": 0} != {**content, "expires": 0}:
            fail(f"what {_REF} says of {commit[:10]} is not what its history says here: do not sign it", Exit.REFUSED)
        data, content = co_sign(kept, sign), said
    else:
        _check_forward(clone, commit, said, counts=counts)
        kept, data = b"", write_statement(content, sign)
    before, people = _signed_by(policy, kept, now), _signed_by(policy, data, now)
    if people == before:
        text = "you are not one of the root people, or have signed it already: nothing was changed"
        raise CommandError(text, Exit.REFUSED)
    _keep(clone, data)
    _tell(content, people, policy, output)


_REF = "refs/livecfg/checkpoint"


def _tell(content: dict[str, Any], people: frozenset[str], policy: Policy, output: str) -> None:
    root = policy.file.root
    missing = max(0, root.threshold - len(people))
    if output == "json":
        envelope("checkpoint", content | {"signed_by": sorted(people), "missing": missing})
        return
    until = time.strftime("%Y-%m-%d", time.gmtime(content["expires"]))
    signed = ", ".join(sorted(people))
    click.echo(f"{content['commit'][:10]}  checkpoint at position {content['position']}, until {until}, signed by {signed}")
    talk(f"push it: git push origin +{_REF}")
    if missing:
        others = ", ".join(sorted(set(root.people) - people))
        talk(f"waits for {missing} more of {others}: git fetch origin +{_REF}:{_REF} && livecfg checkpoint")


def _content(clone: Clone, commit: str, expires: int) -> dict[str, Any]:
    """Give what a checkpoint says of a commit, as this clone's own walk found it."""
    from livecfg.cli.judge import followed, start_of
    from livecfg.revision import Candidate
    from livecfg.trust.checkpoint import manifest_of
    from livecfg.trust.verify import verify

    if commit not in {c.id for c in clone.chain(clone.tip())}:
        fail(f"{commit[:10]} is not on this branch's first-parent chain")
    start = start_of(clone, commit, clone)
    walk = verify(Candidate(start.ref, commit, clone), start, time.time())
    good = walk.trusted.good
    if good is None or good.commit != commit:
        raise CommandError(f"{commit[:10]} is not authorised: no application may begin there", Exit.REFUSED, walk.skipped)
    return {
        "repo_id": start.root.repo_id,
        "ref": followed(clone),
        "commit": commit,
        "payload_sha256": good.payload_sha256,
        "manifest": manifest_of(clone, good.tree),
        "position": good.position,
        "time": good.time,
        "expires": expires,
    }


def _check_forward(clone: Clone, commit: str, said: dict[str, Any], *, counts: bool) -> None:
    """Refuse a checkpoint behind the one that counts; behind one that waits for signatures it is only said."""
    if not said or said["commit"] not in {later.id for later in clone.chain(clone.tip(), stop=commit)}:
        return
    text = f"{commit[:10]} is older than the checkpoint {said['commit'][:10]}"
    if not counts:
        talk(f"{text}, which waits for signatures and is dropped")
        return
    advice = f"to mean it, remove that one first: `git update-ref -d {_REF}`"
    fail(f"{text}: new applications would begin further back; {advice}", Exit.REFUSED)


def _signed_by(policy: Policy, data: bytes, now: float) -> frozenset[str]:
    from livecfg.trust.checkpoint import NAMESPACE
    from livecfg.trust.statement import read_statement

    if not data:
        return frozenset()
    return read_statement(data, NAMESPACE, policy.signers, now)[1] & frozenset(policy.file.root.people)


def _kept(clone: Clone) -> tuple[bytes, dict[str, Any]]:
    """Give the checkpoint of this clone, and what it says; nothing when there is none."""
    from livecfg.errors import RefusedError
    from livecfg.trust.checkpoint import NAMESPACE, Checkpoint
    from livecfg.trust.statement import read_statement
    from livecfg.trust.tree import lookup

    if _REF.encode() not in clone.repo.refs.allkeys():
        return b"", {}
    entry = lookup(clone, clone.commit(clone.resolve(_REF)).tree, "statement")
    data = clone.read(entry.id, "blob") if entry is not None else b""
    try:
        content, _ = read_statement(data, NAMESPACE, {}, 0)
        return data, Checkpoint.model_validate(content).model_dump()
    except (RefusedError, ValueError):
        fail(f"{_REF} holds no checkpoint; `git update-ref -d {_REF}` removes it", Exit.REFUSED)


def _keep(clone: Clone, data: bytes) -> None:
    """Put a checkpoint in the place of the one before."""
    from dulwich.objects import ShaFile

    from livecfg.git.statement import statement_objects
    from livecfg.git.writer import Person

    name, _, email = clone.person().decode().rstrip(">").partition(" <")
    objects = statement_objects(data, Person(name, email), time.time(), clone.id_length)
    for entry, number in zip(objects, (3, 2, 1), strict=True):
        made = ShaFile.from_raw_string(number, entry.content, object_format=clone.repo.object_format)
        clone.repo.object_store.add_object(made)
    clone.repo.refs[_REF.encode()] = objects[-1].name.encode()  # type: ignore[index,assignment]  # dulwich's NewTypes
