"""`python -m livecfg` is the `livecfg` command."""

from livecfg.cli import main

main(prog_name="livecfg")
