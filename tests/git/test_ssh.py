"""A remote behind the real OpenSSH server, with and without the setting that lets protocol version 2 through."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from livecfg import GitSource
from livecfg.errors import FetchError
from livecfg.git.mirror import Mirror
from livecfg.git.writer import Person, Writer
from livecfg.trust.signatures import sign
from tests.e2e.support import eventually, free_of_listeners
from tests.simulator import ConfigRepo, closed_port
from tests.simulator.tools import program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # it may have to install a server


class Sshd:
    """An sshd on loopback that lets one key of this user in."""

    def __init__(self, path: Path, accept: str) -> None:
        self.path = path
        self.port = closed_port()
        for name in ("host", "mine", "other"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        (path / "authorized").write_bytes((path / "mine.pub").read_bytes())
        host_key = (path / "host.pub").read_text().split()
        (path / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n")
        (path / "config").write_text(
            f"ListenAddress 127.0.0.1\nHostKey {path}/host\nAuthorizedKeysFile {path}/authorized\nPidFile none\n"
            f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n{accept}"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (path / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program("sshd", "openssh-server"), "-D", "-e", "-f", str(path / "config"), "-p", str(self.port)],
                stdout=log,
                stderr=log,
            )
        eventually(lambda: not free_of_listeners(self.port), 20, (path / "log").read_text)

    def source(self, remote: Path, key: str = "mine") -> GitSource:
        options = ("BatchMode=yes", "IdentitiesOnly=yes", f"IdentityFile={self.path / key}")
        options += (f"UserKnownHostsFile={self.path / 'known_hosts'}", "StrictHostKeyChecking=yes")
        command = ("ssh", "-F", "none", *(word for option in options for word in ("-o", option)))
        return GitSource(f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{remote}", ssh_command=command)


@pytest.fixture(params=["AcceptEnv GIT_PROTOCOL\n", ""], ids=["version 2", "version 0"])
def sshd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sshd]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    made = Sshd(folder, request.param)
    yield made
    made.process.terminate()
    made.process.wait(10)


def test_a_mirror_follows_a_remote_behind_openssh(repo: ConfigRepo, home: Path, sshd: Sshd) -> None:
    with Mirror(home, sshd.source(repo.remote_path)) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        assert first.tip == repo.remote_tip()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        second = mirror.fetch(first.tip)
        assert second is not None
        assert second.tip == tip
        assert second.objects.read(tip, "commit") == repo.raw(tip)
        assert mirror.fetch(tip) is None


def test_a_signed_commit_is_pushed_through_openssh(repo: ConfigRepo, home: Path, sshd: Sshd) -> None:
    source = sshd.source(repo.remote_path)
    key = load_ssh_private_key(repo.person("ana@acme").private_bytes, None)
    with Mirror(home, source) as mirror:
        mirror.fetch(None)
        writer = Writer(source, mirror.objects, Person("Ana", "ana@acme"), lambda payload: sign(key, "git", payload))
        parent = repo.remote_tip()
        made = writer.commit({"config/checkout/base.yaml": b"payment_timeout_s: 4.0\n"}, "Raise it", parent, 1_767_300_000)
        assert repo.remote_tip() == made != parent


def test_a_key_that_is_not_let_in_is_an_error_in_openssh_words(repo: ConfigRepo, home: Path, sshd: Sshd) -> None:
    with Mirror(home, sshd.source(repo.remote_path, "other")) as mirror, pytest.raises(FetchError, match="Permission denied"):
        mirror.fetch(None)


def test_a_host_key_that_changed_is_an_error(repo: ConfigRepo, home: Path, sshd: Sshd) -> None:
    key = (sshd.path / "other.pub").read_text().split()
    (sshd.path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {key[0]} {key[1]}\n")
    with Mirror(home, sshd.source(repo.remote_path)) as mirror, pytest.raises(FetchError, match="Host key verification failed"):
        mirror.fetch(None)
