"""An application that has nothing begins at a checkpoint over the network, and deepens when an approval lies below it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from livecfg.git.statement import StatementRef
from livecfg.git.store import Store
from livecfg.git.writer import Person
from livecfg.trust.checkpoint import NAMESPACE, REF, manifest_of
from livecfg.trust.signatures import sign
from livecfg.trust.statement import write_statement
from tests.hub.test_hub import Hub, wait_until
from tests.simulator import ConfigRepo, GitHttpServer

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.revision import Kind

ANA, BO = "ana@acme", "bo@acme"
PROD = "config/checkout/prod.yaml"
RULES = [
    {"id": "all", "paths": ["**", f"!{PROD}"], "allow": ["*"]},
    {"id": "prod", "paths": [PROD], "allow": [ANA, BO], "threshold": 2},
]


class Config(BaseModel, frozen=True):
    a: int = 0
    b: int = 0


class Work:
    """The objects of the working clone."""

    def __init__(self, repo: ConfigRepo) -> None:
        self.repo = repo

    def read(self, object_id: str, kind: Kind) -> bytes:
        return self.repo.raw(object_id, kind)


@pytest.fixture
def site(tmp_path: Path) -> ConfigRepo:
    """Eight commits after the first, two people for production."""
    repo = ConfigRepo(tmp_path / "repo")
    files = {"config/_shared/base.yaml": "{}\n", PROD: "a: 0\n"}
    repo.found(files, people=[BO], policy={"rules": RULES})
    for number in range(1, 9):
        repo.commit({"config/checkout/base.yaml": f"b: {number}\n"})
    repo.push()
    return repo


def publish_checkpoint(repo: ConfigRepo, commit: str) -> None:
    position = int(repo.git("rev-list", "--first-parent", "--count", commit)) - 1
    content = {
        "repo_id": repo.policy()["repo_id"],
        "ref": "refs/heads/main",
        "commit": commit,
        "payload_sha256": repo.payload_sha256(commit),
        "manifest": manifest_of(Work(repo), repo.git("rev-parse", f"{commit}^{{tree}}")),
        "position": position,
        "time": int(repo.git("show", "-s", "--format=%ct", commit)),
        "expires": int(time.time()) + 3600,
    }
    key = load_ssh_private_key(repo.person(ANA).private_bytes, None)
    data = write_statement(content, lambda line: sign(key, NAMESPACE, line))
    StatementRef(GitSource(url=str(repo.remote_path)), REF).publish(data, Person("Ana", ANA), time.time(), 40)


def stored_commits(home: Path) -> set[str]:
    (folder,) = home.glob("*/mirror.git")
    store = Store(folder, 1 << 20)
    try:
        return {name for name in store.all_names() if store.read(name)[0] == "commit"}
    finally:
        store.close()


def test_it_serves_from_the_checkpoint_on_and_fetches_what_an_approval_needs(site: ConfigRepo, tmp_path: Path) -> None:
    first, checkpoint = site.tip("HEAD~8"), site.tip("HEAD~2")
    publish_checkpoint(site, checkpoint)
    home = tmp_path / "home"
    with GitHttpServer(site.path) as server:
        source, root = GitSource(url=server.url(site.remote_path)), site.trusted_root
        live = LiveConfig(
            Config, source=source, trusted_root=root, service="checkout", env="prod", home=home, poll_interval_s=0.2
        )
        with live:
            assert live.current.config.b == 8
            assert live.current.revision.position == 8
            assert live.wait_for(site.publish({"config/checkout/base.yaml": "b: 9\n"}), 20).config.b == 9
            # Bo has changed production on a branch that left the chain before the checkpoint; Ana merges it.
            site.branch("old", site.tip("HEAD~7"))
            site.commit({PROD: "a: 1\n"}, by=BO)
            site.switch("main")
            merge = site.merge("old", by=ANA)
            site.push()
            assert live.wait_for(merge, 30).config.a == 1
    assert first in stored_commits(home), "base(a) lies below the checkpoint: the history was needed"


def test_nothing_below_the_checkpoint_is_kept_where_nobody_needs_it(site: ConfigRepo, tmp_path: Path) -> None:
    checkpoint = site.tip("HEAD~2")
    publish_checkpoint(site, checkpoint)
    home = tmp_path / "home"
    with GitHttpServer(site.path) as server:
        source, root = GitSource(url=server.url(site.remote_path)), site.trusted_root
        for service in ("checkout", "search"):  # the second finds the mirror there, and the checkpoint beside it
            settings = {"service": service, "env": "prod", "home": home}
            with LiveConfig(Config, source=source, trusted_root=root, **settings) as live:  # type: ignore[arg-type]  # as they are
                assert live.current.revision.position == 8
    assert stored_commits(home) == {site.tip(), site.tip("HEAD~1"), checkpoint}


def test_a_hub_goes_on_from_where_the_checkpoint_began(site: ConfigRepo, tmp_path: Path) -> None:
    publish_checkpoint(site, site.tip("HEAD~2"))
    hub = Hub(site, tmp_path / "hub")
    try:
        with ExitStack() as stack:
            server = stack.enter_context(GitHttpServer(site.path))
            source, root = GitSource(url=server.url(site.remote_path)), site.trusted_root
            settings = {"service": "checkout", "env": "prod", "home": tmp_path / "home", "hub": hub.address}
            live = LiveConfig(Config, source=source, trusted_root=root, poll_interval_s=600, **settings)  # type: ignore[arg-type]  # as they are
            with live:
                wait_until(lambda: live.status.hub == "streaming")
                assert live.current.revision.position == 8
                stack.close()  # from here on only the hub can bring anything
                for value in (10, 11):
                    assert live.wait_for(site.publish({"config/checkout/base.yaml": f"b: {value}\n"}), 20).config.b == value
    finally:
        hub.stop()
