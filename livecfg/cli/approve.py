"""`livecfg approve`: an empty signed commit on top of a branch; whoever merges it brings the approval along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import CommandError, Exit, envelope, fail, output_option, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from livecfg.trust.policy import Policy


@click.command("approve")
@click.argument("branch")
@click.option("--ref", default="", help="The branch it will land on; default: the one that applications follow.")
@click.option("-m", "--message", default="", help="What to say; the first line is the subject.")
@key_option
@output_option("json")
def approve(branch: str, ref: str, message: str, key: Path | None, output: str) -> None:
    """Approve everything on the local BRANCH as it is now; a change after that is not approved. Push BRANCH then."""
    from livecfg.cli.change import joined
    from livecfg.cli.draft import Draft
    from livecfg.cli.judge import followed
    from livecfg.cli.lacking import told
    from livecfg.trust.approvals import APPROVE
    from livecfg.trust.identify import Signed, identify
    from livecfg.trust.policy import load_policy

    clone = Clone()
    name, target = f"refs/heads/{branch.removeprefix('refs/heads/')}", followed(clone, ref)
    if name.encode() not in clone.repo.refs.allkeys():
        fail(f"there is no local branch {branch!r}; `git switch {branch.rpartition('/')[2]}` makes one of the remote's")
    if name == target:
        fail(f"{branch} is what applications follow: what has landed is adopted, `livecfg adopt COMMIT`")
    signer = signing_key(clone, key)
    policy = load_policy(clone, clone.commit(clone.resolve(target)).tree)
    draft = Draft(clone, empty=True, branch=name)
    trailer = f"{APPROVE}: {policy.file.repo_id} {target}"
    made = draft.commit(joined(message or f"Approve {branch}", trailer), signer)
    signed = identify(clone.commit(made.id, made), policy.signers)
    if not isinstance(signed, Signed):
        raise CommandError("your approval would not count, so it was not made", Exit.REFUSED, [signed])
    draft.land(made)
    missing = _missing(clone, made.id, target, policy)
    if output == "json":
        data = {"commit": made.id, "branch": branch, "ref": target, "person": signed.person}
        envelope("approve", data | {"missing": missing})
        return
    click.echo(f"{made.id[:10]}  {signed.person} approves {branch} for {target.removeprefix('refs/heads/')}")
    for text in told(missing or []):
        talk(text)
    if missing == []:
        talk("nobody else is needed: every rule has enough people")
    elif missing:
        talk("who merges it by a signed commit counts, too, where the rule names them and no four eyes are wanted")
    talk(f"push it: git push origin {branch}; then merge with a merge commit: git merge --no-ff -S {branch}")


def _missing(clone: Clone, branch: str, target: str, policy: Policy) -> list[dict[str, Any]] | None:
    """Who else is needed; None where that cannot be known here."""
    from livecfg.cli.lacking import lacking
    from livecfg.errors import LivecfgError
    from livecfg.trust.tree import TreeFaultError

    try:
        return lacking(clone, branch, target, policy)
    except (LivecfgError, TreeFaultError, KeyError) as error:  # a shallow clone, mostly: the approval stands
        talk(f"who else is needed cannot be told here: {error}")
        return None
