"""`livecfg keys`: who may sign, as signed changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, fail, output_option, talk
from livecfg.cli.signing import key_option, load_key, public_line, public_text, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNERS = ".livecfg/allowed_signers"


@click.group("keys")
def keys() -> None:
    """Make a signing key; list, add and revoke people's keys."""


@keys.command("init")
@click.option(
    "--path", type=click.Path(path_type=Path, dir_okay=False), default=Path("~/.ssh/livecfg_ed25519"), show_default=True
)
def init(path: Path) -> None:
    """Make an Ed25519 key (or take the one that is there), have git sign with it here, and print its line for the policy."""
    from livecfg.cli.init import make_key

    path = path.expanduser()
    if path.exists():
        talk(f"{path} is there already")
    else:
        make_key(path)
        talk(f"made {path}, without a passphrase; `ssh-keygen -p -f {path}` sets one")
    clone = Clone()
    config = clone.repo.get_config()
    config.set((b"gpg",), b"format", b"ssh")
    config.set((b"gpg", b"ssh"), b"allowedSignersFile", SIGNERS.encode())
    config.set((b"user",), b"signingkey", str(path).encode())
    config.set((b"commit",), b"gpgsign", b"true")
    config.set((b"pull",), b"ff", b"only")  # as `init` does
    config.write_to_path()
    click.echo(f"{clone.config(('user',), 'email') or 'YOU@COMPANY'} {public_line(load_key(path))}")
    talk("have one of the root people run: livecfg keys add PERSON 'KEY'")


@keys.command("list")
@output_option("json")
def list_(output: str) -> None:
    """Show every person with their keys and what they may do."""
    from livecfg.trust.policy import load_policy
    from livecfg.trust.signatures import fingerprint

    clone = Clone()
    policy = load_policy(clone, clone.commit(clone.tip()).tree)
    root = set(policy.file.root.people)
    rows = []
    for signer in policy.signers.values():
        teams = [team for team, people in policy.file.teams.items() if signer.person in people]
        roles = (["root"] if signer.person in root else []) + teams
        rows.append({"person": signer.person, "fingerprint": fingerprint(signer.key), "roles": roles})
    if output == "json":
        envelope("keys list", rows)
        return
    width = max((len(str(r["person"])) for r in rows), default=0)
    for r in rows:
        click.echo(f"{str(r['person']).ljust(width)}  {r['fingerprint']}  {', '.join(map(str, r['roles']))}".rstrip())


@keys.command("add")
@click.argument("person")
@click.argument("public_key", metavar="KEY")
@key_option
@output_option("json")
def add(person: str, public_key: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Give PERSON the public KEY (`ssh-ed25519 AAAA…`, or the path of a .pub file); needs the root role."""
    line = public_text(public_key)
    _change(lambda signers: f"{signers}{person} {line}\n", f"Add a key of {person}", key)


@keys.command("revoke")
@click.argument("who", metavar="PERSON|FINGERPRINT")
@key_option
@output_option("json")
def revoke(who: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - as above
    """Remove all keys of PERSON, or the one with the FINGERPRINT; from then on they sign nothing. Needs the root role."""

    def without(signers: str) -> str:
        kept = "".join(f"{line}\n" for line in signers.splitlines() if not _is(line, who))
        return kept if kept != signers else fail(f"{who} has no key here", Exit.FINDINGS)

    _change(without, f"Revoke {who}", key)


@keys.command("rotate")
@click.argument("person")
@click.argument("public_key", metavar="NEW_KEY")
@key_option
@output_option("json")
def rotate(person: str, public_key: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - as above
    """Add PERSON's NEW_KEY beside the old one; `keys revoke FINGERPRINT` ends the overlap. Needs the root role."""
    line = public_text(public_key)

    def beside(signers: str) -> str:
        if not any(old.split(" ")[0] == person for old in signers.splitlines()):
            fail(f"{person} has no key yet: use `livecfg keys add`", Exit.FINDINGS)
        return f"{signers}{person} {line}\n"

    _change(beside, f"Rotate the key of {person}", key)


def _is(line: str, who: str) -> bool:
    import base64

    from livecfg.trust.signatures import fingerprint

    if not line.strip() or line.startswith("#"):
        return False
    if line.split(" ", maxsplit=1)[0] == who:
        return True
    blob = re.search(r"\b(AAAA[A-Za-z0-9+/=]+)", line)
    return blob is not None and who.startswith("SHA256:") and fingerprint(base64.b64decode(blob[1])) == who


def _change(edit: Callable[[str], str], subject: str, key: Path | None) -> None:
    """Edit the file of keys, check the policy with it, sign, judge and land."""
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft

    clone = Clone()
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    before = draft.current(SIGNERS).decode(errors="replace")
    if not before:
        fail(f"{SIGNERS} is missing; `livecfg init` makes a configuration repository")
    draft.put(SIGNERS, edit(before.rstrip("\n") + "\n").encode(errors="replace"))
    check(clone, draft)
    record(draft, subject, signer, subject)
