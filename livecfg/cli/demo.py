"""`livecfg demo`: a signed repository, a Git server, a hub and a four-worker application, on this machine alone."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

from livecfg.errors import LivecfgError

if TYPE_CHECKING:
    from livecfg.cli._demo.running import Outcome
    from livecfg.cli._demo.site import Site

_FINDINGS, _INTERNAL = 1, 2


@click.group(invoke_without_command=True)
@click.option("--story", is_flag=True, help="Tell what livecfg does, step by step, checking each step; ends by itself.")
@click.pass_context
def demo(context: click.Context, story: bool) -> None:
    """Run a signed repository, a Git server, a hub and a 4-worker application; nothing leaves the machine."""
    if context.invoked_subcommand is not None:
        return
    from livecfg.cli._demo.site import Site

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a plain `kill` cleans up too
    try:
        site = Site()
    except LivecfgError as error:
        click.echo(f"livecfg demo: {error}", err=True)
        context.exit(_INTERNAL)
    with site:
        context.exit(_tell(site) if story else _play(site))


@demo.command("set")
@click.argument("key")
@click.argument("value")
@click.pass_context
def set_(context: click.Context, key: str, value: str) -> None:
    """Make a signed change in the running demo, such as `set payment_timeout_s 1.5`."""
    context.exit(_change(key, value))


@demo.command("break")
@click.pass_context
def break_(context: click.Context) -> None:
    """Make a change that is refused: a word where the application wants a number."""
    code = _change("payment_timeout_s", "fast")
    click.echo("heal it with: livecfg demo set payment_timeout_s 2.5")
    context.exit(code)


def _change(key: str, value: str) -> int:
    from livecfg.cli._demo.running import Running

    try:
        outcome = Running.find().change(key, value)
    except LivecfgError as error:
        click.echo(f"livecfg demo: {error}", err=True)
        return _INTERNAL
    return _report(outcome)


def _report(outcome: Outcome) -> int:
    if outcome.refusals:
        click.echo(f"{outcome.commit[:10]} refused; all workers go on with {outcome.served[:10]}:")
        for refusal in outcome.refusals:
            click.echo(f"  {refusal}")
        return _FINDINGS
    switched = f"{outcome.switched}/{outcome.switched} workers switched in {outcome.took_ms:.0f} ms"
    click.echo(f"{outcome.commit[:10]} signed and pushed: {switched}")
    return 0


def _tell(site: Site) -> int:
    from livecfg.cli._demo.story import tell
    from livecfg.cli._demo.terminal import Terminal

    out = Terminal()
    out.title("livecfg: live, typed, signed configuration, straight from Git")
    try:
        tell(site, out)
    except LivecfgError as error:
        out.failed(str(error))
        out.note(site.log_tail())
        return _FINDINGS
    out.title(f"\nEvery step held, in {out.elapsed_s:.0f} s. Next: `livecfg demo` keeps it up to play with.")
    return 0


def _play(site: Site) -> int:
    from livecfg.cli._demo.running import Running

    try:
        answers = site.workers(lambda a: bool(a["condition"] == "READY"))
    except LivecfgError as error:
        click.echo(f"livecfg demo: {error}\n{site.log_tail()}", err=True)
        return _FINDINGS
    running = Running.of(site)
    running.write(site.key.private)
    try:
        click.echo(f"application  http://127.0.0.1:{site.port}/    {len(answers)} workers")
        click.echo(f"Git          {site.source.url}    ({site.git.program})")
        click.echo(f"hub          127.0.0.1:{site.hub_port}")
        click.echo("\nIn a second terminal:")
        for words in ("set payment_timeout_s 1.5", "set payment_timeout_s fast", "break"):
            click.echo(f"  livecfg demo {words}")
        click.echo("\nCtrl-C stops everything and removes it.")
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("\nstopped, and everything removed")
    finally:
        running.forget()
    return 0
