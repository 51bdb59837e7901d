"""A history signed by the real gpg: made afresh in `make test-all`, and kept in `fixtures` for `make test`.

`PYTHONPATH=. python tests/trust/gpg.py` makes the fixture again.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulator import Clock, ConfigRepo
from tests.simulator.tools import program

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parent / "fixtures"
BUNDLE, ROOT = FIXTURES / "openpgp.bundle", FIXTURES / "openpgp-root.yaml"
BASE = "config/checkout/base.yaml"
START = datetime(2024, 3, 1, tzinfo=UTC).timestamp()

PAYLOAD = b"tree 1\n\nmessage\n"
FORMS: dict[str, tuple[str, ...]] = {
    "good": (),
    "text": ("--textmode",),
    "expiring": ("--default-sig-expire", "30y"),
    "sha1": ("--digest-algo", "SHA1"),
    "sha224": ("--digest-algo", "SHA224"),
    "ripemd160": ("--digest-algo", "RIPEMD160"),
}
EXPECTED = {
    "Found the configuration": "",
    "By a signing subkey": "",
    "By a primary key": "",
    "By a key of a curve of NIST": "",
    "By a forge": "LC315",
    "Adopt what the forge did": "",
    "By an expired key": "LC304",
    "Adopt what the expired key did": "",
    "By a key that will be revoked": "",
    "Take in the revocation": "",
    "By the revoked key": "LC304",
    "By a key of nobody": "LC303",
    "Adopt the rest": "",
}
"""The history: the subject of each commit, and the code of its refusal when it is looked at for the first time."""


class Gpg:
    """gpg with a keyring of its own, at a time of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.at = START
        self.fingerprints: dict[str, str] = {}
        self.program = home / "program"
        self.program.write_text(f'#!/bin/sh\nexec gpg --homedir {home} --faked-system-time "$(cat {home}/time)!" "$@"\n')
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def __call__(self, *words: str, data: bytes | None = None) -> bytes:
        moment = datetime.fromtimestamp(self.at, UTC).strftime("%Y%m%dT%H%M%S")
        (self.home / "time").write_text(moment)
        command = [str(self.program), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *words]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def key(self, person: str, algorithm: str, use: str = "sign", until: str = "never") -> str:
        """Make a primary key; `use` is sign or cert."""
        self("--quick-gen-key", f"{person} <{person}>", algorithm, use, until)
        listed = self("--list-keys", "--with-colons", person).decode().splitlines()
        self.fingerprints[person] = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
        return self.fingerprints[person]

    def subkey(self, person: str, algorithm: str, until: str = "never") -> None:
        """Add a subkey that signs."""
        self("--quick-add-key", self.fingerprints[person], algorithm, "sign", until)

    def public(self, person: str) -> bytes:
        """The armored certificate."""
        return self("--armor", "--export", self.fingerprints[person])

    def revoke(self, person: str) -> None:
        """Revoke a primary key."""
        text = (self.home / "openpgp-revocs.d" / f"{self.fingerprints[person]}.rev").read_bytes()
        self("--import", data=text.replace(b":-----BEGIN", b"-----BEGIN"))


@contextmanager
def keyring() -> Iterator[Gpg]:
    """A keyring below a short path, since the agent's socket stands in it; its agent ends with it."""
    program("gpg", "gnupg")
    home = Path(tempfile.mkdtemp(prefix="livecfg-gpg-", dir="/tmp"))
    try:
        yield Gpg(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


def commit(repo: ConfigRepo, gpg: Gpg, person: str, subject: str, text: str = "", signed_at: float | None = None) -> str:
    """Commit `text` to a file, signed by gpg; without text: an empty commit."""
    if text:
        (repo.work / BASE).write_text(text)
    moment = repo.clock()
    repo.clock.advance(repo.step_s)
    gpg.at = moment if signed_at is None else signed_at
    gpg("--version")  # sets its time
    sign = ["-c", "gpg.format=openpgp", "-c", f"gpg.program={gpg.program}"]
    words = ["commit", "-qa", "--allow-empty", f"-S{gpg.fingerprints[person]}!", "-m", subject]
    repo.git(*sign, *words, who=person, date=moment)
    return repo.tip()


def make_history(path: Path, gpg: Gpg) -> ConfigRepo:
    """Make the history of EXPECTED."""
    repo = ConfigRepo(path, clock=Clock(START))
    for person, algorithm, use, until in (
        ("dee@acme", "ed25519", "cert", "never"),
        ("eli@acme", "ed25519", "sign", "1y"),
        ("fay@acme", "rsa2048", "sign", "never"),
        ("gus@acme", "nistp256", "sign", "never"),
        ("web-flow@forge", "rsa2048", "sign", "never"),
        ("eve@evil", "ed25519", "sign", "never"),
    ):
        gpg.key(person, algorithm, use, until)
    gpg.subkey("dee@acme", "rsa3072")
    listed = gpg("--list-keys", "--with-colons", "dee@acme").decode().splitlines()
    primary = gpg.fingerprints["dee@acme"]
    certificates = {f".livecfg/openpgp/{person}.asc": gpg.public(person) for person in gpg.fingerprints if "evil" not in person}
    gpg.fingerprints["dee@acme"] = [line.split(":")[9] for line in listed if line.startswith("fpr")][1]
    assert gpg.fingerprints["dee@acme"] != primary
    repo.clock.advance(3600)
    files = {"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"} | certificates
    repo.found(files, policy={"forges": ["web-flow@forge"]})
    commit(repo, gpg, "dee@acme", "By a signing subkey", "timeout_ms: 2\n")
    commit(repo, gpg, "eli@acme", "By a primary key", "timeout_ms: 3\n")
    commit(repo, gpg, "gus@acme", "By a key of a curve of NIST", "timeout_ms: 4\n")
    forged = commit(repo, gpg, "web-flow@forge", "By a forge", "timeout_ms: 5\n")
    commit(repo, gpg, "dee@acme", f"Adopt what the forge did\n\nLivecfg-Adopt: {forged}")
    in_time = repo.clock()
    repo.clock.now = datetime(2025, 6, 1, tzinfo=UTC).timestamp()
    late = commit(repo, gpg, "eli@acme", "By an expired key", "timeout_ms: 6\n", signed_at=in_time)
    commit(repo, gpg, "dee@acme", f"Adopt what the expired key did\n\nLivecfg-Adopt: {late}")
    commit(repo, gpg, "fay@acme", "By a key that will be revoked", "timeout_ms: 7\n")
    _finish(repo, gpg)
    return repo


def _finish(repo: ConfigRepo, gpg: Gpg) -> None:
    fay = gpg.fingerprints["fay@acme"]
    before = gpg("--export-secret-keys", fay)
    gpg.at = repo.clock()
    gpg.revoke("fay@acme")
    revoked = gpg.public("fay@acme")
    repo.commit({".livecfg/openpgp/fay@acme.asc": revoked}, message="Take in the revocation")
    gpg("--delete-secret-and-public-key", fay)
    gpg("--import", data=before)
    mine = commit(repo, gpg, "fay@acme", "By the revoked key", "timeout_ms: 8\n")
    other = commit(repo, gpg, "eve@evil", "By a key of nobody", "timeout_ms: 9\n")
    commit(repo, gpg, "dee@acme", f"Adopt the rest\n\nLivecfg-Adopt: {mine}\nLivecfg-Adopt: {other}")


def make_signatures(gpg: Gpg) -> None:
    """Make one key, and signatures by it over PAYLOAD: a good one, and one of each form that is refused."""
    gpg.at = START
    fingerprint = gpg.key("ana@acme", "ed25519")
    (FIXTURES / "key.asc").write_bytes(gpg.public("ana@acme"))
    for name, options in FORMS.items():
        words = ("--armor", "--detach-sign", "--local-user", fingerprint, *options)
        (FIXTURES / f"{name}.sig").write_bytes(gpg(*words, data=PAYLOAD))
    twice = gpg("--detach-sign", "--local-user", fingerprint, data=PAYLOAD) * 2
    (FIXTURES / "two.sig").write_bytes(gpg("--enarmor", data=twice).replace(b"ARMORED FILE", b"SIGNATURE"))
    gpg.key("bo@acme", "ed25519", "cert")
    gpg.subkey("bo@acme", "ed25519", "1y")
    (FIXTURES / "subkey.asc").write_bytes(gpg.public("bo@acme"))
    gpg.revoke("ana@acme")
    (FIXTURES / "revoked.asc").write_bytes(gpg.public("ana@acme"))


def main() -> None:
    """Make the fixture."""
    FIXTURES.mkdir(exist_ok=True)
    with keyring() as gpg:
        make_signatures(gpg)
    with keyring() as gpg, tempfile.TemporaryDirectory() as name:
        repo = make_history(Path(name) / "repo", gpg)
        repo.git("bundle", "create", str(BUNDLE), "main")
        ROOT.write_bytes(repo.trusted_root)


if __name__ == "__main__":
    main()
