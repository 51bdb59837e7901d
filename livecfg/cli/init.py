"""`livecfg init`: a good configuration repository, with its first signed commit; running it again changes nothing."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.draft import Draft
from livecfg.cli.output import fail, talk
from livecfg.cli.signing import LITERAL, key_option, load_key, public_line, signing_key

if TYPE_CHECKING:
    from pydantic import BaseModel

    from livecfg.cli.signing import Signer

POLICY_PATH = ".livecfg/policy.yaml"

_MANIFEST = """\
# yaml-language-server: $schema=schemas/livecfg.json
# Which files count for whom; needs the root people like everything under .livecfg/.
version: 1
layers:                                   # later wins
  - config/_shared/base.yaml
  - "config/{service}/base.yaml"
  - "config/{service}/{env}.yaml"
flags: [flags/_shared/**, "flags/{service}/**"]
splits: [splits/_shared/**, "splits/{service}/**"]
experiments: [experiments/_shared/**, "experiments/{service}/**"]
fractional: v2
"""
_POLICY = """\
# yaml-language-server: $schema=../schemas/policy.json
# Who may change what. Every rule that matches a path must hold; a path that no rule matches is denied.
version: 1
repo_id: "{repo_id}"   # never changes
root: {{people: [{person}], threshold: 1}}           # who may change .livecfg/** and livecfg.yaml
teams: {{}}
rules:
  - {{id: all, paths: ["**"], allow: ["*"]}}
  # - {{id: prod, paths: ["config/*/prod.yaml"], allow: [payments], threshold: 2, four_eyes: true}}
protected: {{envs: [], keys: []}}          # no unverified source and no LIVECFG_SET in these environments
"""
_HOOK = """\
#!/bin/sh
# Written by livecfg init: names repository and branch in each message, so that a signature counts only here (bind_ref).
ref=$(git symbolic-ref --quiet HEAD) || exit 0
repo_id=$(sed -n 's/^repo_id: *"\\{0,1\\}\\([0-9a-f]\\{32\\}\\).*/\\1/p' .livecfg/policy.yaml)
[ -n "$repo_id" ] || exit 0
git interpret-trailers --in-place --if-exists doNothing --trailer "Livecfg-Ref: $repo_id $ref" "$1"
"""
_README = """\
# Configuration

Every change is a signed commit. `livecfg check` before you commit, `livecfg set KEY VALUE --service S --env E` to edit and
commit in one step, `livecfg verify` to see who stands behind what. Rules are in `.livecfg/policy.yaml`.
"""


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--person", default="", help="Who you are in the policy, like ana@acme; default: your Git address.")
@key_option
@click.option("--service", default="app", show_default=True, help="The first service.")
@click.option(
    "--trusted-root", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it; default: beside DIRECTORY."
)
def init(directory: Path, person: str, key: Path | None, service: str, trusted_root: Path | None) -> None:
    """Create a configuration repository in DIRECTORY: manifest, policy, first key, first signed commit."""
    clone = _repository(directory)
    if (clone.root / POLICY_PATH).exists() and clone.head():
        click.echo(f"{clone.root} is a configuration repository already; nothing was changed")
        return
    root_file = trusted_root or clone.root.parent / "trusted_root.yaml"
    if root_file.exists():
        fail(f"{root_file} is there already; name another place with --trusted-root")
    if clone.head():
        fail(f"{clone.root} has commits, but no {POLICY_PATH}; start from an empty folder, and copy your files in")
    person = person or clone.config(("user",), "email") or os.environ.get("GIT_AUTHOR_EMAIL", "")
    if not person:
        fail("who are you? give --person you@company, or git config user.email")
    signer, path = _key(clone, key)
    _check_person(person, signer)
    _configure(clone, path, person, root_file)
    branch = clone.branch().removeprefix("refs/heads/")
    commit = _found(clone, _files(person, public_line(signer), service, branch), signer, root_file)
    _install_hook(clone)
    click.echo(f"{clone.root}: first signed commit {commit[:10]} by {person}")
    click.echo(f"{root_file}: ship this file with your application; never keep it in the configuration repository")
    talk(f"next: git -C {clone.root} remote add origin URL && git -C {clone.root} push -u origin {branch}")


def _found(clone: Clone, files: dict[str, str], signer: Signer, root_file: Path) -> str:
    """Make the first commit of these files, and of those that are there instead (an `init` that was stopped goes on)."""
    from livecfg.cli.change import check, with_trailers
    from livecfg.cli.judge import judge, root_text

    draft = Draft(clone)
    for name, text in files.items():
        there = clone.root / name
        draft.put(name, there.read_bytes() if there.exists() else text.encode())
    check(clone, draft)
    made = draft.commit(with_trailers(draft, "Found the configuration"), signer)
    judge(clone, made, draft.branch)
    draft.land(made)
    root_file.write_text(root_text(clone, made.id, anchor=False))
    return made.id


def _check_person(person: str, signer: Signer) -> None:
    """Refuse a name that policy files could not hold, by the reader that applications use."""
    from livecfg.errors import RefusedError
    from livecfg.trust.allowed_signers import parse_allowed_signers

    try:
        parse_allowed_signers(f"{person} {public_line(signer)}\n".encode(), "--person")
    except (RefusedError, UnicodeError):
        fail(f"--person {person!r}: expected a name like ana@acme (letters, digits and . _ + @ -)")


def _schema(model: type[BaseModel]) -> str:
    """The JSON Schema of a document of ours, for editors."""
    return json.dumps(model.model_json_schema(), indent=2) + "\n"


def _files(person: str, public: str, service: str, ref: str) -> dict[str, str]:
    from livecfg.cli.ci import workflow
    from livecfg.layers import Manifest
    from livecfg.trust.policy import PolicyFile

    path, text = workflow("github", ref)
    return {
        "schemas/livecfg.json": _schema(Manifest),
        "schemas/policy.json": _schema(PolicyFile),
        "livecfg.yaml": _MANIFEST,
        ".livecfg/policy.yaml": _POLICY.format(repo_id=secrets.token_hex(16), person=person),
        ".livecfg/allowed_signers": f"{person} {public}\n",
        ".gitattributes": "* -text\n",
        path: text,
        "README.md": _README,
        "config/_shared/base.yaml": "# Values of every service.\n",
        f"config/{service}/base.yaml": "# Values of every environment; prod.yaml and the like come on top.\n",
    }


def _repository(directory: Path) -> Clone:
    from dulwich.repo import Repo

    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / ".git").exists():
        Repo.init(str(directory), default_branch=b"main").close()
    return Clone(directory)


def _key(clone: Clone, given: Path | None) -> tuple[Signer, str]:
    """The key to sign with, and how git names it: the one given, the configured one, or a new Ed25519 key in ~/.ssh."""
    name = str(given or "") or os.environ.get("LIVECFG_KEY", "") or clone.config(("user",), "signingkey")
    if name:
        signer = signing_key(clone, given)
        return signer, name if name.startswith(LITERAL) else str(Path(name).expanduser().resolve())
    path = Path("~/.ssh/livecfg_ed25519").expanduser()
    if not path.exists():
        make_key(path)
        talk(f"made the key {path}, without a passphrase; `ssh-keygen -p -f {path}` sets one")
    return load_key(path), str(path)


def make_key(path: Path) -> None:
    """Write a new Ed25519 key pair in OpenSSH's format."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from livecfg.trust.signatures import public_line as line_of

    made = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - from a descriptor
        file.write(made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_name(path.name + ".pub").write_text(line_of(made) + "\n")


def _configure(clone: Clone, key: str, person: str, root_file: Path) -> None:
    """Set up plain git in this repository, so that `git commit` signs and `git log --show-signature` verifies."""
    config = clone.repo.get_config()
    for section, name, value in (
        (("gpg",), "format", "ssh"),
        (("gpg", "ssh"), "allowedSignersFile", ".livecfg/allowed_signers"),
        (("user",), "signingkey", key),
        (("livecfg",), "trustedRoot", str(root_file.resolve())),
        (("livecfg",), "ref", clone.branch().removeprefix("refs/heads/")),
        (("commit",), "gpgsign", "true"),
        (("pull",), "ff", "only"),  # a pull that merges puts what applications run beside the chain, and they refuse the branch
    ):
        config.set(tuple(s.encode() for s in section), name.encode(), value.encode())
    if not clone.config(("user",), "email"):
        config.set((b"user",), b"email", person.encode())
    if not clone.config(("user",), "name"):
        config.set((b"user",), b"name", person.partition("@")[0].encode())
    config.write_to_path()


def _install_hook(clone: Clone) -> None:
    hook = Path(clone.repo.controldir()) / "hooks" / "commit-msg"
    if not hook.exists():
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_HOOK)
        hook.chmod(0o755)
