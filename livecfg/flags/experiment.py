"""Experiments: a split with a hypothesis, a layer, a holdout and an end, compiled into the targeting of a flag at load.

A unit takes part when it has a key, the end is not reached, the audience holds, it is outside the holdout, and its slot of the
layer (one of 100) belongs to the experiment: two experiments of a layer never share a unit. Who takes part gets an arm by
weight; who does not gets what the flag gives anyway. Each draw has its own salted key, so that they are independent.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from livecfg.errors import RefusedError
from livecfg.flags.assignment import Assignment, Key, phase_of
from livecfg.flags.compiled import CompiledFlag, Definition, compiled
from livecfg.flags.fractions import Drawn
from livecfg.flags.segment import Segment, named
from livecfg.flags.split import Name, Weight, check_rules, draw, without
from livecfg.flags.targeting import Dialect
from livecfg.refusal import Code, Refusal
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from livecfg.document import Document

SLOTS = 100
_HOLDOUTS = re.compile(r"(?:.*/)?holdouts\.(?:yaml|yml|json)")
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Layer(BaseModel):
    """A place in a layer: slots from (included) to (excluded), of 100."""

    model_config = _STRICT
    name: Name
    slots: tuple[Annotated[int, Field(ge=0, lt=SLOTS, strict=True)], Annotated[int, Field(gt=0, le=SLOTS, strict=True)]]


class Metric(BaseModel):
    """What an experiment is judged by; the hub and `livecfg exp` read it."""

    model_config = _STRICT
    name: Name
    kind: Literal["proportion", "mean", "ratio"] = "proportion"
    goal: Literal["increase", "decrease"] | None = None
    max_relative: float | None = None


class Metrics(BaseModel):
    """The metric that decides, and those that must not get worse."""

    model_config = _STRICT
    primary: Metric
    guardrails: list[Metric] = []

    @property
    def names(self) -> frozenset[str]:
        """The names of all of them."""
        return frozenset((self.primary.name, *(m.name for m in self.guardrails)))


class ExperimentArm(BaseModel):
    """One arm."""

    model_config = _STRICT
    weight: Weight


class Experiment(BaseModel):
    """One experiment, as its file says it."""

    model_config = _STRICT
    experiment: Name
    hypothesis: Annotated[str, Field(min_length=1)]
    owner: Name
    flag: Name
    arms: Annotated[dict[Name, ExperimentArm], Field(min_length=2, max_length=100)]
    until: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    unit: Name = "targetingKey"
    layer: Layer | None = None
    holdout: Name | None = None
    audience: dict[str, Any] | None = None
    metrics: Metrics | None = None
    shipped: Name | None = None
    """The variant that everybody gets since the experiment was stopped; from then on it draws no arms."""

    @property
    def weights(self) -> dict[str, int]:
        """Weight by arm."""
        return {name: arm.weight for name, arm in self.arms.items()}

    @property
    def ends_at(self) -> int:
        """Unix seconds of the midnight (UTC) after the last day."""
        last = dt.date.fromisoformat(self.until)
        return calendar.timegm((last + dt.timedelta(days=1)).timetuple())


class CompiledExperiment(NamedTuple):
    """An experiment that was checked: `targeting(original)` is the rule of its flag while it runs."""

    model: Experiment
    holdout_percent: int
    segments: Mapping[str, Segment]

    def takes_part(self) -> dict[str, Any]:
        """Write the condition that a unit takes part."""
        model, unit = self.model, self.model.unit
        conditions: list[Any] = [{"!": [without(unit)]}, {"<": [{"var": "$flagd.timestamp"}, model.ends_at]}]
        if model.audience is not None:
            conditions.append(model.audience)
        if self.holdout_percent:
            conditions.append(_share(f"holdout:{model.holdout}", unit, 0, 100 - self.holdout_percent))
        if model.layer is not None:
            conditions.append(_share(f"layer:{model.layer.name}", unit, *model.layer.slots))
        return {"and": conditions}

    def targeting(self, original: Any) -> dict[str, Any]:
        """Write the rule of the flag: an arm for who takes part, what the flag said before for the others."""
        model = self.model
        return {"if": [self.takes_part(), draw(f"experiment:{model.experiment}", model.unit, model.weights), original]}

    def applied(self, flag: CompiledFlag) -> CompiledFlag:
        """Give the flag under the experiment."""
        definition = flag.definition
        layer = {"layer": self.model.layer.name} if self.model.layer else {}
        merged = {**definition.metadata, "experiment": self.model.experiment, **layer}
        rule = self.targeting(definition.targeting or None)
        at = (*definition.loc, "targeting", "if", 1)
        dialect = flag.dialect._replace(evaluators={**flag.dialect.evaluators, **self.segments})
        made = compiled(definition._replace(targeting=rule, metadata=merged, split_at=at), dialect)
        made.assignment = self.assignment(flag)
        return made

    def assignment(self, flag: CompiledFlag) -> Assignment:
        """Say where it is counted who got which arm."""
        model = self.model
        values = [(arm, weight, flag.variants.get(arm)) for arm, weight in model.weights.items()]
        layer = model.layer.model_dump() if model.layer is not None else None
        phase = phase_of(model.unit, values, layer, model.holdout, self.holdout_percent, model.audience)
        metrics = model.metrics.names if model.metrics is not None else frozenset[str]()
        key = Key("experiment", model.experiment, phase)
        flag_set = str(flag.metadata.get("flagSetId", ""))
        return Assignment(key, tuple(model.unit.split(".")), flag.dialect.static, metrics, flag_set)


def _share(salt: str, unit: str, start: int, stop: int) -> dict[str, Any]:
    """Write the condition that a unit's slot of 100 is from `start` (included) to `stop` (excluded)."""
    key = {"cat": [f"{salt}:", {"var": unit}]}
    return {"===": [{"fractional": Drawn([key, [0, start], [1, stop - start], [2, SLOTS - stop]])}, 1]}


def compile_experiment(
    document: Document,
    *,
    static: Mapping[str, object],
    clock: Callable[[], int],
    holdouts: Mapping[str, int],
    segments: Mapping[str, Segment] | None = None,
) -> CompiledExperiment:
    """Check one experiment file; `holdouts` gives percents by name.

    Raises:
        RefusedError: every fault, each with its line and column.

    """
    model = validate(Experiment, document, Code.EXPERIMENT_INVALID)
    used = named(model.audience, segments or {})
    dialect = Dialect("v2", "strict", static, used, clock)
    faults = check_rules(document, dialect, [(model.audience, ("audience",))] if model.audience is not None else [])

    def fault(message: str, *loc: str) -> None:
        faults.append(document.refusal(Code.EXPERIMENT_INVALID, loc, message))

    if model.holdout is not None and model.holdout not in holdouts:
        fault(f"there is no holdout {model.holdout!r}; holdouts.yaml has {', '.join(holdouts) or 'none'}", "holdout")
    if model.layer is not None and model.layer.slots[0] >= model.layer.slots[1]:
        fault("expected slots [from, to] with from < to", "layer", "slots")
    if not any(model.weights.values()):
        fault("the weights sum to 0", "arms")
    try:
        _ = model.ends_at
    except (ValueError, OverflowError):
        fault("expected a day such as 2027-01-31", "until")
    if faults:
        raise RefusedError(*faults)
    return CompiledExperiment(model, holdouts.get(model.holdout or "", 0), used)


def apply_experiments(
    documents: Sequence[Document],
    flags: Mapping[str, CompiledFlag],
    *,
    static: Mapping[str, object],
    clock: Callable[[], int],
    segments: Mapping[str, Segment] | None = None,
) -> dict[str, CompiledFlag]:
    """Give the flags with every experiment of `documents` applied; a file named holdouts.yaml gives percents by name.

    Raises:
        RefusedError: every fault: of one file, of a flag that is missing, of two experiments that share slots or a flag.

    """
    every, faults = compile_experiments(documents, static=static, clock=clock, segments=segments)
    made = [(document, experiment) for document, experiment in every if experiment.model.shipped is None]
    result = dict(flags)
    taken = _Taken()
    for document, experiment in made:
        found = [*taken.conflicts(document, experiment.model), *_misfits(document, experiment, flags.get(experiment.model.flag))]
        faults += found
        if not found:
            result[experiment.model.flag] = experiment.applied(flags[experiment.model.flag])
    if faults:
        raise RefusedError(*faults)
    return result


def compile_experiments(
    documents: Sequence[Document],
    *,
    static: Mapping[str, object],
    clock: Callable[[], int],
    segments: Mapping[str, Segment] | None = None,
) -> tuple[list[tuple[Document, CompiledExperiment]], list[Refusal]]:
    """Check every experiment by itself, those that were stopped too; a file named holdouts.yaml gives percents by name."""
    faults: list[Refusal] = []
    holdouts = _holdouts([d for d in documents if _HOLDOUTS.fullmatch(d.path)], faults)
    made: list[tuple[Document, CompiledExperiment]] = []
    for document in documents:
        if not _HOLDOUTS.fullmatch(document.path):
            try:
                one = compile_experiment(document, static=static, clock=clock, holdouts=holdouts, segments=segments)
                made.append((document, one))
            except RefusedError as error:
                faults += error.refusals
    return made, faults


def _holdouts(documents: Sequence[Document], faults: list[Refusal]) -> dict[str, int]:
    result: dict[str, int] = {}
    for document in documents:
        value = document.value if isinstance(document.value, dict) else {}
        if value is not document.value:
            faults.append(document.refusal(Code.EXPERIMENT_INVALID, (), "expected a mapping of names to percents"))
        for name, percent in value.items():
            if name in result or isinstance(percent, bool) or not isinstance(percent, int) or not 0 < percent < 100:
                message = "expected a percent, 1 to 99, each name once"
                faults.append(document.refusal(Code.EXPERIMENT_INVALID, (name,), message))
            else:
                result[name] = percent
    return result


class _Taken:
    """What experiments have taken: names, flags, slots. Each is compared with who has it, not with all others."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._flags: dict[str, str] = {}
        self._layers: dict[str, list[Experiment]] = {}

    def conflicts(self, document: Document, mine: Experiment) -> list[Refusal]:
        """Take what an experiment asks for; gives the faults where another has it."""
        faults = []
        if mine.experiment in self._names:
            faults.append(("experiment", f"the experiment {mine.experiment!r} stands in {self._names[mine.experiment]} too"))
        self._names.setdefault(mine.experiment, document.path)
        if mine.flag in self._flags:
            faults.append(("flag", f"the flag {mine.flag!r} is under the experiment {self._flags[mine.flag]!r} already"))
        self._flags.setdefault(mine.flag, mine.experiment)
        faults += self._in_layer(mine, mine.layer) if mine.layer is not None else []
        return [document.refusal(Code.EXPERIMENT_INVALID, (key,), message) for key, message in faults]

    def _in_layer(self, mine: Experiment, layer: Layer) -> list[tuple[str, str]]:
        faults, there = [], self._layers.setdefault(layer.name, [])
        slots = [(its, its.layer.slots) for its in there if its.layer is not None]
        overlapping = next((its for its, (start, stop) in slots if layer.slots[0] < stop and start < layer.slots[1]), None)
        other = next((its for its in there if its.unit != mine.unit), None)
        if overlapping is not None:
            name = overlapping.experiment
            faults.append(("layer", f"the slots overlap with those of {name!r} in the layer {layer.name!r}"))
        else:
            there.append(mine)  # at most one for each slot
        if other is not None:
            faults.append(("unit", f"expected the unit {other.unit!r}, as {other.experiment!r} has in the same layer"))
        return faults


def _misfits(document: Document, experiment: CompiledExperiment, flag: CompiledFlag | None) -> list[Refusal]:
    """Give the faults of an experiment beside its flag."""
    model = experiment.model
    if flag is None:
        return [document.refusal(Code.EXPERIMENT_INVALID, ("flag",), f"there is no flag {model.flag!r}")]
    lost = [arm for arm in model.arms if arm not in flag.variants]
    message = f"expected arms that are variants of {model.flag!r}: {', '.join(flag.variants)}"
    return [document.refusal(Code.EXPERIMENT_INVALID, ("arms", arm), message, at_key=True) for arm in lost]


def exported(flags: Mapping[str, CompiledFlag]) -> dict[str, Any]:
    """Write flags, with their experiments, as one flagd document; references are written out.

    Raises:
        ValueError: flags of both kinds of fractional, or an experiment (which draws by v2) among flags of v3.

    """
    kinds = {flag.dialect.fractional for flag in flags.values()}
    kinds |= {"v2" for flag in flags.values() if flag.definition.split_at is not None}
    if len(kinds) > 1:
        raise ValueError("expected flags of one kind of fractional, got v2 and v3; export them apart")
    written = {key: _exported(flag.definition, flag.dialect.evaluators) for key, flag in flags.items()}
    return {"x-livecfg": {"fractional": "".join(kinds) or "v2"}, "flags": written}


def _exported(definition: Definition, evaluators: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"state": definition.state, "variants": dict(definition.variants)}
    if definition.default_variant is not None:
        result["defaultVariant"] = definition.default_variant
    if definition.targeting:
        result["targeting"] = _written_out(definition.targeting, evaluators, ())
    if definition.metadata:
        result["metadata"] = dict(definition.metadata)
    return result


def _written_out(rule: Any, evaluators: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(rule, Segment):
        return sorted(rule.members)
    if isinstance(rule, dict):
        name = rule.get("$ref") if len(rule) == 1 else None
        if isinstance(name, str) and name in evaluators and name not in inside:
            return _written_out(evaluators[name], evaluators, (*inside, name))
        return {key: _written_out(value, evaluators, inside) for key, value in rule.items()}
    return [_written_out(item, evaluators, inside) for item in rule] if isinstance(rule, list) else rule
