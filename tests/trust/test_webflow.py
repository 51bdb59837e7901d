"""A Git host's own merges, signed with OpenPGP as GitHub's web-flow signs them: pull requests, and what the host may not do."""

from __future__ import annotations

import time
from typing import Any

import pysequoia
import pytest

from livecfg.refusal import Code
from livecfg.trust import openpgp
from tests.simulator.memory import APPROVE, MemoryRepo

ANA, BO, CY, HOST = "ana@acme", "bo@acme", "cy@acme", "web-flow@forge"
PEOPLE = (ANA, BO, CY)
PROD, BASE = "config/shop/prod.yaml", "config/shop/base.yaml"
RULES = [
    {"id": "all", "paths": ["**"], "allow": ["*"]},
    {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": [BO, CY], "threshold": 2},
]
TITLE = "Merge pull request #12 from acme/change\n\nTurn it up"


class Host:
    """A repository whose policy lists the key of its Git host, and a branch with a change that takes two people."""

    def __init__(self, merge: str, change: bytes = b"a: 2\n") -> None:
        self.change: dict[str, bytes | None] = {PROD: change}
        self.repo = MemoryRepo()
        self.repo.clock = int(time.time()) + 60  # pysequoia makes keys and signatures of now
        self.key = pysequoia.Tsk.generate("GitHub <noreply@github.com>")
        armored = pysequoia.armor(bytes(self.key.extract_certificate()), pysequoia.ArmorKind.PublicKey)
        asc = {f"{openpgp.FOLDER}{HOST}.asc": armored.replace("\r", "").encode()}
        self.first = self.repo.found(PEOPLE, RULES, {PROD: b"a: 1\n", BASE: b"a: 1\n"} | asc, forges=[HOST], merge=merge)
        assert self.repo.good(self.first) == self.first
        self.sign_with(self.key)
        self.side = self.repo.commit(self.change, on=(self.first,), by=BO)

    def sign_with(self, key: pysequoia.Tsk) -> None:
        mode = pysequoia.SignatureMode.DETACHED
        self.repo.pens[HOST] = lambda payload: bytes(pysequoia.sign(key.signer(), payload, mode=mode)).replace(b"\r", b"")

    def approve(self) -> None:
        self.side = self.repo.commit({}, on=(self.side,), by=CY, message=f"Approve\n\n{APPROVE}")

    def merge(self, files: dict[str, bytes | None] | None = None, name: str = "GitHub") -> str:
        main = self.repo.commit({BASE: b"a: 9\n"}, on=(self.first,), by=ANA)  # main moved on meanwhile
        return self.repo.commit(files or self.change, on=(main, self.side), by=HOST, message=TITLE, name=name)

    def landed(self, tip: str) -> bool:
        """Whether anything of the change, or of what the host put beside it, is in the last good commit."""
        files = self.repo.files[self.repo.good(tip)]
        return files[PROD] != b"a: 1\n" or files[BASE] == b"a: 666\n"


def test_a_pull_request_that_was_approved_on_its_branch_lands_by_the_hosts_merge() -> None:
    host = Host("clean")
    host.approve()
    merge = host.merge()
    found = host.repo.verify(merge)
    assert found.good is not None
    assert found.good.commit.id == merge
    assert set(found.good.signers) == {BO, CY}, "people, never the host"


def test_the_hosts_signature_is_nobodys_where_people_merge_and_a_persons_adoption_heals() -> None:
    host = Host("person")
    host.approve()
    merge = host.merge(name=CY)
    refusals = [r for r in host.repo.verify(merge).skipped if r.commit == merge]
    assert [r.code for r in refusals] == [Code.MERGE]
    assert "never that a person did" in refusals[0].message
    adopted = host.repo.commit({}, on=(merge,), by=CY, message=f"Adopt\n\nLivecfg-Adopt: {merge}")
    assert host.repo.good(adopted) == adopted


def attack_nobody_approved(host: Host) -> str:
    return host.merge()


def attack_evil_merge(host: Host) -> str:
    host.approve()
    return host.merge(host.change | {BASE: b"a: 666\n"})


def attack_squash(host: Host) -> str:
    host.approve()
    return host.repo.commit(host.change, on=(host.first,), by=HOST, message="Turn it up (#12)", name=BO)


def attack_another_hosts_key(host: Host) -> str:
    host.approve()
    host.sign_with(pysequoia.Tsk.generate("GitHub <noreply@github.com>"))
    return host.merge()


def attack_signature_of_another_merge(host: Host) -> str:
    host.approve()
    signature = host.repo.pens[HOST](b"another")
    host.repo.pens[HOST] = lambda _: signature
    return host.merge()


def attack_approved_by_the_host(host: Host) -> str:
    host.side = host.repo.commit({}, on=(host.side,), by=HOST, message=f"Approve\n\n{APPROVE}")
    return host.merge()


@pytest.mark.parametrize(
    "attack",
    [
        attack_nobody_approved,
        attack_evil_merge,
        attack_squash,
        attack_another_hosts_key,
        attack_signature_of_another_merge,
        attack_approved_by_the_host,
    ],
)
@pytest.mark.parametrize("merge", ["clean", "person"])
def test_attack_9_the_host_alone_lands_nothing(attack: Any, merge: str) -> None:
    host = Host(merge)
    assert not host.landed(attack(host))
