"""Which values of a document are encrypted, and for whom: options, the creation rules of `.sops.yaml`, or the document itself.

As the `sops` program has it: the first creation rule whose `path_regex` fits is taken; a value is encrypted by the names of all
keys above it. Only age recipients are served: a rule that names other kinds of keys is refused, or somebody would be locked out.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from livecfg.cli.output import fail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

CONFIG = ".sops.yaml"
KINDS = ("encrypted_regex", "unencrypted_regex", "encrypted_suffix", "unencrypted_suffix")
_CONFIG_BYTES = 1 << 20
# what Go's regular expressions and Python's understand differently, or only one of them
_NOT_COMMON = re.compile(r"\(\?(?!:|i\))|\\[1-9pPQECzZAGkKXRhHuUN]|\[\[:|\{,")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which values are encrypted: those below a key that fits `text`; for the kinds that begin with `un`, all others."""

    kind: str = "unencrypted_suffix"
    text: str = "_unencrypted"
    mac_only_encrypted: bool = False

    def covers(self, keys: tuple[str, ...]) -> bool:
        """Whether the value under these keys, from the root on, is encrypted."""
        if self.kind.endswith("_suffix"):
            fits = any(key.endswith(self.text) for key in keys)
        else:
            fits = any(pattern(self.text).search(key) for key in keys)
        return fits != self.kind.startswith("un")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a document: which values, for which recipients."""

    rule: Rule
    recipients: tuple[str, ...]


class _Group(BaseModel, frozen=True, extra="forbid"):
    age: list[str] = []


class _Creation(BaseModel, frozen=True, extra="forbid"):
    path_regex: str = ""
    age: str | list[str] = []
    key_groups: Annotated[list[_Group], Field(max_length=1)] = []
    encrypted_regex: str = ""
    unencrypted_regex: str = ""
    encrypted_suffix: str = ""
    unencrypted_suffix: str = ""
    mac_only_encrypted: bool = False


@lru_cache(maxsize=64)
def pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression that means the same to `sops`; ends the command where it may not."""
    with warnings.catch_warnings(), suppress(re.error, Warning):
        warnings.simplefilter("error")
        if not _NOT_COMMON.search(text):
            return re.compile(text, re.ASCII)
    return fail(
        f"the regular expression {text!r} is malformed, or means different things to sops and to livecfg; write it more plainly"
    )


def rule_of(given: Mapping[str, Any], *, mac_only_encrypted: bool) -> Rule | None:
    """Make the rule of what an option, a creation rule or a `sops` part says; None where none of them does."""
    said = {kind: str(given[kind]) for kind in KINDS if given.get(kind)}
    if len(said) > 1:
        fail(f"say one of {' and '.join(said)}: they exclude each other")
    for kind, text in said.items():
        if kind.endswith("_regex"):
            pattern(text)
        return Rule(kind, text, mac_only_encrypted)
    return None


def plan_of(path: Path, root: Path, given: Mapping[str, Any], recipients: Iterable[str]) -> Plan:
    """Give the plan for a file below `root`: what the options say goes before `.sops.yaml`; at least one recipient."""
    creation = creation_rule(path, root)
    mac_only = bool(given.get("mac_only_encrypted") or (creation and creation.rule.mac_only_encrypted))
    rule = rule_of(given, mac_only_encrypted=mac_only) or (creation.rule if creation else Rule(mac_only_encrypted=mac_only))
    known = checked(recipients) or (creation.recipients if creation else ())
    if not known:
        fail(f"for whom? Give --age RECIPIENT (age1…), or a creation rule with `age` for {path.name} in {CONFIG}")
    return Plan(rule, known)


def creation_rule(path: Path, root: Path) -> Plan | None:
    """Give what the nearest `.sops.yaml`, from the file's folder up to `root`, says of a file; None where it says nothing."""
    folder = next((f for f in path.parents if f.is_relative_to(root) and (f / CONFIG).is_file()), None)
    if folder is None:
        return None
    name = path.relative_to(folder).as_posix()
    for number, row in enumerate(_rows(folder / CONFIG), 1):
        fits = row.get("path_regex") if isinstance(row, dict) else fail(f"{CONFIG}: creation rule {number}: expected a mapping")
        if not fits or pattern(str(fits)).search(name):
            return _plan(row, number)
    return None


def _rows(config: Path) -> list[Any]:
    """The creation rules; read as `sops` reads them, with anchors and aliases, which people use there."""
    import yaml

    with config.open("rb") as file:
        data = file.read(_CONFIG_BYTES + 1)
    if len(data) > _CONFIG_BYTES:
        fail(f"{config} is over {_CONFIG_BYTES:,} bytes")
    try:
        value = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - the safe loader, in C
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        at = getattr(error, "problem_mark", None)
        fail(f"{config}{f':{at.line + 1}' if at else ''}: not YAML")
    rows = value.get("creation_rules") if isinstance(value, dict) else None
    return rows if isinstance(rows, list) else []


def _plan(row: Any, number: int) -> Plan:
    try:
        creation = _Creation.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        dotted = ".".join(map(str, first["loc"]))
        advice = "livecfg encrypts for age recipients alone, of one group, by names of keys; use the sops program for this file"
        fail(f"{CONFIG}: creation rule {number}: {dotted}: {first['msg']} ({advice})")
    words = creation.age.split(",") if isinstance(creation.age, str) else creation.age
    grouped = [recipient for group in creation.key_groups for recipient in group.age]
    mac_only = creation.mac_only_encrypted
    rule = rule_of(creation.model_dump(), mac_only_encrypted=mac_only) or Rule(mac_only_encrypted=mac_only)
    return Plan(rule, checked([*grouped] or words))


def checked(recipients: Iterable[str]) -> tuple[str, ...]:
    """Give the recipients, each once; ends the command where one is none, and does not repeat what may be a secret."""
    from livecfg.sops import age

    found: dict[str, None] = {}
    for word in recipients:
        recipient = word.strip()
        if not recipient:
            continue
        try:
            age().x25519.Recipient.from_str(recipient)
        except age().RecipientError:
            shown = f"{recipient[:80]!r} " if recipient.startswith(("age1", "ssh-")) else ""
            fail(
                f"{shown}is no age recipient that is served here: it begins with age1 and is what `age-keygen -y` prints".strip()
            )
        found[recipient] = None
    return tuple(found)
