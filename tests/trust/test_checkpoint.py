"""Checkpoints: where a new client may begin, by the word of enough of the pinned root people and of nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.errors import RefusedError, RollbackError
from livecfg.refusal import Code
from livecfg.revision import Candidate
from livecfg.trust import checkpoint, verify
from livecfg.trust.checkpoint import NAMESPACE, beginning, manifest_of, read_checkpoint
from livecfg.trust.commits import parse_commit
from livecfg.trust.root import Trusted
from livecfg.trust.signatures import sign
from livecfg.trust.statement import co_sign, write_statement
from livecfg.trust.tree import lookup
from tests.simulator.memory import MemoryRepo, key
from tests.simulator.repo import REPO_ID
from tests.trust.removed import without

if TYPE_CHECKING:
    from livecfg.trust.root import TrustedRoot

ANA, BO, CY, DEE = "ana@acme", "bo@acme", "cy@acme", "dee@acme"
BASE, REF = "config/shop/base.yaml", "refs/heads/main"
RULES = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
DAY_S = 86_400


class Site:
    """A history of five commits, two of three root people must agree; a new client begins with the pin alone."""

    def __init__(self, object_format: str = "sha1") -> None:
        self.repo = MemoryRepo(object_format)
        files = {"config/_shared/base.yaml": b"{}\n", BASE: b"a: 0\n"}
        first = self.repo.found((ANA, BO, CY, DEE), RULES, files, root=(ANA, BO, CY), threshold=2)
        self.chain = [first, self.repo.commit({}, on=(first,), by=BO, message=f"Adopt\n\nLivecfg-Adopt: {first}")]
        for value in range(1, 5):
            self.chain.append(self.repo.commit({BASE: b"a: %d\n" % value}, on=(self.chain[-1],), by=DEE))
        self.now = float(self.repo.clock + 60)
        self.root: TrustedRoot = self.repo.trusted().root

    def content(self, commit: str, /, **changes: Any) -> dict[str, Any]:
        good = self.repo.verify(commit).trusted.good
        assert good is not None
        assert good.commit == commit
        return {
            "repo_id": REPO_ID,
            "ref": REF,
            "commit": commit,
            "payload_sha256": good.payload_sha256,
            "manifest": manifest_of(self.repo, good.tree),
            "position": good.position,
            "time": good.time,
            "expires": int(self.now) + 90 * DAY_S,
        } | changes

    def signed(self, content: dict[str, Any], *people: str, namespace: str = NAMESPACE) -> bytes:
        pens = [lambda line, who=who: sign(key(who), namespace, line) for who in people]
        data = write_statement(content, pens[0])
        for pen in pens[1:]:
            data = co_sign(data, pen)
        return data

    def walk(self, *statements: bytes, tip: str = "") -> verify.Verification:
        """What a new client does."""
        root = beginning(self.root, statements, REF, self.now)
        return verify.verify(Candidate("main", tip or self.chain[-1], self.repo), Trusted.start(root, "main"), self.now)

    def forget_before(self, commit: str) -> None:
        """Take the commits below one out of the repository, as a shallow clone has it."""
        for old in self.chain[: self.chain.index(commit)]:
            del self.repo.objects[old]


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_new_client_begins_at_the_checkpoint_with_nothing_below_it_and_comes_to_the_same_end(object_format: str) -> None:
    site = Site(object_format)
    whole = site.repo.verify(site.chain[-1]).trusted.good
    data = site.signed(site.content(site.chain[3]), ANA, CY)
    site.forget_before(site.chain[3])
    assert site.walk(data).trusted.good == whole


def test_one_is_not_enough_and_the_same_person_twice_is_still_one() -> None:
    site = Site()
    content = site.content(site.chain[3])
    for people in ((ANA,), (ANA, ANA), (ANA, DEE), (DEE, DEE)):
        with pytest.raises(RefusedError, match="and 2 must") as caught:
            read_checkpoint(site.signed(content, *people), site.root, REF, site.now)
        assert caught.value.refusals[0].code is Code.THRESHOLD
    assert "bo@acme, cy@acme" in caught.value.refusals[0].advice
    with without(checkpoint, "if len(people) < root.threshold:", "if False:"):
        assert checkpoint.read_checkpoint(site.signed(content, DEE), site.root, REF, site.now).commit == site.chain[3]


def test_somebody_whom_policy_knows_and_the_pin_does_not_never_counts() -> None:
    site = Site()
    data = site.signed(site.content(site.chain[3]), ANA, DEE)
    assert beginning(site.root, [data], REF, site.now) == site.root


def test_an_expired_one_does_not_count() -> None:
    site = Site()
    data = site.signed(site.content(site.chain[3], expires=int(site.now) - 1), ANA, BO)
    with pytest.raises(RefusedError, match="it expired 1 s ago"):
        read_checkpoint(data, site.root, REF, site.now)
    with without(checkpoint, "if now > found.expires:", "if False:"):
        assert checkpoint.read_checkpoint(data, site.root, REF, site.now).position == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"repo_id": "0" * 32}, Code.WRONG_REPOSITORY),
        ({"ref": "refs/heads/dev"}, Code.WRONG_REPOSITORY),
        ({"commit": "HEAD"}, Code.BAD_SIGNATURE),
        ({"position": -1}, Code.BAD_SIGNATURE),
        ({"more": 1}, Code.BAD_SIGNATURE),
        ({"expires": "never"}, Code.BAD_SIGNATURE),
    ],
)
def test_attack_12_one_of_another_repository_or_ref_or_malformed_does_not_count(change: dict[str, Any], code: Code) -> None:
    site = Site()
    data = site.signed(site.content(site.chain[3], **change), ANA, BO)
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(data, site.root, REF, site.now)
    assert caught.value.refusals[0].code is code
    complaints: list[str] = []
    assert beginning(site.root, [data], REF, site.now, complaints.append) == site.root
    assert len(complaints) == 1


def test_a_signature_made_for_a_commit_or_a_heartbeat_is_none_for_a_checkpoint() -> None:
    site = Site()
    for namespace in ("git", "livecfg-heartbeat@v1"):
        data = site.signed(site.content(site.chain[3]), ANA, BO, namespace=namespace)
        assert beginning(site.root, [data], REF, site.now) == site.root


def test_bytes_that_were_changed_do_not_count() -> None:
    site = Site()
    whole = site.signed(site.content(site.chain[3]), ANA, BO)
    for at in range(0, len(whole), 11):
        with pytest.raises(RefusedError):
            read_checkpoint(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], site.root, REF, site.now)


def test_attack_10_a_branch_without_the_checkpoint_is_a_rollback_and_not_a_reason_to_begin_elsewhere() -> None:
    site = Site()
    data = site.signed(site.content(site.chain[4]), ANA, BO)
    with pytest.raises(RollbackError):
        site.walk(data, tip=site.chain[2])
    assert site.walk(tip=site.chain[2]).trusted.good is not None, "without it an old tip looks fine to a new client"


def test_one_that_is_replaced_later_is_nothing_to_a_client_that_has_a_last_good_commit() -> None:
    site = Site()
    trusted = site.walk(site.signed(site.content(site.chain[3]), ANA, BO)).trusted
    older = beginning(site.root, [site.signed(site.content(site.chain[2]), ANA, BO)], REF, site.now)
    later = site.repo.commit({BASE: b"a: 9\n"}, on=(site.chain[-1],), by=DEE)
    walk = verify.verify(Candidate("main", later, site.repo), replace(trusted, root=older), site.now)
    assert walk.trusted.good is not None
    assert (walk.trusted.good.commit, walk.trusted.good.position) == (later, 6)


def test_an_anchor_that_the_application_pins_is_not_given_up_for_an_older_checkpoint() -> None:
    site = Site()
    pinned = replace(site.root, anchor_commit=site.chain[4], anchor_payload_sha256="0" * 64, anchor_position=4)
    older = site.signed(site.content(site.chain[3]), ANA, BO)
    newer = site.signed(site.content(site.chain[5]), ANA, BO)
    assert beginning(pinned, [older], REF, site.now) == pinned
    assert beginning(pinned, [older, newer], REF, site.now).anchor_commit == site.chain[5]
    assert beginning(site.root, [newer, older], REF, site.now).anchor_commit == site.chain[5]


def test_attack_14_other_content_under_the_same_ids_is_refused() -> None:
    site = Site()
    data = site.signed(site.content(site.chain[3]), ANA, BO)
    entry = lookup(site.repo, parse_commit(site.chain[3], site.repo.read(site.chain[3], "commit")).tree, BASE)
    assert entry is not None
    site.repo.objects[entry.id] = ("blob", b"a: 666\n")  # what a collision would look like
    with pytest.raises(RefusedError, match="other content under the same ids"):
        site.walk(data)
    with without(verify, "manifest_of(self.objects, commit.tree) != root.anchor_manifest", "False"):
        assert site.walk(data).trusted.good is not None


def test_another_commit_under_the_id_of_the_checkpoint_is_refused() -> None:
    site = Site()
    data = site.signed(site.content(site.chain[3], payload_sha256="0" * 64), ANA, BO)
    with pytest.raises(RefusedError, match="not the pinned one"):
        site.walk(data)


def test_a_checkpoint_past_a_change_of_root_counts_by_the_people_who_are_pinned() -> None:
    site = Site()
    text = site.repo.policy((ANA, BO, CY, DEE), RULES)[".livecfg/policy.yaml"].decode()
    changed = text.replace(f'["{ANA}", "{BO}", "{CY}"]', f'["{ANA}", "{BO}", "{DEE}"]').encode()
    assert changed != text.encode()
    change = site.repo.commit({".livecfg/policy.yaml": changed}, on=(site.chain[-1],), by=ANA)
    last = site.repo.commit({}, on=(change,), by=BO, message=f"Adopt\n\nLivecfg-Adopt: {change}")
    site.chain += [change, last]
    data = site.signed(site.content(last), ANA, BO)
    site.forget_before(last)
    walk = site.walk(data)
    assert walk.trusted.good is not None
    assert walk.trusted.good.commit == last
