"""`livecfg hub serve`: run the hub."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click


@click.group("hub")
def hub() -> None:
    """Run the hub: it offers new revisions at once and shows who runs what."""


def _address(_: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse what is no host:port, before anything is opened."""
    host, colon, port = value.rpartition(":")
    whole = not (":" in host and not host.startswith("[")) and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16
    if value and not (colon and whole):
        wanted = f"127.0.0.1:{value}" if value.isdecimal() else "127.0.0.1:7443 or [::1]:7443"
        raise click.BadParameter(f"expected host:port, such as {wanted}, got {value!r}", param=parameter)
    return value


@hub.command("serve")
@click.option("--source", required=True, help="URL or path of the configuration repository.")
@click.option("--ref", default="main", show_default=True, help="Branch to follow.")
@click.option(
    "--trusted-root", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file `livecfg init` wrote."
)
@click.option(
    "--listen", default="127.0.0.1:7443", show_default=True, callback=_address, help="host:port; port 0 takes a free one."
)
@click.option("--store", default="", help="sqlite:///file or postgresql://…; default: hub.db under LIVECFG_HOME.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="Where the mirror lives; default: LIVECFG_HOME.")
@click.option("--poll-interval", default=2.0, show_default=True, help="Seconds between questions to the remote.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), help="PEM chain; needed beyond loopback.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM key of --tls-cert.")
@click.option("--tls-client-ca", type=click.Path(path_type=Path, dir_okay=False), help="PEM authority of client certificates.")
@click.option("--tokens", type=click.Path(path_type=Path, dir_okay=False), help="YAML list of token digests with roles.")
@click.option("--http", default="", callback=_address, help="host:port of /healthz, /readyz, /metrics and /hooks; default: none.")
@click.option(
    "--webhook-secret", type=click.Path(path_type=Path, dir_okay=False), help="File with the secret shared with the Git host."
)
@click.option(
    "--heartbeat-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="SSH key of policy's `timestamp` role: attest which revision is the newest.",
)
@click.option(
    "--heartbeat-interval",
    type=click.FloatRange(1, 60),
    default=30.0,
    show_default=True,
    help="Seconds between two heartbeats of the same revision.",
)
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="Write host:port here once ready.")
def serve(
    source: str,
    ref: str,
    trusted_root: Path,
    listen: str,
    store: str,
    home: Path | None,
    poll_interval: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    tokens: Path | None,
    http: str,
    webhook_secret: Path | None,
    heartbeat_key: Path | None,
    heartbeat_interval: float,
    ready_file: Path | None,
) -> None:
    """Follow a repository, offer its revisions, gather what is applied where. Ends on Ctrl-C or SIGTERM.

    A bearer token that may do everything can be given in LIVECFG_HUB_TOKEN; tokens of single clients, by their SHA-256 and with
    a role (agent, viewer, operator) and an optional service, in the file --tokens.
    """
    from livecfg.environment import read_environment
    from livecfg.errors import LivecfgError
    from livecfg.git.source import GitSource
    from livecfg.server import HubSettings
    from livecfg.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    folder = home or read_environment(os.environ).home / "hub"

    def ready(address: str) -> None:
        click.echo(f"livecfg hub listens on {address}")
        if ready_file is not None:
            beside = ready_file.with_name(ready_file.name + ".new")
            beside.write_text(address + "\n")
            beside.replace(ready_file)

    try:
        settings = HubSettings(
            source=GitSource(url=source, ref=ref),
            trusted_root=trusted_root.read_bytes(),
            listen=listen,
            store=store or f"sqlite:///{folder / 'hub.db'}",
            home=folder,
            poll_interval_s=poll_interval,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            tokens=tokens,
            http=http,
            webhook_secret=webhook_secret.read_bytes().strip() if webhook_secret is not None else b"",
            heartbeat_key=heartbeat_key,
            heartbeat_interval_s=heartbeat_interval,
            token=os.environ.get("LIVECFG_HUB_TOKEN", ""),
        )
        _use_uvloop()
        asyncio.run(run(settings, ready))
    except (LivecfgError, OSError) as error:
        click.echo(f"livecfg hub: {error}", err=True)
        raise SystemExit(2) from None


def _use_uvloop() -> None:
    """Take uvloop where it is installed (extra `hub`): half the fan-out time."""
    try:
        import uvloop
    except ImportError:
        return
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # event loop policies go away in Python 3.16
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
