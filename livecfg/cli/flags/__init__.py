"""`livecfg flags …`: what is declared, what callers would get, what can go; one file per question."""

from __future__ import annotations

import click

from livecfg.cli.flags.codegen import codegen
from livecfg.cli.flags.look import eval_, export, list_, simulate
from livecfg.cli.flags.stale import stale
from livecfg.cli.flags.tests import test


@click.group("flags")
def flags() -> None:
    """List, evaluate, test, simulate and export flags; find those that can go; write typed accessors."""


for command in (list_, eval_, simulate, test, stale, codegen, export):
    flags.add_command(command)
