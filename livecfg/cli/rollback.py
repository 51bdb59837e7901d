"""`livecfg rollback`: take a change back with a signed commit that says why; history keeps both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, ask_to_go_on, fail, may_ask, output_option, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.cli.draft import Draft
    from livecfg.trust.tree import Entry


@click.command("rollback")
@click.argument("revision", metavar="[COMMIT]", default="HEAD")
@click.option(
    "--to",
    is_flag=True,
    help="Go back to COMMIT instead of taking it back; .livecfg/**, livecfg.yaml and suspensions stay as they are.",
)
@click.option("--reason", default="", help="Why; goes into the commit.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@key_option
@output_option("json")
def rollback(revision: str, to: bool, reason: str, yes: bool, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Take COMMIT back (default: the last one): show what that changes, ask, and commit it, signed.

    What others changed after it in the same files is never taken back along: then the command says which commit to begin with.
    """
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft
    from livecfg.trust.windows import ROLLBACK

    clone = Clone()
    if not reason.strip():
        fail("say why: --reason TEXT")
    commit = clone.commit(clone.resolve(revision))
    if commit.id not in {c.id for c in clone.chain(clone.tip())}:
        fail(f"{commit.id[:10]} is not on this branch's first-parent chain")
    if not to and not commit.parents:
        fail(f"{commit.id[:10]} is the first commit: there is nothing before it to go back to")
    target = commit.id if to else commit.parents[0]
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    before = draft.tree()
    changed = _back_to(clone, target) if to else _back_from(clone, commit.id, target)
    if not changed:
        fail("nothing to take back: everything is as it was then already", Exit.FINDINGS)
    _put(clone, draft, changed)
    check(clone, draft)
    if not yes:
        _confirm(clone, before, draft.tree(), changed)
    did = f"{'Go back to' if to else 'Take back'} {commit.id[:10]}: {commit.subject}"
    record(draft, f"{did}\n\n{reason.strip()}\n\n{ROLLBACK}: {target}", signer, did)


Changed = dict[str, "Entry | None"]
"""Paths, and what they shall be; None: nothing."""


def _back_to(clone: Clone, target: str) -> Changed:
    """Everything as the target has it, but who may do what and which files count: no revoked key comes back unasked.

    Nor does a suspension that is over, and none ends that somebody needs now.
    """
    from livecfg.trust.paths import is_root_path
    from livecfg.trust.suspension import FOLDER
    from livecfg.trust.tree import diff

    changes = diff(clone, clone.commit(clone.tip()).tree, clone.commit(target).tree)
    return {path: now for path, (_, now) in changes.items() if not is_root_path(path) and not path.startswith(f"{FOLDER}/")}


def _back_from(clone: Clone, commit_id: str, parent: str) -> Changed:
    """What one commit changed, as it was before; refuses where a later commit changed it again."""
    from livecfg.trust.tree import diff, lookup

    head = clone.commit(clone.tip()).tree
    wanted: Changed = {}
    for path, (was, became) in diff(clone, clone.commit(parent).tree, clone.commit(commit_id).tree).items():
        now = lookup(clone, head, path)
        if now == was:
            continue
        if now != became:
            later = _last_to_change(clone, path)
            fail(f"{path} was changed again by {later[:10]}: take that back first, or go back with --to", Exit.REFUSED)
        wanted[path] = was
    return wanted


def _last_to_change(clone: Clone, path: str) -> str:
    from livecfg.trust.tree import lookup

    newest = clone.commit(clone.tip())
    entry = lookup(clone, newest.tree, path)
    for commit in clone.chain(newest.id):
        if not commit.parents or lookup(clone, clone.commit(commit.parents[0]).tree, path) != entry:
            return commit.id
    return newest.id


def _put(clone: Clone, draft: Draft, changed: Changed) -> None:
    for path, entry in changed.items():
        draft.current(path)  # refuses to overwrite what is not committed
        if entry is None:
            draft.remove(path)
        else:
            draft.put(path, clone.read(entry.id, "blob"))


def _confirm(clone: Clone, before: str, after: str, changed: Changed) -> None:
    """Show what applications would get, and let the person decide."""
    from livecfg.cli.diff import Side, changes_between, show_changes
    from livecfg.trust.paths import is_root_path

    rows = changes_between(Side(clone, before), Side(clone, after))
    show_changes(rows, err=True)
    if not rows:
        talk("no service gets another value or flag by it")
    for path in sorted(filter(is_root_path, changed)):
        talk(f"it changes who may do what, or which files count: {path}")
    if not may_ask():
        fail("nobody can be asked whether to go on: give --yes")
    ask_to_go_on("Go on?")
