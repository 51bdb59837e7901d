from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git.graph import new_commits
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simulator import ConfigRepo


@pytest.fixture
def hub(repo: ConfigRepo, tmp_path: Path) -> Iterator[Mirror]:
    with Mirror(tmp_path / "hub", GitSource(str(repo.remote_path))) as mirror:
        yield mirror


def follow(hub: Mirror, client: Mirror) -> None:
    """Take the client from where it is to the hub's tip by a pack, with the pack's bytes judged by git too."""
    have, tip = client.tip(), hub.tip()
    pack = hub.build_pack(have, tip)
    candidate = client.accept_pack(pack, tip)
    assert candidate.tip == tip
    client.promote()


def test_a_pack_takes_a_client_from_any_revision_to_the_tip(repo: ConfigRepo, hub: Mirror, home: Path) -> None:
    rng = random.Random(4)
    wide = {f"config/wide/{n:03}.yaml": f"a: {n}\n" for n in range(60)}
    repo.publish(wide)
    with Mirror(home, GitSource(str(repo.remote_path))) as client:
        hub.fetch(None)
        follow(hub, client)
        for number in range(12):
            kind = rng.choice(["edit", "merge", "delete", "many", "revert"])
            if kind == "merge":
                repo.branch(f"side{number}", rng.choice(["HEAD", "HEAD~1"]))
                repo.commit({f"config/side/{number}.yaml": f"s: {number}\n"})
                repo.commit({f"config/side/{number}b.yaml": f"s: {number}\n"})
                repo.switch("main")
                repo.merge(f"side{number}")
            elif kind == "delete":
                repo.commit({min(p.name for p in (repo.work / "config/wide").iterdir()).join(["config/wide/", ""]): None})
            elif kind == "many":
                for extra in range(3):
                    repo.commit({f"config/wide/{rng.randrange(100, 160):03}.yaml": f"x: {number}.{extra}\n"})
            elif kind == "revert":
                repo.revert("HEAD") if len(repo.git("rev-list", "--parents", "-1", "HEAD").split()) == 2 else repo.commit({})
            else:
                repo.commit({f"config/wide/{rng.randrange(100, 160):03}.yaml": f"x: {number}\n"})
            if rng.random() < 0.7:
                repo.push()
                hub.fetch(None)
                follow(hub, client)
        repo.push()
        hub.fetch(None)
        follow(hub, client)
        repo.fsck(client.folder / "mirror.git")
        assert repo.git("rev-list", "--objects", hub.tip(), at=client.folder / "mirror.git")


def test_git_itself_accepts_the_thin_pack(repo: ConfigRepo, hub: Mirror, tmp_path: Path) -> None:
    repo.publish({f"config/wide/{n:03}.yaml": f"a: {n}\n" for n in range(200)})
    hub.fetch(None)
    have = hub.tip()
    clone = tmp_path / "clone.git"
    repo.git("clone", "-q", "--bare", str(repo.remote_path), str(clone))
    tip = repo.publish({"config/wide/007.yaml": "a: 700\n"})
    hub.fetch(None)
    pack = hub.build_pack(have, tip)
    subprocess.run(
        ["git", "-C", str(clone), "index-pack", "--fix-thin", "--strict", "--stdin"], input=pack, check=True, capture_output=True
    )
    repo.git("update-ref", "refs/heads/main", tip, at=clone)
    repo.fsck(clone)
    assert len(pack) < 1100, "a one-file change in a wide folder must not carry the folder"


def test_a_pack_for_a_client_that_has_nothing_is_complete(repo: ConfigRepo, hub: Mirror, home: Path) -> None:
    repo.publish({f"config/wide/{n:03}.yaml": f"a: {n}\n" for n in range(100)})
    hub.fetch(None)
    with Mirror(home, GitSource(str(repo.remote_path))) as client:
        follow(hub, client)
        repo.fsck(client.folder / "mirror.git")


def test_a_pack_over_the_limits_is_not_built(repo: ConfigRepo, tmp_path: Path) -> None:
    source = GitSource(str(repo.remote_path))
    with Mirror(tmp_path / "hub2", source) as hub:
        hub.fetch(None)
        small = Mirror(tmp_path / "hub2", GitSource(str(repo.remote_path), limits=Limits(objects=3)))
        hub.promote()
        with pytest.raises(FetchError, match="too many objects"), small:
            small.build_pack("", hub.tip())


def test_new_commits_agree_with_git_on_random_histories(repo: ConfigRepo) -> None:
    rng = random.Random(11)
    heads = [repo.tip()]
    for number in range(40):
        repo.git("switch", "-q", "--detach", rng.choice(heads[-6:]))
        if rng.random() < 0.3 and len(heads) > 3:
            other = rng.choice(heads[-8:])
            done = repo.git("merge-base", "--all", "HEAD", other)
            if other not in done and repo.tip() not in done:
                heads.append(repo.merge(other))
                continue
        heads.append(repo.commit({f"config/r/{number}.yaml": f"n: {number}\n"}, signed=False))
    repo.git("switch", "-q", "main")
    for number, head in enumerate(heads):
        repo.git("push", "-q", "origin", f"{head}:refs/heads/h{number}")
    for number in range(len(heads)):
        with Mirror(repo.path / "each", GitSource(str(repo.remote_path), f"h{number}")) as mirror:
            mirror.fetch(None)
            for other in rng.sample(heads, 6):
                if not mirror.holds(other):
                    continue
                wanted = set(repo.git("rev-list", heads[number], f"^{other}").split())
                found = [name for name, _ in new_commits(mirror.objects, other, heads[number], 1000)]
                assert set(found) == wanted
                for at, name in enumerate(found):
                    parents = repo.git("rev-list", "--parents", "-1", name).split()[1:]
                    assert not set(parents) & set(found[at:])
