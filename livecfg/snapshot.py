"""Snapshot, View, Arm: one revision's config, flags, splits and origins; immutable, shared by every thread, read without a lock.

A Snapshot is built whole by the loader and published by one attribute store, so nobody can see two revisions in one.
A View is the same revision for one unit (user, request, instance): cheap, made per request, never kept.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from livecfg.flags.evaluate import Reason, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import SecretStr

    from livecfg.flags.assignment import Assignment
    from livecfg.flags.evaluate import Evaluation
    from livecfg.flags.flag import CompiledFlag
    from livecfg.flags.split import CompiledSplit
    from livecfg.origin import Origin
    from livecfg.revision import Revision

    _Serve = Callable[[Mapping[str, Any], Any], Any]

M_co = TypeVar("M_co", bound=BaseModel, covariant=True)
A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


class Measured(AbstractContextManager[None], AbstractAsyncContextManager[None], Protocol):
    """Times a block, sync or async, or every call of a decorated function."""

    def __call__(self, function: F) -> F:
        """Measure each call of `function`."""
        ...


class Recorder(Protocol):
    """Takes what the application measures; the clock is on its side. Nothing here ever raises into the application."""

    def measure(self, name: str, observe: Callable[[str, float], None]) -> Measured:
        """Observe `<name>.latency` in seconds and `<name>.error` when an exception escapes."""
        ...

    def observe(self, metric: str, value: float, revision: Revision) -> None:
        """Record one value."""
        ...

    def expose(self, assignment: Assignment, arm: str, unit: object, revision: Revision, flag: str) -> None:
        """Record that a unit was shown an arm; `flag` is what was read: the key of a flag, or the name of a split."""
        ...

    def outcome(self, assignment: Assignment, metric: str, value: float, unit: object) -> None:
        """Record one value for the arm that this unit was shown."""
        ...


class Arm(Generic[A]):
    """One arm of a split: its `name` and its `value`, validated against the model the application declared."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: A) -> None:
        self.name = name
        self.value = value

    def __repr__(self) -> str:
        return f"Arm({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arm) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash(self.name)


class View(Generic[M_co]):
    """One revision for one unit: `config`, flags and arms of splits, all of the same snapshot."""

    __slots__ = ("_serving", "config", "context", "snapshot")

    config: M_co
    """The application's model."""

    def __init__(self, snapshot: Snapshot[M_co], context: Mapping[str, Any]) -> None:
        self.snapshot = snapshot
        self.context = context
        self.config = snapshot.config
        self._serving = snapshot.serving

    def flag(self, key: str, default: T) -> T:
        """Give the value of a flag for this unit, of the type of `default`; `default` where there is none. Never raises.

        Under an experiment it records that the unit was shown its arm.
        """
        try:
            serve = self._serving[key]
        except KeyError:
            serve = self.snapshot.serve_of(key)
        except TypeError:  # it cannot be hashed
            return default
        return serve(self.context, default)  # type: ignore[no-any-return]  # compiled per flag: gives default's type

    def evaluate(self, key: str, default: T) -> Evaluation[T]:
        """Give the value of a flag with variant, reason and revision. Never raises. Records as `flag` does."""
        snapshot = self.snapshot
        try:
            flag = snapshot.asked[key]
        except (KeyError, TypeError):
            return not_found(key, default, snapshot.revision_text)
        return flag.evaluate(self.context, default, snapshot.revision_text)

    def peek(self, key: str, default: T) -> T:
        """Give what `flag` gives without recording that the unit was shown an arm. Never raises."""
        try:
            flag = self.snapshot.flags[key]
        except (KeyError, TypeError):
            return default
        return flag.serve(self.context, default)  # type: ignore[no-any-return]  # as in `flag`

    def measure(self, name: str) -> Measured:
        """Time a block or a function and count the exceptions that escape it, under this view's revision and arms."""
        return self.snapshot.recorder.measure(name, self.observe)

    def observe(self, metric: str, value: float = 1) -> None:
        """Record one value, under this view's revision and, where an experiment names the metric, this unit's arm of it.

        It counts for an experiment once the unit was shown its arm in this process. Never raises.
        """
        snapshot = self.snapshot
        snapshot.recorder.observe(metric, value, snapshot.revision)
        try:
            assignments = snapshot.measured.get(metric, ())
        except TypeError:
            return
        for assignment in assignments:
            snapshot.recorder.outcome(assignment, metric, value, assignment.unit(self.context))

    def __repr__(self) -> str:
        return f"View({self.snapshot.revision})"


def _absent(_: Mapping[str, Any], default: Any) -> Any:
    return default


class _Watched:
    """A flag under an experiment: as the flag, and it records who was shown an arm. Others never pay for it."""

    __slots__ = ("_assignment", "_flag", "_recorder", "_revision")

    def __init__(self, flag: CompiledFlag, assignment: Assignment, recorder: Recorder, revision: Revision) -> None:
        self._flag = flag
        self._assignment = assignment
        self._recorder = recorder
        self._revision = revision

    def evaluate(self, context: Mapping[str, Any], default: Any, revision: str) -> Evaluation[Any]:
        made = self._flag.evaluate(context, default, revision)
        if made.reason is Reason.SPLIT and made.variant is not None:
            unit = self._assignment.unit(context)
            self._recorder.expose(self._assignment, made.variant, unit, self._revision, self._flag.key)
        return made

    def serve(self, context: Mapping[str, Any], default: Any) -> Any:
        return self.evaluate(context, default, "").value


class Snapshot(Generic[M_co]):
    """One verified, validated revision: `revision`, `config`, `files` (bytes by name), flags, splits, origins. Immutable."""

    __slots__ = (
        *("revision", "revision_text", "config", "files", "flags", "serving", "splits", "arms"),
        *("asked", "measured", "recorder", "explainer", "parts", "__weakref__"),
    )

    config: M_co
    """The application's model, whole."""
    revision: Revision
    files: Mapping[str, bytes]
    flags: Mapping[str, CompiledFlag]
    splits: Mapping[str, CompiledSplit]

    def __init__(  # noqa: PLR0913 - the loader is the one caller: every part by name
        self,
        revision: Revision,
        config: M_co,
        *,
        files: Mapping[str, bytes],
        flags: Mapping[str, CompiledFlag],
        splits: Mapping[str, CompiledSplit],
        arms: Mapping[str, Mapping[str, Arm[Any]]],
        recorder: Recorder,
        explainer: Callable[[str], Origin],
        serving: dict[str, _Serve] | None = None,
        parts: Any = None,
    ) -> None:
        self.revision = revision
        self.revision_text = str(revision)
        self.config = config
        self.files = files
        self.flags = flags
        self.serving: dict[str, _Serve] = serving if serving is not None else {}
        """What serves the flags that were asked for; given where it is at hand, which says that none is under an experiment."""
        self.asked: Mapping[str, CompiledFlag | _Watched] = flags
        self.measured: dict[str, tuple[Assignment, ...]] = {}
        """By metric: the experiments that name it."""
        self.splits = splits
        self.arms = arms
        self.recorder = recorder
        self.explainer = explainer
        self.parts = parts
        """What the loader reuses for the next revision."""
        if serving is None:
            self._watch(flag for flag in flags.values() if flag.assignment is not None)

    def _watch(self, flags: Iterable[CompiledFlag]) -> None:
        """Have the reads of these flags recorded."""
        watched = {}
        for flag in flags:
            assignment = flag.assignment
            if assignment is not None:
                watched[flag.key] = _Watched(flag, assignment, self.recorder, self.revision)
                for metric in assignment.metrics:
                    self.measured[metric] = (*self.measured.get(metric, ()), assignment)
        if watched:
            self.serving.update((key, flag.serve) for key, flag in watched.items())
            self.asked = {**self.flags, **watched}

    def serve_of(self, key: str) -> _Serve:
        """Give what serves a flag, made ready when it is first asked for; kept by its own key: `key` may be anything equal."""
        flag = self.flags.get(key)
        if flag is None:
            return _absent
        try:
            serve = self.serving[flag.key] = flag.ready()
        except (RecursionError, MemoryError):  # the caller's stack is nearly full: what the flag does about it
            return flag.serve
        return serve

    def view(self, context: Mapping[str, Any]) -> View[M_co]:
        """Make the view of one unit; `context` holds its attributes, its key under `targetingKey`."""
        return View(self, context)

    def flag(self, key: str, default: T, context: Mapping[str, Any]) -> T:
        """Give the value of a flag for a context: short for `view(context).flag(key, default)`."""
        return View(self, context).flag(key, default)

    def evaluate(self, key: str, default: T, context: Mapping[str, Any]) -> Evaluation[T]:
        """Give the value of a flag with variant, reason and revision. Never raises."""
        return View(self, context).evaluate(key, default)

    def explain(self, key: str) -> Origin:
        """Say where the value of a dotted config key, a flag or a split comes from.

        Raises:
            KeyError: no such key, flag or split.

        """
        return self.explainer(key)

    def __repr__(self) -> str:
        return f"Snapshot({self.revision}, {self.config!r})"


class SplitAccessor(Generic[A]):
    """A declared split: `accessor(view)` gives the unit's Arm and records the exposure, `peek(view)` does not record."""

    __slots__ = ("model", "name")

    def __init__(self, name: str, model: type[A]) -> None:
        self.name = name
        self.model = model

    def peek(self, view: View[Any]) -> Arm[A]:
        """Give the arm of the view's unit without recording that it was shown."""
        snapshot = view.snapshot
        return snapshot.arms[self.name][snapshot.splits[self.name].choose(view.context)]

    def __call__(self, view: View[Any]) -> Arm[A]:
        """Give the arm of the view's unit and record the exposure."""
        arm = self.peek(view)
        snapshot = view.snapshot
        assignment = snapshot.splits[self.name].assignment
        snapshot.recorder.expose(assignment, arm.name, assignment.unit(view.context), snapshot.revision, self.name)
        return arm


class FlagAccessor(Generic[T]):
    """A declared flag: `accessor(view)` gives its value; every load checks that it exists with the type of `default`.

    Under an experiment a read records that the unit was shown its arm; `peek(view)` does not.
    """

    __slots__ = ("default", "key")

    def __init__(self, key: str, default: T) -> None:
        self.key = key
        self.default = default

    def __call__(self, view: View[Any]) -> T:
        """Give the value of the flag for the view's unit."""
        return view.flag(self.key, self.default)

    def peek(self, view: View[Any]) -> T:
        """Give the value of the flag without recording that the unit was shown an arm."""
        return view.peek(self.key, self.default)


def _value(snapshot: Snapshot[Any], key: str) -> object:
    """The value of a dotted config key; of a flag or split (its compiled form), when the config has none of that name."""
    value: Any = snapshot.config
    for part in key.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, BaseModel) and part in type(value).model_fields:
            value = getattr(value, part)
        else:
            return snapshot.flags.get(key) or snapshot.splits.get(key)
    return value


def changed(old: Snapshot[Any], new: Snapshot[Any], keys: Sequence[str]) -> bool:
    """Tell whether any of the keys differs between two snapshots."""
    return any(_value(old, key) != _value(new, key) for key in keys)


def secrets_of(*snapshots: Snapshot[Any] | None) -> tuple[SecretStr, ...]:
    """Give every secret that some snapshots hold."""
    return tuple(secret for s in snapshots if s is not None and s.parts is not None for secret in s.parts.secrets)
