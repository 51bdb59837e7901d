"""`livecfg keys` and `livecfg root`: who may sign, as signed changes; what applications pin."""

from __future__ import annotations

import re
from pathlib import Path

import click

from livecfg.cli.clone import Clone, load_key, signing_key
from livecfg.cli.output import Exit, envelope, fail, output_option, show_findings, talk

SIGNERS = ".livecfg/allowed_signers"
_KEY = click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="SSH private key to sign with; default: Git's user.signingkey."
)


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
    from livecfg.trust.signatures import public_line

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
    if not clone.head():
        fail("there is no commit yet")
    policy = load_policy(clone, clone.commit(clone.head()).tree)
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
@_KEY
def add(person: str, public_key: str, key: Path | None) -> None:
    """Give PERSON the public KEY (`ssh-ed25519 AAAA…`, or the path of a .pub file); needs the root role."""
    text = Path(public_key).expanduser().read_text() if public_key.endswith(".pub") else public_key
    line = " ".join(text.split()[:2])
    clone = Clone()
    signers = _signers(clone)
    _change(clone, f"{signers.rstrip()}\n{person} {line}\n", f"Add a key of {person}", key)


@keys.command("revoke")
@click.argument("who", metavar="PERSON|FINGERPRINT")
@_KEY
def revoke(who: str, key: Path | None) -> None:
    """Remove all keys of PERSON, or the one with the FINGERPRINT; from then on they sign nothing. Needs the root role."""
    clone = Clone()
    kept = [line for line in _signers(clone).splitlines() if not _is(line, who)]
    text = "\n".join(kept) + "\n"
    if text == _signers(clone):
        fail(f"{who} has no key here", Exit.FINDINGS)
    _change(clone, text, f"Revoke {who}", key)


@keys.command("rotate")
@click.argument("person")
@click.argument("public_key", metavar="NEW_KEY")
@_KEY
def rotate(person: str, public_key: str, key: Path | None) -> None:
    """Add PERSON's NEW_KEY beside the old one; `keys revoke FINGERPRINT` ends the overlap. Needs the root role."""
    text = Path(public_key).expanduser().read_text() if public_key.endswith(".pub") else public_key
    clone = Clone()
    if not any(line.split(" ")[0] == person for line in _signers(clone).splitlines()):
        fail(f"{person} has no key yet: use `livecfg keys add`", Exit.FINDINGS)
    line = " ".join(text.split()[:2])
    _change(clone, f"{_signers(clone).rstrip()}\n{person} {line}\n", f"Rotate the key of {person}", key)


def _signers(clone: Clone) -> str:
    try:
        return (clone.root / SIGNERS).read_text()
    except OSError:
        fail(f"{SIGNERS} is missing; `livecfg init` makes a configuration repository")


def _is(line: str, who: str) -> bool:
    import base64

    from livecfg.trust.signatures import fingerprint

    if not line.strip() or line.startswith("#"):
        return False
    if line.split(" ", maxsplit=1)[0] == who:
        return True
    blob = re.search(r"\b(AAAA[A-Za-z0-9+/=]+)", line)
    return blob is not None and who.startswith("SHA256:") and fingerprint(base64.b64decode(blob[1])) == who


def _change(clone: Clone, text: str, subject: str, key: Path | None) -> None:
    """Write the file, check the policy with it, commit and sign; put it back when it does not hold."""
    from livecfg.cli.change import with_trailers
    from livecfg.cli.check import find_faults
    from livecfg.cli.effective import AnyModel, working_tree

    clone.check_no_merge()
    clone.check_nothing_staged()
    path = clone.root / SIGNERS
    before = path.read_text()
    path.write_text(text)
    objects, tree_id = working_tree(clone.root)
    findings, _ = find_faults(objects, tree_id, AnyModel)
    if findings:
        path.write_text(before)
        show_findings(findings)
        talk("nothing was changed")
        raise SystemExit(int(Exit.FINDINGS))
    private, _ = signing_key(clone, key)
    clone.stage([SIGNERS])
    commit = clone.make_commit(with_trailers(clone, subject), private)
    click.echo(f"{commit[:10]}  {subject}")
    talk("push it: git push")


@click.group("root")
def root() -> None:
    """What applications pin: the trusted root file."""


@root.command("export")
@click.option(
    "--anchor/--no-anchor", default=False, show_default=True, help="Let the walk begin at HEAD: its history is trusted as it is."
)
def export(anchor: bool) -> None:
    """Print the trusted root file of HEAD's policy; ship it with applications."""
    import base64

    from livecfg.trust.policy import load_policy

    clone = Clone()
    head = clone.head()
    if not head:
        fail("there is no commit yet")
    commit = clone.commit(head)
    policy = load_policy(clone, commit.tree)
    people: dict[str, list[str]] = {person: [] for person in policy.file.root.people}
    for signer in policy.signers.values():
        if signer.person in people:
            size = int.from_bytes(signer.key[:4], "big")
            people[signer.person].append(f"{signer.key[4 : 4 + size].decode()} {base64.b64encode(signer.key).decode()}")
    click.echo(f'version: 1\nrepo_id: "{policy.file.repo_id}"\nthreshold: {policy.file.root.threshold}\npeople:')
    for person, lines in people.items():
        click.echo(f"  {person}: [{', '.join(lines)}]")
    if anchor:
        kind = "sha1" if len(head) == 40 else "sha256"
        click.echo(f'anchor:\n  commit: "{kind}:{head}"\n  payload_sha256: "{commit.payload_sha256}"')
