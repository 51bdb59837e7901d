from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError, LivecfgError, PushConflictError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.git.writer import Person, Writer
from livecfg.trust.root import TrustedRoot
from livecfg.trust.verify import Trusted, verify
from tests.simulator import ConfigRepo, GitHttpServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HUB = Person("hub", "hub@acme")


def signer(repo: ConfigRepo, name: str) -> Callable[[bytes], bytes]:
    """Sign with the real ssh-keygen, as git does."""
    key = repo.person(name).private

    def sign(payload: bytes) -> bytes:
        words = ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", str(key)]
        return subprocess.run(words, input=payload, capture_output=True, check=True).stdout

    return sign


@pytest.fixture
def writer_of(repo: ConfigRepo, home: Path) -> Callable[[GitSource], tuple[Mirror, Writer]]:
    def make(source: GitSource) -> tuple[Mirror, Writer]:
        mirror = Mirror(home, source).open()
        mirror.fetch(None)
        return mirror, Writer(source, mirror.objects, HUB, signer(repo, "hub@acme"))

    return make


@pytest.fixture(params=["http", "ssh", "path"])
def source(request: pytest.FixtureRequest, repo: ConfigRepo, http: GitHttpServer, tmp_path: Path) -> GitSource:
    if request.param == "http":
        return GitSource(http.url(repo.remote_path))
    if request.param == "path":
        return GitSource(str(repo.remote_path))
    script = tmp_path / "ssh.sh"
    script.write_text('for last in "$@"; do :; done; exec sh -c "$last"\n')
    return GitSource(f"ssh://example.test{repo.remote_path}", ssh_command=("sh", str(script)))


def test_a_written_commit_passes_gits_own_checks(
    repo: ConfigRepo, source: GitSource, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    mirror, writer = writer_of(source)
    with mirror:
        parent = mirror.tip()
        files = {
            "config/checkout/prod.yaml": b"a: 1\n",
            "rollouts/x/rollout.yaml": b"b: 2\n",
            "a.b": b"",
            "a/x": b"1",
            "a0": b"2",
        }
        tip = writer.commit(files, "Advance\n\nvia: controller", parent, 1_767_300_000.7)
        assert repo.remote_tip() == tip
        repo.git("fetch", "-q", "origin", "main")
        repo.fsck(repo.remote_path)
        for path, content in files.items():
            assert repo.raw(f"{tip}:{path}", "blob") == content
        assert repo.raw(f"{tip}:config/checkout/base.yaml", "blob") == b"payment_timeout_s: 2.0\n"
        signers = repo.path / "signers"
        signers.write_text(repo.allowed_signers())
        shown = repo.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "log", "-1", "--format=%G? %GS %an %ae %ct %B", tip)
        assert shown == "G hub@acme hub hub@acme 1767300000 Advance\n\nvia: controller"
        candidate = mirror.fetch(parent)
        assert candidate is not None
        assert candidate.tip == tip


def test_the_tree_equals_what_git_would_have_written(
    repo: ConfigRepo, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    mirror, writer = writer_of(GitSource(str(repo.remote_path)))
    with mirror:
        files: dict[str, bytes | None] = {
            "config/checkout/base.yaml": None,
            "config.yaml": b"1",
            "config-x": b"2",
            "deep/er/and/deeper": b"3",
            "Z": b"4",
        }
        built = writer.build(files, "m", mirror.tip(), 1.0)
        by_git = repo.commit(dict(files))
        tree = next(e for e in built.entries if e.kind == "commit").content.split(b"\n")[0]
        assert tree.decode() == "tree " + repo.git("rev-parse", f"{by_git}^{{tree}}")


def test_a_push_onto_a_moved_ref_is_a_conflict_and_moves_nothing(
    repo: ConfigRepo, source: GitSource, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    mirror, writer = writer_of(source)
    with mirror:
        parent = mirror.tip()
        other = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 7.0\n"})
        with pytest.raises(PushConflictError):
            writer.commit({"x": b"1"}, "late", parent, 1_767_300_000)
        assert repo.remote_tip() == other


def test_a_push_finds_its_branch_among_any_number_of_others(
    repo: ConfigRepo, source: GitSource, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    repo.crowd(65_000)
    mirror, writer = writer_of(source)
    with mirror:
        tip = writer.commit({"x": b"1"}, "Advance", mirror.tip(), 1_767_300_000)
        assert repo.remote_tip() == tip


def test_an_empty_commit_keeps_the_tree(repo: ConfigRepo, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]) -> None:
    mirror, writer = writer_of(GitSource(str(repo.remote_path)))
    with mirror:
        parent = mirror.tip()
        tip = writer.commit({}, f"Adopt\n\nLivecfg-Adopt: {parent}", parent, 1_767_300_000)
        repo.git("fetch", "-q", "origin", "main")
        assert repo.git("rev-parse", f"{tip}^{{tree}}") == repo.git("rev-parse", f"{parent}^{{tree}}")


def test_a_push_the_server_refuses_says_why(repo: ConfigRepo, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]) -> None:
    hook = repo.remote_path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    mirror, writer = writer_of(GitSource(str(repo.remote_path)))
    with mirror:
        parent = mirror.tip()
        with pytest.raises(FetchError, match="refuses the push of refs/heads/main: pre-receive hook declined"):
            writer.commit({"x": b"1"}, "m", parent, 1_767_300_000)
        assert repo.remote_tip() == parent


@pytest.mark.parametrize("path", ["", "/x", "a//b", "../x", "a/.git/x", "a/.GIT", "x y", "é", "a/"])
def test_a_path_that_trust_would_refuse_is_not_written(
    path: str, repo: ConfigRepo, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    mirror, writer = writer_of(GitSource(str(repo.remote_path)))
    with mirror, pytest.raises(LivecfgError):
        writer.build({path: b"1"}, "m", mirror.tip(), 1.0)


def test_livecfgs_own_signature_is_accepted_by_git_and_by_livecfg(
    repo: ConfigRepo, writer_of: Callable[[GitSource], tuple[Mirror, Writer]]
) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    from livecfg.trust.signatures import sign

    source = GitSource(str(repo.remote_path))
    mirror, _ = writer_of(source)
    with mirror:
        key = load_ssh_private_key(repo.person("ana@acme").private_bytes, None)
        writer = Writer(source, mirror.objects, Person("ana", "ana@acme"), lambda payload: sign(key, "git", payload))
        tip = writer.commit({"config/checkout/base.yaml": b"payment_timeout_s: 4.0\n"}, "m", mirror.tip(), repo.clock())
        repo.git("fetch", "-q", "origin", "main")
        signers = repo.path / "signers"
        signers.write_text(repo.allowed_signers())
        assert repo.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "log", "-1", "--format=%G? %GS", tip) == "G ana@acme"
        candidate = mirror.fetch(None)
        assert candidate is not None
        trusted = Trusted.start(TrustedRoot.parse(repo.trusted_root, "root.yaml"), "main")
        walk = verify(candidate, trusted, repo.clock())
        assert walk.skipped == ()
        assert walk.good is not None
        assert walk.good.revision.commit == tip


def test_a_sha256_repository_gets_its_own_signature_header(tmp_path: Path, home: Path) -> None:
    repo = ConfigRepo(tmp_path / "up256", object_format="sha256")
    repo.found({"a.yaml": "a: 1\n"})
    source = GitSource(str(repo.remote_path))
    with Mirror(home, source) as mirror:
        mirror.fetch(None)
        tip = Writer(source, mirror.objects, HUB, signer(repo, "hub@acme")).commit({"b": b"1"}, "m", mirror.tip(), 1_767_300_000)
        repo.git("fetch", "-q", "origin", "main")
        signers = repo.path / "signers"
        signers.write_text(repo.allowed_signers())
        assert repo.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "log", "-1", "--format=%G?", tip) == "G"
