"""Table tests of a policy: `.livecfg/policy_tests.yaml` says who changes what, and whether that is allowed.

```yaml
version: 1
tests:
  - {name: one is not enough, paths: [config/shop/prod.yaml], by: [dee@acme], expect: denied, rule: prod}
  - {name: two are, paths: [config/shop/prod.yaml], by: [dee@acme, eli@acme], expect: allowed}
  - {name: anybody kills, paths: [flags/shop/main.yaml], by: [zoe@acme], kind: disable, expect: allowed}
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field

from livecfg.document import Document, read
from livecfg.refusal import Code
from livecfg.trust.paths import is_root_path
from livecfg.trust.rules import Finding, glass_rule
from livecfg.validation import validate

if TYPE_CHECKING:
    from livecfg.trust.policy import PathRule, Policy

TESTS_PATH = ".livecfg/policy_tests.yaml"


class Case(BaseModel, frozen=True, extra="forbid"):
    """Who stands behind a change of which paths, and what policy must say.

    `authors` wrote the change (default: the first of `by`). The signatures are `bound` to this repository and ref unless it says
    no; they have a security key's `touch` or `pin` only if it says so. `rule` names one that must be among those that deny.
    """

    name: str
    paths: Annotated[list[str], Field(min_length=1)]
    by: list[str]
    authors: list[str] | None = None
    kind: Literal["disable"] | None = None
    bound: bool = True
    touch: bool = False
    pin: bool = False
    break_glass: str = ""
    expect: Literal["allowed", "denied"]
    rule: str = ""


class TestsFile(BaseModel, frozen=True, extra="forbid"):
    """`.livecfg/policy_tests.yaml` as it is written."""

    __test__ = False  # its name is no invitation to pytest

    version: Literal[1]
    tests: list[Case]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case as it went: where it stands, what each rule found, and why it failed; empty when it passed."""

    case: Case
    line: int
    findings: tuple[Finding, ...]
    why: str = ""


def run_policy_tests(policy: Policy, data: bytes, path: str = TESTS_PATH) -> list[Outcome]:
    """Run the cases of a file against a policy, in order.

    Raises:
        RefusedError: the file is malformed, with file, line and column.

    """
    document = read(data, path)
    cases = validate(TestsFile, document, Code.POLICY).tests
    return [_run(policy, case, _line(document, number)) for number, case in enumerate(cases)]


def _line(document: Document, number: int) -> int:
    return document.position(("tests", number)).line


def _run(policy: Policy, case: Case, line: int) -> Outcome:
    findings = tuple(finding for path in case.paths for finding in _findings(policy, case, path))
    denying = {finding.rule.id for finding in findings if not finding.holds}
    bare = [path for path in case.paths if not any(finding.path == path for finding in findings)]
    denied = bool(denying or bare)
    why = ""
    if denied != (case.expect == "denied"):
        reason = f"no rule matches {bare[0]}" if bare else f"denied by {', '.join(sorted(denying))}" if denied else "allowed"
        why = f"expected {case.expect}, got {reason}"
    elif case.rule and case.rule not in denying:
        why = f"expected the rule {case.rule!r} to deny it, got {', '.join(sorted(denying)) or 'no rule that does'}"
    return Outcome(case, line, findings, why)


def _findings(policy: Policy, case: Case, path: str) -> list[Finding]:
    rules = policy.rules_for(path)
    if case.break_glass and policy.file.break_glass is not None and not is_root_path(path):
        rules = (glass_rule(policy.file.break_glass, rules),)
    elif case.kind and any(rule.only == case.kind for rule in rules):
        rules = tuple(rule for rule in rules if rule.only == case.kind)
    else:
        rules = tuple(rule for rule in rules if not rule.only)
    return [_hold(policy, case, path, rule) for rule in rules]


def _hold(policy: Policy, case: Case, path: str, rule: PathRule) -> Finding:
    authors = (case.by[:1] if case.authors is None else case.authors) if rule.four_eyes else []
    counts = (case.bound or not rule.bind_ref) and (case.touch or not rule.require_touch) and (case.pin or not rule.require_pin)
    able = {person for person in case.by if policy.knows(person) and person not in authors and policy.allows(rule.allow, person)}
    people = {min((a.key.hex() for a in policy.signers.authorities_of(person)), default=person) for person in able}
    return Finding(path, rule, tuple(sorted(case.by)), len(people) if counts else 0)
