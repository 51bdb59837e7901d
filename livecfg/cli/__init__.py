"""The command: one file per verb, each loaded when it is used, so that `livecfg --help` starts in well under 150 ms."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from livecfg.cli.output import Asked, CommandError

# verb → (module:attribute, one line for --help), by the groups in which --help shows them
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "demo": ("demo:demo", "Run a local repository, a 4-worker app and a hub; nothing leaves the machine"),
        "init": ("init:init", "Create a configuration repository: layout, policy, first key, first signed commit"),
        "status": ("status:status", "What this host serves: revision, age, source, refused commits, overrides"),
    },
    "Look": {
        "get": ("look:get", "Print the effective value of a key for a service and env"),
        "explain": ("look:explain", "Say where a value comes from, or what an error code means"),
        "diff": ("diff:diff", "Show the effective difference between two revisions, or HEAD and the files"),
        "log": ("log:log", "History of the branch or of a key, with author and signer"),
    },
    "Change": {
        "set": ("change:set_", "Edit one key (comments kept), check it, commit and sign"),
        "commit": ("change:commit", "Check the working tree, then make a signed commit"),
        "adopt": ("change:adopt", "Vouch for a landed or skipped commit by name"),
        "approve": ("approve:approve", "Sign that you approve a branch, before it is merged"),
        "kill": ("kill:kill", "Switch a flag off, by a signed commit on the policy's fast lane"),
        "suspend": ("suspend:suspend", "Let a service take nothing new over, until it is resumed"),
        "resume": ("suspend:resume", "Let a suspended service go on"),
        "rollback": ("rollback:rollback", "Preview, then take a commit back with a signed one that says why"),
    },
    "Check": {
        "check": ("check:check", "Everything CI needs: syntax, schema, policy, flags"),
        "verify": ("verify:verify", "Verify signatures and policy of commits, offline"),
        "policy": ("policy:policy", "Show and test the policy; explain what it says of a commit"),
        "secrets": ("secrets:secrets", "Check that secrets resolve here; encrypt, decrypt, edit and rotate files of them"),
        "keys": ("keys:keys", "Make a signing key; list, add and revoke people's keys"),
        "checkpoint": ("checkpoint:checkpoint", "Sign where new applications may begin, instead of at the first commit"),
        "root": ("root:root", "Write the trusted root file for applications; change the root people"),
    },
    "Flags": {
        "flags": ("flags:flags", "List, evaluate, test and simulate flags; find stale ones; write accessors"),
        "exp": ("exp:exp", "Experiments: list them, show what came out, stop one and ship a variant"),
    },
    "Fleet": {
        "fleet": ("fleet:fleet", "Who serves what; wait until all have switched"),
        "hub": ("hub:hub", "Run the hub"),
    },
    "Tooling": {
        "ci": ("ci:ci", "Write the workflow that checks every push, for GitHub, GitLab or Gitea"),
        "version": ("look:version", "Versions of livecfg, Python and what matters"),
    },
}
_ALL = {verb: row for group in VERBS.values() for verb, row in group.items()}


class _Verbs(click.Group):
    """Loads a verb's module when it is used; groups them in --help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_ALL)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _ALL:
            return None
        module, _, attribute = _ALL[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"livecfg.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for group, verbs in VERBS.items():
            with formatter.section(group):
                formatter.write_dl([(verb, text) for verb, (_, text) in verbs.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name not in _ALL and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, _ALL, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print it: the verb `version` tells more."""
    if asked:
        from importlib.metadata import version

        click.echo(f"livecfg {version('livecfg')}")
        context.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-input", is_flag=True, help="Never ask for anything: fail, and say what to give.")
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@click.pass_obj
def group(asked: Asked, no_input: bool) -> None:
    """Live, typed, signed configuration and feature flags, straight from Git."""
    asked.no_input = no_input


def _fill_streams() -> None:
    """Give a closed stdin or stderr the null device, else the next file that is opened would be it; stdout must be there."""
    if sys.stdin is None:
        sys.stdin = open(0 if os.open(os.devnull, os.O_RDONLY) == 0 else os.devnull)  # noqa: PTH123, SIM115 - open until the end
    if sys.stdout is None:
        raise CommandError("standard output is closed, so nothing was done: send it somewhere, such as >/dev/null")
    if sys.stderr is None:
        sys.stderr = open(2 if os.open(os.devnull, os.O_WRONLY) == 2 else os.devnull, "w")  # noqa: PTH123, SIM115 - as above


def main(prog_name: str = "livecfg") -> None:
    """Run the command; whatever ends it early is one line for the person and an exit code."""
    asked = Asked()
    try:
        _fill_streams()
        code = group.main(prog_name=prog_name, standalone_mode=False, obj=asked)
        sys.stdout.flush()
        code = code if isinstance(code, int) else 0
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends
        from livecfg.cli.ending import ending

        code = ending(error, asked)
    raise SystemExit(code)
