"""Flag tests: `flag_tests/**.yaml` of a repository say what callers get; `livecfg check` runs them.

```yaml
version: 1
service: checkout
env: prod                       # or a list
at: 2026-11-26T12:00:00Z        # what the clock says; without it: now
tests:
  - {name: pro users get the beta, flag: beta, context: {plan: pro}, variant: "on", reason: TARGETING_MATCH}
  - {name: others get what the code says, flag: beta, context: {}, variant: null}
  - {name: the ranking team sees v9, split: ranker, context: {targetingKey: u1, user: {team: ranking}}, variant: v9}
```
A test names a flag or a split, and at least one of variant (of a split: the arm), value and reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, model_validator

from livecfg.document import Document, read
from livecfg.flags.evaluate import Reason  # noqa: TC001 - pydantic reads it when the class is made
from livecfg.refusal import Code, Refusal
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.document import Loc
    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.evaluate import Evaluation
    from livecfg.flags.split import CompiledSplit

FOLDER = "flag_tests"
_EXPECTED = ("variant", "value", "reason")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Case(BaseModel, frozen=True, extra="forbid"):
    """What a caller asks for, and what the answer must be."""

    name: Annotated[str, Field(min_length=1)]
    flag: str = ""
    split: str = ""
    context: dict[str, Any] = {}
    variant: str | None = None
    value: Any = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _complete(self) -> Case:
        if bool(self.flag) == bool(self.split):
            raise ValueError("expected a flag or a split")
        if not self.model_fields_set.intersection(_EXPECTED):
            raise ValueError("expected at least one of variant, value, reason")
        return self


class FlagTestsFile(BaseModel, frozen=True, extra="forbid"):
    """One file of `flag_tests/` as it is written."""

    version: Literal[1]
    service: Annotated[str, Field(min_length=1)]
    env: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
    at: AwareDatetime | None = None
    tests: list[Case]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test as it went in one env, and what was wrong with it."""

    name: str
    env: str
    fault: Refusal | None


def read_flag_tests(data: bytes, path: str) -> tuple[Document, FlagTestsFile]:
    """Read a file of flag tests.

    Raises:
        RefusedError: it is malformed, with line and column.

    """
    document = read(data, path)
    return document, validate(FlagTestsFile, document, Code.FLAG_TEST)


def run_flag_tests(
    document: Document,
    file: FlagTestsFile,
    env: str,
    flags: Mapping[str, CompiledFlag],
    splits: Mapping[str, CompiledSplit],
) -> list[Outcome]:
    """Run the tests of a file against the flags and splits of one env, in order."""
    outcomes = []
    for number, case in enumerate(file.tests):
        asked = splits.get(case.split) if case.split else flags.get(case.flag)
        kind = "split" if case.split else "flag"
        if asked is None:
            why: tuple[str, str] | None = (kind, f"there is no {kind} {case.split or case.flag!r}")
        else:
            why = _wrong(case, _evaluated(asked, case.context))
        outcomes.append(Outcome(case.name, env, _fault(document, number, case, env, why) if why else None))
    return outcomes


def _evaluated(asked: CompiledFlag | CompiledSplit, context: Mapping[str, Any]) -> Evaluation[Any]:
    default = None if not hasattr(asked, "variants") else next(iter(asked.variants.values()), None)
    made: Evaluation[Any] = asked.explain(context, default).evaluation
    return made


def _wrong(case: Case, made: Evaluation[Any]) -> tuple[str, str] | None:
    """Say which expectation does not hold, and why; values are not told: they may be secrets."""
    asked = case.model_fields_set
    got = f"the variant {made.variant!r}" if made.variant is not None else "the caller's default"
    because = f"{made.reason}, by {made.rule or 'the state'}" + (f", bucket {made.bucket}" if made.bucket is not None else "")
    if "variant" in asked and made.variant != case.variant:
        wanted = f"the variant {case.variant!r}" if case.variant is not None else "the caller's default"
        return "variant", f"expected {wanted}, got {got} ({because})"
    if "value" in asked and (made.variant is None or not _same(made.value, case.value)):
        return "value", f"expected this value, got another: that of {got} ({because})"
    if case.reason is not None and made.reason is not case.reason:
        return "reason", f"expected {case.reason}, got {because}"
    return None


def _same(a: Any, b: Any) -> bool:
    """Compare two values as JSON does: 1 is 1.0, and true is neither."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _fault(document: Document, number: int, case: Case, env: str, why: tuple[str, str]) -> Refusal:
    key, message = why
    loc: Loc = ("tests", number, key)
    return document.refusal(
        Code.FLAG_TEST, loc, f"{case.name} ({env}): {message}", advice="change the flag, or what the test expects"
    )
