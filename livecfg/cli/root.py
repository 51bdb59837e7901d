"""`livecfg root`: what applications pin, and how the root people change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, fail, output_option, show_findings, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.trust.policy import Policy


@click.group("root")
def root() -> None:
    """What applications pin: the trusted root file; who the root people are."""


@root.command("export")
@click.option(
    "--anchor/--no-anchor", default=False, show_default=True, help="Let the walk begin at HEAD: its history is trusted as it is."
)
def export(anchor: bool) -> None:
    """Print the trusted root file of HEAD's policy, where applications accept HEAD; ship it with new ones.

    Once the root people have changed it takes --anchor: they have not signed the first commit. HEAD is judged by the trusted root
    that `livecfg init` noted (git config livecfg.trustedRoot), else by what the first commit says of itself.
    """
    from livecfg.cli.judge import root_text

    clone = Clone()
    tip = clone.tip()
    _check(clone, tip)
    text = root_text(clone, tip, anchor=anchor)
    if not anchor and text != _first_root(clone, tip, text):
        talk("the root people are not those of the first commit: an application with this file needs an anchor too (--anchor)")
    click.echo(text, nl=False)


def _check(clone: Clone, tip: str) -> None:
    """Refuse to have applications trust who is named by a commit that those with the old file would skip."""
    from livecfg.cli.judge import history, root_at_hand

    judged = history(clone, tip).get(tip)
    if judged is not None and not judged.authorised:
        show_findings(judged.refusals, err=True)  # what goes to stdout is taken for the file
        fail("applications do not accept HEAD, so none should trust the people it names", Exit.REFUSED)
    if judged is None:
        talk("HEAD was not judged: its history is not here (git fetch --unshallow)")
    elif root_at_hand(clone, tip, clone) is None:
        talk("HEAD was judged by what the first commit says of itself: there is no trusted root here to judge it by")


def _first_root(clone: Clone, tip: str, default: str) -> str:
    """The root file of the first commit; the default in a shallow clone."""
    from livecfg.cli.judge import root_text
    from livecfg.errors import MissingObjectError, RefusedError

    try:
        return root_text(clone, list(clone.chain(tip))[-1].id, anchor=False)
    except (MissingObjectError, RefusedError):
        return default


@root.command("rotate")
@click.argument("people", metavar="PERSON...", nargs=-1, required=True)
@click.option("--threshold", type=click.IntRange(1, 100), help="How many of them must agree; default: as it is.")
@click.option("-m", "--message", default="", help="Why; the first line is the subject.")
@key_option
@output_option("json")
def rotate(people: tuple[str, ...], threshold: int | None, message: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Make PERSON... the root people, all of them; each must have a key here already (`livecfg keys add`).

    It holds once as many of the old people as their threshold says, and as many of the new ones as theirs, have signed or adopted
    it. Applications that pin the old people follow by themselves.
    """
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft
    from livecfg.cli.edit import set_in_text
    from livecfg.trust.paths import POLICY_PATH
    from livecfg.trust.policy import load_policy

    clone = Clone()
    policy = load_policy(clone, clone.commit(clone.tip()).tree)
    needed = threshold or policy.file.root.threshold
    _check_people(policy, people, needed)
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    text = draft.current(POLICY_PATH).decode()
    text = set_in_text(text, "root.people", f"[{', '.join(people)}]", POLICY_PATH)
    text = set_in_text(text, "root.threshold", str(needed), POLICY_PATH)
    draft.put(POLICY_PATH, text.encode())
    check(clone, draft)
    did = f"root: {needed} of {', '.join(people)}"
    record(draft, message or f"Change the root people to {needed} of {', '.join(people)}", signer, did)
    talk("once enough of the old and of the new people have adopted it: livecfg root export --anchor, for new applications")


def _check_people(policy: Policy, people: tuple[str, ...], threshold: int) -> None:
    """Refuse before anything is signed what applications would refuse."""
    if unknown := [person for person in people if not policy.has_key(person)]:
        fail(f"{', '.join(unknown)}: no key of their own here; `livecfg keys add PERSON KEY` first", Exit.REFUSED)
    if len(set(people)) < len(people):
        fail("somebody is named twice")
    if threshold > len(people):
        fail(f"--threshold {threshold}: there are only {len(people)} of them")
    if (tuple(policy.file.root.people), policy.file.root.threshold) == (people, threshold):
        fail("they are the root people already", Exit.FINDINGS)
