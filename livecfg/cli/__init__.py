"""The command: one file per verb, each loaded when it is used, so that `livecfg --help` starts in well under 150 ms."""

from __future__ import annotations

from importlib import import_module

import click

VERBS = {"hub": "hub", "fleet": "fleet", "demo": "demo"}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"livecfg.cli.{VERBS[cmd_name]}"), cmd_name)
        return command


@click.group(cls=_Verbs)
def main() -> None:
    """Live, typed, signed configuration and feature flags, straight from Git."""
