"""`livecfg kill`: a flag off, signed, in one commit that changes nothing else, so that the policy's fast lane lets it through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, fail, output_option
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path


@click.command("kill")
@click.argument("flag")
@click.option("-m", "--message", default="", help="Why; goes into the commit.")
@click.option("--service", default="", help="Only this service's flag, where several have one of that name.")
@click.option("--all", "everywhere", is_flag=True, help="Every service's flag of that name.")
@key_option
@output_option("json")
def kill(
    flag: str,
    message: str,
    service: str,
    everywhere: bool,
    key: Path | None,
    output: str,  # noqa: ARG001 - read where it is printed
) -> None:
    """Set the state of FLAG to DISABLED and nothing else: applications get their own default, through closed windows, too."""
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft
    from livecfg.cli.edit import set_in_text

    clone = Clone()
    if not message.strip():
        fail("say why: -m WHY")
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    files = _files_of(clone, draft.tree(), flag, service)
    if not files:
        fail(f"there is no flag {flag!r}" + (f" of {service}" if service else ""), Exit.FINDINGS)
    if len(files) > 1 and not everywhere:
        fail(f"{flag!r} stands in {', '.join(files)}: say --service NAME, or --all for every one")
    live = [path for path, state in files.items() if state != "DISABLED"]
    if not live:
        fail(f"{flag!r} is off already", Exit.FINDINGS)
    for path in live:
        draft.put(path, set_in_text(draft.current(path).decode(), ("flags", flag, "state"), "DISABLED", path).encode())
    check(clone, draft)
    record(draft, f"Kill {flag}: {message.strip()}", signer, f"{flag} is off ({', '.join(live)})")


def _files_of(clone: Clone, tree: str, flag: str, service: str) -> dict[str, str]:
    """The files that hold the flag for some process, with its state there."""
    from livecfg.cli.effective import processes_in, snapshot_of
    from livecfg.document import read

    found: dict[str, str] = {}
    for process in processes_in(clone, tree, service):
        for path, (blob, made, _) in snapshot_of(clone, tree, process).parts.flags.items():
            if flag in made.flags:
                found[path] = read(clone.read(blob, "blob"), path).value["flags"][flag]["state"]
    return dict(sorted(found.items()))
