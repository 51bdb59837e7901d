"""Policy: which people, how many, for which paths; default deny. Read from the last good commit only.

`.livecfg/**` and `livecfg.yaml` (which says which files count) belong to the root role alone. Paths match part by part:
`*` inside a part, `**` as a whole part, `!` excludes; no regular expressions, no case folding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from livecfg.document import Document, read
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.allowed_signers import Signer, parse_allowed_signers
from livecfg.trust.tree import lookup
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.revision import Objects

POLICY_PATH, SIGNERS_PATH = ".livecfg/policy.yaml", ".livecfg/allowed_signers"
_GLOB_PART = re.compile(r"[A-Za-z0-9._@+*-]+\Z")


def _check_glob(text: str) -> str:
    parts = text.removeprefix("!").split("/")
    if not all(part == "**" or (_GLOB_PART.match(part) and "**" not in part) for part in parts):
        raise ValueError("expected path parts with * inside a part, or ** as a whole part")
    return text


Glob = Annotated[str, AfterValidator(_check_glob)]
Count = Annotated[int, Field(ge=1, le=100)]


class Root(BaseModel, frozen=True, extra="forbid"):
    """The people who may change the policy, and how many of them it takes."""

    people: Annotated[list[str], Field(min_length=1)]
    threshold: Count = 1


class PathRule(BaseModel, frozen=True, extra="forbid"):
    """Every rule that matches a path must hold; `allow` names people, teams, or `*` for everybody but services."""

    id: str
    paths: Annotated[list[Glob], Field(min_length=1)]
    allow: Annotated[list[str], Field(min_length=1)]
    threshold: Count = 1
    four_eyes: bool = False

    def matches(self, path: str) -> bool:
        """Whether the rule speaks of a path: some pattern matches and no `!` pattern does."""
        wanted = any(_matches(glob, path) for glob in self.paths if not glob.startswith("!"))
        return wanted and not any(_matches(glob[1:], path) for glob in self.paths if glob.startswith("!"))


class Protected(BaseModel, frozen=True, extra="forbid"):
    """Environments and keys in which nothing local or unverified may win."""

    envs: list[str] = []
    keys: list[str] = []

    def covers(self, env: str, key: str) -> bool:
        """Whether a local override of `service.key` in `env` is refused."""
        return env in self.envs or any(key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.") for k in self.keys)

    def unverified(self, env: str) -> Refusal:
        """The refusal of an unverified source."""
        message = f"the environment {env!r} is protected: an unverified working tree may not be served in it"
        return Refusal(Code.OVERRIDE, message, path=POLICY_PATH, advice="use a GitSource with a trusted root")


class PolicyFile(BaseModel, frozen=True, extra="forbid"):
    """`.livecfg/policy.yaml` as it is written."""

    version: Literal[1]
    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    root: Root
    teams: dict[str, list[str]] = {}
    services: list[str] = []
    rules: list[PathRule] = []
    protected: Protected = Protected()


@dataclass(frozen=True, slots=True)
class Policy:
    """Policy and keys of one commit."""

    file: PolicyFile
    signers: Mapping[bytes, Signer]

    def people(self, rule: PathRule) -> frozenset[str]:
        """Everybody a rule allows."""
        everybody = frozenset(s.person for s in self.signers.values()) - frozenset(self.file.services)
        names: set[str] = set()
        for name in rule.allow:
            names |= everybody if name == "*" else set(self.file.teams.get(name, [name]))
        return frozenset(names)

    def rules_for(self, path: str) -> tuple[PathRule, ...]:
        """Give the rules that must hold for a path; none means denied."""
        if is_root_path(path):
            root = self.file.root
            return (PathRule(id="root", paths=["**"], allow=root.people, threshold=root.threshold),)
        return tuple(rule for rule in self.file.rules if rule.matches(path))

    def root_identity(self) -> tuple[Any, ...]:
        """What must not change without the new root's own consent: its people, threshold and keys."""
        root = self.file.root
        keys = frozenset((s.person, s.key) for s in self.signers.values() if s.person in root.people)
        return frozenset(root.people), root.threshold, keys


def is_root_path(path: str) -> bool:
    """Whether only the root role may change a path."""
    return path.startswith(".livecfg/") or path == "livecfg.yaml"


def load_policy(objects: Objects, tree: str) -> Policy:
    """Read policy and keys of a tree.

    Raises:
        RefusedError: they are missing, malformed, or lock people out.

    """
    texts = []
    for path in (POLICY_PATH, SIGNERS_PATH):
        entry = lookup(objects, tree, path)
        if entry is None or entry.is_tree:
            raise RefusedError(Refusal(Code.POLICY, "the file is missing", path=path, advice="`livecfg init` writes one"))
        texts.append(objects.read(entry.id, "blob"))
    return _parse(texts[0], texts[1])


@lru_cache(maxsize=64)
def _parse(policy: bytes, signers: bytes) -> Policy:
    document = read(policy, POLICY_PATH)
    result = Policy(validate(PolicyFile, document, Code.POLICY), parse_allowed_signers(signers, SIGNERS_PATH))
    faults = _lock_outs(document, result)
    if faults:
        raise RefusedError(*faults)
    return result


def _lock_outs(document: Document, policy: Policy) -> list[Refusal]:
    """Faults that would leave a path nobody can change, or a rule that names nobody."""
    file = policy.file
    known = {s.person for s in policy.signers.values()}
    faults = []

    def fault(loc: tuple[str | int, ...], message: str) -> None:
        faults.append(document.refusal(Code.POLICY, loc, message, advice=f"people are those with a key in {SIGNERS_PATH}"))

    for team, people in file.teams.items():
        for index, person in enumerate(people):
            if person not in known:
                fault(("teams", team, index), f"{person!r} has no key")
    for index, person in enumerate(file.root.people):
        if person not in known or person in file.services:
            fault(("root", "people", index), f"{person!r} has no key, or is a service")
    if file.root.threshold > len(set(file.root.people)):
        fault(("root", "threshold"), f"a threshold of {file.root.threshold} with {len(set(file.root.people))} people")
    if len({rule.id for rule in file.rules}) != len(file.rules):
        fault(("rules",), "two rules have the same id")
    for number, rule in enumerate(file.rules):
        for loc, message in _rule_lock_outs(policy, rule, known):
            fault(("rules", number, *loc), message)
    return faults


def _rule_lock_outs(policy: Policy, rule: PathRule, known: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    """Give the faults of one rule, each with its place inside it."""
    faults: list[tuple[tuple[str | int, ...], str]] = [
        (("allow", at), f"{name!r} is neither a team nor a person with a key")
        for at, name in enumerate(rule.allow)
        if name != "*" and name not in policy.file.teams and name not in known
    ]
    count = len(policy.people(rule))
    if rule.threshold > count - rule.four_eyes:
        faults.append((("threshold",), f"the rule {rule.id!r} needs {rule.threshold} and allows {count} people"))
    return faults


def protected_of(objects: Objects, tree: str) -> Protected:
    """Give what the policy of a tree protects; nothing when the tree has no policy (a working tree in development).

    Raises:
        RefusedError: there is a policy and it is malformed.

    """
    entry = lookup(objects, tree, POLICY_PATH)
    if entry is None:
        return Protected()
    return validate(PolicyFile, read(objects.read(entry.id, "blob"), POLICY_PATH), Code.POLICY).protected


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    text = ""
    parts = glob.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            text += ".+" if last else "(?:[^/]+/)*"
        else:
            text += re.escape(part).replace(r"\*", "[^/]*") + ("" if last else "/")
    return re.compile(text + r"\Z")


def _matches(glob: str, path: str) -> bool:
    return _pattern(glob).match(path) is not None
