"""No subprocess, no socket: verification runs under an audit hook that ends the process at the first of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import ConfigRepo
from tests.trust.gpg import BUNDLE, ROOT

TOP = Path(__file__).parents[2]
PROGRAM = """
import os, sys

FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.", "socket.")

def audit(event, arguments):
    if event.startswith(FORBIDDEN):
        os.write(2, f"forbidden: {event} {arguments!r}\\n".encode())
        os._exit(9)

sys.addaudithook(audit)  # before anything of livecfg is imported

from pathlib import Path
from livecfg.git.store import Store
from livecfg.revision import Candidate
from livecfg.trust.root import Trusted, TrustedRoot
from livecfg.trust.verify import verify

class Objects:
    def __init__(self, path):
        self.store = Store(Path(path), 1 << 20)

    def read(self, object_id, kind):
        found, content = self.store.read(object_id)
        assert found == kind
        return content

for path, root, tip, signers in zip(*[iter(sys.argv[2:])] * 4):
    trusted = Trusted.start(TrustedRoot.parse(Path(root).read_bytes(), root), "main")
    found = verify(Candidate("main", tip, Objects(path)), trusted, 2_000_000_000.0)
    assert found.good is not None and found.good.commit.id == tip, found.skipped
    assert found.good.signers == (signers,), found.good.signers
    print(found.good.revision.position + 1, "commits")

MISUSE
"""
MISUSES = {
    "none": "",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "system": "os.system('true')",
    "exec": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "socket": "import socket; socket.socket()",
    "name": "import socket; socket.getaddrinfo('localhost', 80)",
}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An SSH history with an unsigned, an adopted and a policy commit, and the one that gpg signed: path, root, tip, signer."""
    top = tmp_path_factory.mktemp("histories")
    repo = ConfigRepo(top / "ssh")
    for person, kind in (("ana@acme", "ed25519"), ("bo@acme", "ecdsa"), ("cy@acme", "rsa")):
        repo.person(person, kind)
    repo.found({"config/_shared/base.yaml": "{}\n"})
    bad = repo.commit({"config/a/base.yaml": "a: 1\n"}, signed=False)
    repo.adopt(bad, by="bo@acme")
    repo.commit({".livecfg/policy_tests.yaml": "version: 1\ntests: []\n"})
    repo.commit({"config/a/base.yaml": "a: 2\n"}, by="cy@acme")
    (top / "ssh.yaml").write_bytes(repo.trusted_root)
    subprocess.run(["git", "clone", "-q", "--bare", BUNDLE, top / "gpg"], check=True)
    command = ["git", "-C", top / "gpg", "rev-parse", "main"]
    tip = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return [str(repo.work / ".git"), str(top / "ssh.yaml"), repo.tip(), "cy@acme", str(top / "gpg"), str(ROOT), tip, "dee@acme"]


def run(misuse: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("MISUSE", MISUSES[misuse])
    return subprocess.run([sys.executable, "-c", program, "", *words], cwd=TOP, capture_output=True, text=True, check=False)


def test_verifying_ssh_and_openpgp_histories_starts_no_process_and_opens_no_socket(histories: list[str]) -> None:
    done = run("none", histories)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5", "commits", "13", "commits"]


@pytest.mark.parametrize("misuse", [name for name in MISUSES if name != "none"])
def test_the_hook_would_see_it(misuse: str) -> None:
    done = run(misuse, [])
    assert done.returncode == 9, done.stderr
    assert "forbidden: " in done.stderr
