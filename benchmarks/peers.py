"""Peers of benchmarks/evaluate.py: other flag clients, fed with the same six flags from local data; PEERS=1 asks for them.

They live in an environment of their own, `peers/bench` in that of the interpreter that runs this (.venv), made on first use and
again when the pins change, which also sees the project's environment: so all run in one process, interleaved. None of them asks
its vendor; flipt-client, which does not start without a server, gets one on loopback. What a peer cannot express is left out
for it: `LACKING`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import clients, native_clients

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.constants import Constants

Asked = dict[str, "Callable[[str], Any]"]
PINS = (
    "openfeature-flagd-core==2.0.0",
    "openfeature-provider-flagd==0.6.1",
    "growthbook==4.0.0",
    "launchdarkly-server-sdk==9.20.0",
    "eppo-server-sdk==4.4.1",
    "statsig-python-core==0.24.2",
    "configcat-client==10.0.1",
    "optimizely-sdk==5.7.0",
    "UnleashClient==6.9.1",
    "flipt-client==1.4.5",
)
LACKING = {("flipt", "W4")}
"""Peers and workloads that they cannot express: flipt compares no versions."""
_ENTERED = "entered"


def enter() -> bool:
    """Run this program again where the peers are installed, if PEERS=1 asks for them; tell whether they are there."""
    if not os.environ.get("PEERS"):
        print("skipped: peers (PEERS=1 installs and measures " + ", ".join(PINS) + ")")
        return False
    if os.environ["PEERS"] == _ENTERED:
        return True
    home = Path(sys.prefix) / "peers" / "bench"
    ready, pins = home / "ready", "\n".join(PINS)
    if not ready.exists() or ready.read_text() != pins:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS], check=True)
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (next(home.glob("lib/python*/site-packages")) / "zz-livecfg.pth").write_text(f"{ours}\n{Path(__file__).parents[1]}\n")
        ready.write_text(pins)
    environment = os.environ | {"PEERS": _ENTERED}
    raise SystemExit(subprocess.run([home / "bin/python", *sys.argv], check=False, env=environment).returncode)


def leave() -> None:
    """End the process at once: some engines wait for threads of theirs, or abort, while an interpreter ends."""
    sys.stdout.flush()
    os._exit(0)


def all_of(flags: dict[str, Any], context: dict[str, Any], of: Callable[[int], Constants]) -> Asked:
    """Give every peer, loaded with `flags`, which are W1 to W6 with the constants of 0."""
    keys = list(flags)
    loads = (
        clients.configcat, clients.optimizely,
        native_clients.eppo, native_clients.statsig, native_clients.unleash, native_clients.flipt,
    )  # fmt: skip
    return {
        "openfeature-flagd-core": clients.flagd_core(flags, context),
        "flagd provider": clients.flagd_provider(flags, context),
        "growthbook": clients.growthbook(keys, context, of),
        "launchdarkly": clients.launchdarkly(keys, context, of),
        **{load.__name__: load(keys, context, of(0)) for load in loads},
    }
