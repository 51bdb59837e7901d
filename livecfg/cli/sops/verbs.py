"""`livecfg secrets encrypt`, `decrypt`, `edit`, `rotate`.

Encrypting replaces the file; decrypting never does: plain text goes to the standard output, or to a file outside of the clone.
Keys are never given on the command line.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.output import Exit, ask_to_go_on, envelope, fail, may_ask, output_option, show_findings, style, talk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.cli.sops.rule import Plan, Rule
    from livecfg.document import Document
    from livecfg.sops import Known

_KEY_BYTES = 32
_HISTORY = "Git knows it in plain text: if that was ever committed, encrypting does not help; change the secrets themselves"
_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_recipients = click.option(
    "--age", "recipients", multiple=True, metavar="RECIPIENT", help="For whom (age1…); may be given again. Default: .sops.yaml."
)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What a file would become."""

    path: Path
    before: bytes
    text: str
    count: int
    recipients: tuple[str, ...]

    def write(self) -> None:
        from livecfg.cli.sops.files import replace

        replace(self.path, self.text.encode(), self.before)


@click.command("encrypt")
@click.argument("files", type=_file, nargs=-1, required=True)
@_recipients
@click.option("--encrypted-regex", default="", help="Encrypt what stands below keys that fit; the rest stays plain.")
@click.option("--unencrypted-regex", default="", help="Leave plain what stands below keys that fit.")
@click.option("--encrypted-suffix", default="", help="Encrypt what stands below keys that end so.")
@click.option("--unencrypted-suffix", default="", help="Leave plain what stands below keys that end so.  [default: _unencrypted]")
@click.option("--mac-only-encrypted", is_flag=True, help="Let people change plain values without the key.")
@output_option("json")
def encrypt(files: tuple[Path, ...], recipients: tuple[str, ...], output: str, **given: str | bool) -> None:
    """Encrypt FILES in their place, as the sops program does, for age recipients: --age, or those that .sops.yaml names."""
    from livecfg.cli.sops.files import clone_around, document_at, is_tracked
    from livecfg.cli.sops.rule import plan_of
    from livecfg.sops import is_encrypted

    done = []
    for path in files:
        document = document_at(path)
        if is_encrypted(document.value):
            fail(
                f"{path} is encrypted already: `livecfg secrets edit` changes its values, `rotate` its recipients", Exit.FINDINGS
            )
        if "sops" in document.value:
            fail(f"{path}: the key `sops` at the top is taken by the format: name it otherwise")
        whole = path.resolve()
        plan = plan_of(whole, clone_around(path) or whole.parent, given, recipients)
        done.append(_encrypted(path, document, plan))
    for path in files:
        if is_tracked(path):
            talk(f"{path}: {_HISTORY}")
    _write(done, output, "encrypt")


@click.command("decrypt")
@click.argument("file", type=_file)
@click.option("--to", type=click.Path(path_type=Path), help="Write a new file that only you can read, outside of the clone.")
@output_option("json")
def decrypt(file: Path, to: Path | None, output: str) -> None:
    """Print FILE in plain, on the standard output, when its MAC says that nobody changed it."""
    from livecfg.cli.sops.files import opened_at, write_new
    from livecfg.cli.sops.text import unseal

    if to is not None:
        _check_outside(to)
    opened = opened_at(file)
    if to is not None:
        write_new(to, unseal(opened.document, opened.opening, opened.value).encode())
        talk(f"{to} holds secrets in plain text: remove it when it is not needed any more")
    if output == "json":
        envelope(
            "secrets decrypt", {"path": str(file), "to": str(to)} if to else {"path": str(file), "value": _json(opened.value)}
        )
    elif to is None:
        click.echo(unseal(opened.document, opened.opening, opened.value), nl=False)


@click.command("edit")
@click.argument("file", type=_file)
@output_option("json")
def edit(file: Path, output: str) -> None:
    """Open FILE in plain in your editor (SOPS_EDITOR, EDITOR, else vi), and encrypt what you save; the rest stays as it is."""
    from livecfg.cli.sops.editor import edited
    from livecfg.cli.sops.files import opened_at
    from livecfg.cli.sops.text import unseal
    from livecfg.document import read
    from livecfg.errors import RefusedError
    from livecfg.layers import TAGS

    opened = opened_at(file)
    part = opened.document.value["sops"]
    rule = _own_rule(part)
    before = unseal(opened.document, opened.opening, opened.value)
    text = before
    while True:
        text = edited(text, file)
        if text == before:
            talk("nothing was changed")
            break
        try:
            document = read(text.encode(), opened.document.path, tags=TAGS)
            if not isinstance(document.value, dict) or not document.value or "sops" in document.value:
                fail(f"{file}: expected a mapping with at least one key, and none called `sops`")
            sealed = _sealed(file, opened.document.data, document, opened.key, rule, part, opened.opening.known)
        except RefusedError as error:
            if not may_ask():
                raise
            show_findings(error.refusals, err=True)
            ask_to_go_on("edit it again?", default=True)
            continue
        sealed.write()
        break
    if output == "json":
        envelope("secrets edit", {"path": str(file), "changed": text != before})
    elif text != before:
        click.echo(f"{style('ok', fg='green')}: {file} is encrypted with what you changed")


@click.command("rotate")
@click.argument("files", type=_file, nargs=-1, required=True)
@_recipients
@output_option("json")
def rotate(files: tuple[Path, ...], recipients: tuple[str, ...], output: str) -> None:
    """Encrypt FILES anew under new data keys: for --age, else as .sops.yaml says now, else for the recipients they have."""
    from livecfg.cli.sops.files import clone_around, document_at, opened_at
    from livecfg.cli.sops.rule import Plan, checked, creation_rule
    from livecfg.cli.sops.text import unseal
    from livecfg.document import read
    from livecfg.layers import TAGS
    from livecfg.sops import is_encrypted

    if plain := [str(path) for path in files if not is_encrypted(document_at(path).value)]:
        fail(
            f"not encrypted: {', '.join(plain)}; nothing was rotated: leave them out, or `livecfg secrets encrypt` them first",
            Exit.FINDINGS,
        )
    done, gone = [], set()
    for path in files:
        opened = opened_at(path)
        part = opened.document.value["sops"]
        if others := [kind for kind in ("kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "pgp") if part.get(kind)]:
            fail(f"{path}: it is for {' and '.join(others)} too, which livecfg cannot encrypt for: use `sops rotate`")
        whole = path.resolve()
        creation = creation_rule(whole, clone_around(path) or whole.parent)
        own = tuple(str(row["recipient"]) for row in part["age"])
        plan = Plan(_own_rule(part), checked(recipients) or (creation.recipients if creation else ()) or checked(own))
        document = read(unseal(opened.document, opened.opening, opened.value).encode(), opened.document.path, tags=TAGS)
        done.append(_encrypted(path, document, plan, opened.document.data))
        gone |= {*own} - {*plan.recipients}
    if gone:
        talk(f"{len(gone)} recipients are gone, but have what was readable for them so far: change the secrets themselves, too")
    _write(done, output, "rotate")


def _own_rule(part: Mapping[str, Any]) -> Rule:
    from livecfg.cli.sops.rule import Rule, rule_of

    if comments := [key for key in ("encrypted_comment_regex", "unencrypted_comment_regex") if part.get(key)]:
        fail(f"it is encrypted by {comments[0]}, which livecfg does not know how to keep: use the sops program")
    only = bool(part.get("mac_only_encrypted"))
    return rule_of(part, mac_only_encrypted=only) or Rule(mac_only_encrypted=only)


def _encrypted(path: Path, document: Document, plan: Plan, before: bytes | None = None) -> _Sealed:
    """Encrypt under a new data key."""
    from livecfg.cli.sops.sealing import about

    key = os.urandom(_KEY_BYTES)
    return _sealed(path, before or document.data, document, key, plan.rule, about(key, plan.recipients, plan.rule), {})


def _sealed(
    path: Path, before: bytes, document: Document, key: bytes, rule: Rule, part: Mapping[str, Any], known: Mapping[Known, str]
) -> _Sealed:
    """Encrypt, and read what came out as any application would, before anything is written."""
    from livecfg.cli.sops.files import plain_value
    from livecfg.cli.sops.sealing import Sealer
    from livecfg.cli.sops.text import seal
    from livecfg.document import read
    from livecfg.layers import TAGS
    from livecfg.sops import Opening, metadata_of

    sealer = Sealer(key, rule, known)
    now = time.time()
    text = seal(document, sealer, lambda: sealer.finish(part, now))
    if not sealer.count:
        fail(f"{path}: no value stands below a key that {rule.kind} {rule.text!r} encrypts", Exit.FINDINGS)
    again = read(text.encode(), document.path, tags=TAGS)
    if Opening(again, metadata_of(again), key, plain_value).run() != document.value:
        fail(f"{path}: what was encrypted would not read as it was; encrypt it with the sops program", Exit.REFUSED)
    return _Sealed(path, before, text, sealer.count, tuple(str(row["recipient"]) for row in part.get("age") or ()))


def _write(done: list[_Sealed], output: str, verb: str) -> None:
    for sealed in done:
        sealed.write()
    if output == "json":
        rows = [{"path": str(s.path), "encrypted": s.count, "recipients": list(s.recipients)} for s in done]
        envelope(f"secrets {verb}", {"files": rows})
        return
    for sealed in done:
        values, people = _counted(sealed.count, "value"), _counted(len(sealed.recipients), "recipient")
        click.echo(f"{style('ok', fg='green')}: {sealed.path}: {values} encrypted for {people}")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _check_outside(to: Path) -> None:
    from livecfg.cli.sops.files import clone_around

    clone = clone_around(to)
    if clone is not None:
        fail(
            f"{to} is in the clone {clone}: plain text there is one `git add` away from the history; give a place outside",
            Exit.REFUSED,
        )
    if to.exists() or to.is_symlink():
        fail(f"{to} is there already: remove it, or name another file")


def _json(value: Any) -> Any:
    """References in words, as the other verbs show them."""
    from livecfg.document import Tagged

    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return f"{value.tag} {value.text}" if isinstance(value, Tagged) else value


commands: tuple[click.Command, ...] = (encrypt, decrypt, edit, rotate)
