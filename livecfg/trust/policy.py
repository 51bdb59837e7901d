"""Policy: which people, how many, for which paths; default deny. Read from the last good commit only.

`.livecfg/**` and `livecfg.yaml` (which says which files count) belong to the root role alone. Paths match part by part:
`*` inside a part, `**` as a whole part, `!` excludes; no regular expressions, no case folding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from livecfg.document import Document, read
from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust import openpgp
from livecfg.trust.allowed_signers import Signers, parse_allowed_signers
from livecfg.trust.keys import parse_key
from livecfg.trust.paths import POLICY_PATH, SIGNERS_PATH, Glob, PathIndex, is_root_path
from livecfg.trust.tree import SplitObjects, lookup, read_tree
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from livecfg.revision import Objects

ROOT_RSA_BITS = 3072
_FOLDER = POLICY_PATH.partition("/")[0]
_KEPT_MOST = 16
Count = Annotated[int, Field(ge=1, le=100)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Root(BaseModel, frozen=True, extra="forbid"):
    """The people who may change the policy, and how many of them it takes."""

    people: Annotated[list[str], Field(min_length=1)]
    threshold: Count = 1


class PathRule(BaseModel, frozen=True, extra="forbid"):
    """Every rule that matches a path must hold; `allow` names people, teams, or `*` for everybody but services.

    A rule with `only` stands in for the others where the whole change of a path is of that kind; `fast` lets it pass windows
    and rollouts. `four_eyes`: authors do not count. `bind_ref`: a signature counts only with the trailer `Livecfg-Ref`.
    """

    id: Name
    paths: Annotated[list[Glob], Field(min_length=1)]
    allow: Annotated[list[str], Field(min_length=1)]
    threshold: Count = 1
    four_eyes: bool = False
    bind_ref: bool = False
    require_touch: bool = False
    require_pin: bool = False
    only: Literal["disable"] | None = None
    fast: bool = False

    @model_validator(mode="after")
    def _narrow(self) -> PathRule:
        if self.fast and self.only is None:
            raise ValueError("fast needs `only`: what skips windows must be one narrow kind of change")
        return self


class BreakGlass(BaseModel, frozen=True, extra="forbid"):
    """Who may set the rules aside by the trailer `Livecfg-Break-Glass: <reason>`; never those of the root role."""

    allow: Annotated[list[str], Field(min_length=1)]
    threshold: Count = 1
    trailer_required: Literal["reason"] = "reason"


class Hours(BaseModel, frozen=True, extra="forbid"):
    """Part of a week in which nothing is swapped in: from `from` up to, but without, `until`, local time of `zone`."""

    weekdays: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1)]
    start: Annotated[str, Field(alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    until: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
    zone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] = "UTC"


class Window(BaseModel, frozen=True, extra="forbid"):
    """When a valid revision that touches `paths` waits before it is swapped in, and whose word lets it pass."""

    id: Name
    paths: Annotated[list[Glob], Field(min_length=1)]
    deny: Hours
    override: str = "root"


class Limit(BaseModel, frozen=True, extra="forbid"):
    """How far a weight in a file of `paths` may rise in one commit, in the unit of the file."""

    id: Name
    paths: Annotated[list[Glob], Field(min_length=1)]
    max_weight_step: Annotated[float, Field(gt=0)]


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
    """`.livecfg/policy.yaml` as it is written.

    `services` are keys that no person holds, `forges` those of Git hosts: neither is in `*` nor root, and a forge counts for
    nothing but a merge under `merge: clean`. `timestamp` names whose heartbeats count.
    """

    version: Literal[1]
    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    root: Root
    teams: dict[str, list[str]] = {}
    services: list[str] = []
    forges: list[str] = []
    timestamp: list[str] = []
    merge: Literal["person", "clean"] = "person"
    rules: list[PathRule] = []
    break_glass: BreakGlass | None = None
    windows: list[Window] = []
    limits: list[Limit] = []
    protected: Protected = Protected()


@dataclass(frozen=True, slots=True)
class Policy:
    """Policy and keys of one commit."""

    file: PolicyFile
    signers: Signers
    keyholders: frozenset[str]
    """Everybody with a key of their own."""
    _index: PathIndex = field(init=False, repr=False, compare=False)
    """The patterns of all rules, in order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", PathIndex(rule.paths for rule in self.file.rules))

    def people(self, allow: Sequence[str]) -> frozenset[str]:
        """Everybody with a key of their own whom a list of people, teams and `*` names."""
        everybody = self.keyholders - {*self.file.services, *self.file.forges}
        names: set[str] = set()
        for name in allow:
            names |= everybody if name == "*" else set(self.file.teams.get(name, [name]))
        return frozenset(names)

    def allows(self, allow: Sequence[str], person: str) -> bool:
        """Whether a list of people, teams and `*` names a person, known by a key or through an authority."""
        if "*" in allow and person not in self.file.services and person not in self.file.forges:
            return True
        return any(person == name or person in self.file.teams.get(name, ()) for name in allow)

    def rules_for(self, path: str) -> tuple[PathRule, ...]:
        """Give the rules that speak of a path; none means denied."""
        if is_root_path(path):
            root = self.file.root
            return (PathRule(id="root", paths=["**"], allow=root.people, threshold=root.threshold),)
        return tuple(self.file.rules[number] for number in self._index.find(path))

    def has_key(self, person: str) -> bool:
        """Whether a person has a key of their own."""
        return person in self.keyholders

    def knows(self, person: str) -> bool:
        """Whether a person can sign at all, by a key of their own or through an authority."""
        return self.signers.knows(person)

    def count(self, allow: Sequence[str]) -> int:
        """Give as how many a list of people, teams and `*` can count at most: an authority counts once for all its people."""
        people = self.people(allow)
        spoken_for = {a.key for person in people for a in self.signers.authorities_of(person)}
        return len(people & self.keyholders) + len(self.signers.authorities if "*" in allow else spoken_for)

    def root_identity(self) -> tuple[Any, ...]:
        """What must not change without the new root's own consent: its people, threshold and keys."""
        root = self.file.root
        keys = frozenset((s.person, s.key) for s in self.signers.values() if s.person in root.people)
        others = frozenset((k.person, k.fingerprint) for k in self.signers.openpgp.values() if k.person in root.people)
        return frozenset(root.people), root.threshold, keys, others


def load_policy(objects: Objects, tree: str) -> Policy:
    """Read policy and keys of a tree.

    Raises:
        RefusedError: they are missing, malformed, or lock people out.
        LivecfgError: there are OpenPGP keys, and the package that reads them is not installed.

    """
    kept = objects.trees.policies if isinstance(objects, SplitObjects) else {}
    whole = lookup(objects, tree, _FOLDER)  # all that is read stands below it
    found = kept.get((whole.id,)) if whole is not None and whole.is_tree else None
    if found is None:
        found = _load_policy(objects, tree, kept)
        if whole is not None:
            _keep(kept, (whole.id,), found)
    return found


def _keep(kept: dict[tuple[str, ...], Policy], key: tuple[str, ...], policy: Policy) -> None:
    if len(kept) >= _KEPT_MOST:
        kept.clear()
    kept[key] = policy


def _load_policy(objects: Objects, tree: str, kept: dict[tuple[str, ...], Policy]) -> Policy:
    files = []
    for path in (POLICY_PATH, SIGNERS_PATH):
        entry = lookup(objects, tree, path)
        if entry is None or not entry.is_file:
            message = "the file is missing, or is not a plain file"
            raise RefusedError(Refusal(Code.POLICY, message, path=path, advice="`livecfg init` writes one"))
        files.append(entry.id)
    folder = lookup(objects, tree, openpgp.FOLDER.rstrip("/"))
    keys = folder.id if folder is not None and folder.is_tree else ""
    found = kept.get((*files, keys))
    if found is None:
        certificates = tuple(
            (openpgp.FOLDER + name, objects.read(entry.id, "blob") if entry.is_file else b"")
            for name, entry in (read_tree(objects, keys) if keys else ())
        )
        found = _parse(objects.read(files[0], "blob"), objects.read(files[1], "blob"), certificates)
        _keep(kept, (*files, keys), found)
    return found


@lru_cache(maxsize=64)
def _parse(policy: bytes, signers: bytes, certificates: tuple[tuple[str, bytes], ...] = ()) -> Policy:
    document = read(policy, POLICY_PATH)
    keys = replace(parse_allowed_signers(signers, SIGNERS_PATH), openpgp=openpgp.parse_openpgp(dict(certificates)))
    result = Policy(validate(PolicyFile, document, Code.POLICY), keys, keys.people)
    faults = _lock_outs(document, result)
    if faults:
        raise RefusedError(*faults)
    return result


Fault = tuple[tuple[str | int, ...], str]


def _lock_outs(document: Document, policy: Policy) -> list[Refusal]:
    """Faults that would leave a path nobody can change, a rule that names nobody, or a name that means two things."""
    faults = [
        *_name_faults(policy),
        *_root_faults(policy),
        *(fault for number, rule in enumerate(policy.file.rules) for fault in _allow_faults(policy, ("rules", number), rule)),
        *(_allow_faults(policy, ("break_glass",), policy.file.break_glass) if policy.file.break_glass else ()),
    ]
    advice = f"people are those with a key in {SIGNERS_PATH}"
    return [document.refusal(Code.POLICY, loc, message, advice=advice) for loc, message in faults]


def _name_faults(policy: Policy) -> Iterator[Fault]:
    file = policy.file
    for key, names in (("services", file.services), ("forges", file.forges), ("timestamp", file.timestamp)):
        yield from (((key, at), f"{name!r} has no key") for at, name in enumerate(names) if not policy.knows(name))
    for at, name in enumerate(file.timestamp):
        if name not in file.services:  # the hub holds this key: it must not change what everybody may change
            yield ("timestamp", at), f"{name!r} is not named under services, and would count in `*`"
    for team, people in file.teams.items():
        if policy.knows(team) or team in {"root", "*"}:
            yield ("teams", team), f"{team!r} is the name of a person or a word of its own: a team needs another"
        yield from ((("teams", team, at), f"{name!r} has no key") for at, name in enumerate(people) if not policy.knows(name))
    for number, window in enumerate(file.windows):
        if window.override != "root" and not _is_named(policy, window.override):
            yield ("windows", number, "override"), f"{window.override!r} is neither root, nor a team, nor a person with a key"
    ids = [one.id for group in (file.rules, file.windows, file.limits) for one in group]
    if len(set(ids)) != len(ids):
        yield ("rules",), "two rules, windows or limits have the same id"


def _root_faults(policy: Policy) -> Iterator[Fault]:
    root = policy.file.root
    for at, person in enumerate(root.people):
        keys = [signer.key for signer in policy.signers.values() if signer.person == person]
        if not keys or person in policy.file.services or person in policy.file.forges:
            yield ("root", "people", at), f"{person!r} has no SSH key of their own, or is a service or a forge"
        if any(key.kind == b"ssh-rsa" and key.bits < ROOT_RSA_BITS for key in map(parse_key, keys)):
            yield ("root", "people", at), f"{person!r} has an RSA key of less than {ROOT_RSA_BITS} bits"
    if root.threshold > len(set(root.people)):
        yield ("root", "threshold"), f"a threshold of {root.threshold} with {len(set(root.people))} people"


def _allow_faults(policy: Policy, loc: tuple[str | int, ...], rule: PathRule | BreakGlass) -> Iterator[Fault]:
    """Give the faults of a list of people: names that mean nobody, and a threshold that cannot be met."""
    for at, name in enumerate(rule.allow):
        if name != "*" and not _is_named(policy, name):
            yield (*loc, "allow", at), f"{name!r} is neither a team nor a person with a key"
        if policy.file.forges and {name, *policy.file.teams.get(name, ())} & {*policy.file.forges}:
            yield (*loc, "allow", at), f"{name!r} is or holds a forge: a forge proves nothing about people"
    count, needs = policy.count(rule.allow), rule.threshold + getattr(rule, "four_eyes", False)
    if needs > count:
        name = repr(rule.id) if isinstance(rule, PathRule) else "break_glass"
        beside = " beside the author, who does not count (four_eyes)," if needs > rule.threshold else ""
        yield (*loc, "threshold"), f"the rule {name} needs {rule.threshold}{beside} and allows {count} people"


def _is_named(policy: Policy, name: str) -> bool:
    return name in policy.file.teams or policy.knows(name)


def protected_of(objects: Objects, tree: str) -> Protected:
    """Give what the policy of a tree protects; nothing when the tree has no policy (a working tree in development).

    Raises:
        RefusedError: there is a policy and it is malformed.

    """
    entry = lookup(objects, tree, POLICY_PATH)
    if entry is None or not entry.is_file:
        return Protected()
    return validate(PolicyFile, read(objects.read(entry.id, "blob"), POLICY_PATH), Code.POLICY).protected
