"""What the client reads from the environment, once, at start; a constructor argument wins over each of them but LIVECFG_REF."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError
from livecfg.git.faults import raise_shortage

if TYPE_CHECKING:
    from collections.abc import Mapping

_SET = "LIVECFG_SET_"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Environment:
    """The `LIVECFG_*` variables: `overrides` by dotted key as YAML scalars, names of `killed` flags, `hold` a revision.

    From `until` on (Unix seconds) those three and `ref` count no more.
    """

    home: Path
    service: str = ""
    env: str = ""
    region: str = ""
    instance: str = ""
    hub: str = ""
    hub_ca: str = ""
    hub_certificate: str = ""
    hub_key: str = ""
    hub_token: str = field(default="", repr=False)
    ref: str = ""
    hold: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    killed: frozenset[str] = frozenset()
    until: float | None = None

    def at(self, now: float) -> Environment:
        """Give the environment as it is from `now` on: without local settings once their time is over."""
        if self.until is None or now < self.until:
            return self
        return replace(self, overrides={}, killed=frozenset(), hold="", ref="", until=None)

    @property
    def visible(self) -> tuple[str, ...]:
        """Names of the local overrides in force, for status and hub; never their values."""
        names = [f"LIVECFG_SET_{key.replace('.', '__')}" for key in sorted(self.overrides)]
        names += [f"LIVECFG_KILL={key}" for key in sorted(self.killed)]
        names += [f"LIVECFG_HOLD={self.hold}"] if self.hold else []
        return tuple(names + ([f"LIVECFG_REF={self.ref}"] if self.ref else []))


def read_environment(variables: Mapping[str, str]) -> Environment:
    """Parse the variables of a process.

    Raises:
        LivecfgError: `LIVECFG_LABELS` is not of the form `key=value,…`, `LIVECFG_HOLD` is no commit id, or
            `LIVECFG_OVERRIDES_UNTIL` is no time.

    """
    labels = {}
    for pair in filter(None, variables.get("LIVECFG_LABELS", "").split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise LivecfgError(f"LIVECFG_LABELS: expected key=value,…, got {pair!r}")
        labels[key.strip()] = value.strip()
    return Environment(
        home=Path(variables["LIVECFG_HOME"]) if variables.get("LIVECFG_HOME") else _cache(variables),
        service=variables.get("LIVECFG_SERVICE", ""),
        env=variables.get("LIVECFG_ENV", ""),
        region=variables.get("LIVECFG_REGION", ""),
        instance=variables.get("LIVECFG_INSTANCE", ""),
        hub=variables.get("LIVECFG_HUB", ""),
        hub_ca=variables.get("LIVECFG_HUB_CA", ""),
        hub_certificate=variables.get("LIVECFG_HUB_CERT", ""),
        hub_key=variables.get("LIVECFG_HUB_KEY", ""),
        hub_token=variables.get("LIVECFG_HUB_TOKEN", ""),
        ref=variables.get("LIVECFG_REF", ""),
        hold=_hold(variables.get("LIVECFG_HOLD", "")),
        labels=labels,
        overrides={k[len(_SET) :].replace("__", "."): v for k, v in variables.items() if k.startswith(_SET)},
        killed=frozenset(filter(None, (key.strip() for key in variables.get("LIVECFG_KILL", "").split(",")))),
        until=_until(variables.get("LIVECFG_OVERRIDES_UNTIL", "")),
    )


def _hold(text: str) -> str:
    commit = text.lower()
    if text and not _COMMIT.fullmatch(commit):
        raise LivecfgError(f"LIVECFG_HOLD: expected a commit id or at least 7 digits of one, such as 9f2c61d, got {text!r}")
    return commit


def _until(text: str) -> float | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        example = "2026-11-27T18:00Z"
        raise LivecfgError(f"LIVECFG_OVERRIDES_UNTIL: expected a time with its zone, such as {example}, got {text!r}")
    return at.timestamp()


def _cache(variables: Mapping[str, str]) -> Path:
    base = variables.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "livecfg"  # noqa: PTH111 - works without HOME


def instance_name(home: Path) -> str:
    """Give the id of this host's instance: `<hostname>-<8 hex>`, made once and kept in `LIVECFG_HOME/instance`.

    Raises:
        ShortageError: no file can be opened just now. Another name would be another instance, with other arms of its rollouts.

    """
    path = home / "instance"
    try:
        if kept := path.read_text().strip():
            return kept
    except OSError as error:  # not made yet, or not readable: made below
        raise_shortage("reading the name of this instance", error)
    import socket  # noqa: PLC0415 - once in the life of a host

    host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname().lower()).strip("-.") or "host"
    name = f"{host}-{os.urandom(4).hex()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"instance.{os.getpid()}.{os.urandom(4).hex()}")
        temporary.write_text(name)
        try:
            os.link(temporary, path)  # the first of several racing processes wins
        except FileExistsError:
            name = path.read_text().strip() or name
        finally:
            temporary.unlink()
    except OSError as error:
        raise_shortage("keeping the name of this instance", error)
        return name  # a read-only home: the name lives as long as the process
    return name
