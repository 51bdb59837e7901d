"""override() and snapshot(): fixed configuration, flags and splits in a test; no Git, no thread, no network.

`override` pins a snapshot in the current context (a ContextVar), so tests that run side by side in threads or tasks do not see
each other's values, and nothing is left behind when the block ends. Flags go through the same compiler as those of a repository.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from livecfg.document import read
from livecfg.errors import LivecfgError
from livecfg.flags.assignment import Assignment, Key
from livecfg.origin import Origin
from livecfg.revision import Revision
from livecfg.signals import Signals
from livecfg.snapshot import Arm, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from livecfg.client import LiveConfig
    from livecfg.document import Document
    from livecfg.exposures import Exposure
    from livecfg.flags.flag import CompiledFlag
    from livecfg.flags.segment import Segment
    from livecfg.flags.split import CompiledSplit

__all__ = ["exposures", "override", "snapshot"]

M = TypeVar("M", bound=BaseModel)
TEST_REVISION = Revision("test", "0" * 40)
"""What `revision` says inside `override` and of `snapshot()`."""


class _Nothing(BaseModel, frozen=True):
    """The model of a snapshot that has flags only."""


class _Fixed:
    """A split that gives every unit the same arm."""

    def __init__(self, name: str, arm: str) -> None:
        self.name = name
        self.arm = arm
        self.assignment = Assignment(Key("split", name, "test"), ("targetingKey",), {})

    def choose(self, context: Mapping[str, Any]) -> str:  # noqa: ARG002 - the shape of CompiledSplit
        return self.arm


class _Recording(Signals):
    """Keeps what a test measures and exposes, for the test alone."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Exposure] = []
        self.exposures.sinks.append(self.seen.extend)


class _Arms(dict[str, "dict[str, Arm[Any]]"]):
    """Says what to do when the code under test asks for a split that the test did not set."""

    def __missing__(self, name: str) -> dict[str, Arm[Any]]:
        raise LivecfgError(f"the test sets no arm of the split {name!r}; add splits={{{name!r}: (arm, value)}} to override()")


@contextmanager
def override(
    live: LiveConfig[M],
    *,
    config: M | Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    splits: Mapping[str, tuple[str, BaseModel]] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Iterator[Snapshot[M]]:
    """Make `live.current` of this context a snapshot with these values, for the time of the block; gives that snapshot.

    `config` is an instance of the model or a mapping that is validated against it, by default the model's own defaults;
    `flags` maps keys to the value everybody gets; `splits` maps names to `(arm, value)`. What is not given is absent: a flag
    gives the caller's default. A nested block adds to the one around it.

    Raises:
        LivecfgError: values that the model, or a declaration of `live`, does not accept.

    """
    around = live._pinned.get(None)  # noqa: SLF001 - the pin is the seam between the two
    recorder = around.recorder if around is not None and isinstance(around.recorder, _Recording) else _Recording()
    made = Snapshot(
        TEST_REVISION,
        _config(live, config, around),
        files={**(around.files if around else {}), **(files or {})},
        flags={**(around.flags if around else {}), **_fixed_flags(live, flags or {})},
        splits={**(around.splits if around else {}), **{name: _split(name, arm) for name, (arm, _) in (splits or {}).items()}},
        arms=_Arms({**(around.arms if around else {}), **_arms(live, splits or {})}),  # type: ignore[dict-item]  # arms are read only
        recorder=recorder,
        explainer=_explainer,
    )
    token = live._pinned.set(made)  # noqa: SLF001 - as above
    try:
        yield made
    finally:
        live._pinned.reset(token)  # noqa: SLF001 - as above


def snapshot(
    *,
    flags: str | bytes | Mapping[str, Any] | None = None,
    gate: Literal["strict", "flagd"] = "strict",
    fractional: Literal["v2", "v3"] = "v2",
    clock: Callable[[], int] = lambda: 0,
    segments: Mapping[str, Collection[str]] | None = None,
    experiments: Sequence[str | bytes | Mapping[str, Any]] = (),
) -> Snapshot[Any]:
    """Load one flag document (YAML or JSON text, or a mapping) without a repository, as a load of a revision would.

    `clock` gives Unix seconds for `$flagd.timestamp`; `segments` gives members by name; `experiments` are applied to the flags,
    and have no holdouts.

    Raises:
        RefusedError: every fault of the document, with line and column.

    """
    from livecfg.flags.segment import PREFIX, Segment  # noqa: PLC0415 - as the loader: only who has flags pays for them

    known = {PREFIX + name: Segment(name, str(hash(frozenset(members))), members) for name, members in (segments or {}).items()}
    made = _compile(flags, gate, fractional, clock, known) if flags is not None else {}
    if experiments:
        from livecfg.flags.experiment import apply_experiments  # noqa: PLC0415 - as the loader: only who has flags pays for them

        documents = [_document(text, f"experiment-{i}") for i, text in enumerate(experiments)]
        made = apply_experiments(documents, made, static={}, clock=clock, segments=known)
    return Snapshot(
        TEST_REVISION,
        _Nothing(),
        files={},
        flags=made,
        splits={},
        arms={},
        recorder=_Recording(),
        explainer=_explainer,
    )


def exposures(source: LiveConfig[Any] | Snapshot[Any]) -> list[Exposure]:
    """Give who was shown which arm, oldest first: inside the outermost `override` of this context, or by a snapshot of a test.

    Raises:
        LivecfgError: outside of `override`.

    """
    made = source if isinstance(source, Snapshot) else source._pinned.get(None)  # noqa: SLF001 - as above
    if made is None or not isinstance(made.recorder, _Recording):
        raise LivecfgError("exposures: there is no override() around; for a repository, register a sink with live.on_exposure")
    made.recorder.exposures.deliver()
    return made.recorder.seen.copy()


def _compile(
    flags: str | bytes | Mapping[str, Any],
    gate: Literal["strict", "flagd"],
    fractional: Literal["v2", "v3"],
    clock: Callable[[], int],
    segments: Mapping[str, Segment],
) -> dict[str, CompiledFlag]:
    from livecfg.flags.flag import compile_flags  # noqa: PLC0415 - as the loader: only who has flags pays for them
    from livecfg.flags.targeting import Dialect  # noqa: PLC0415 - as above

    return compile_flags(_document(flags, "flags"), Dialect(fractional, gate, {}, segments, clock))


def _document(content: str | bytes | Mapping[str, Any], name: str) -> Document:
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes):
        return read(content, f"{name}.yaml")
    return read(json.dumps(dict(content)).encode(), f"{name}.json")


def _config(live: LiveConfig[M], config: M | Mapping[str, Any] | None, around: Snapshot[M] | None) -> M:
    model = live._model  # noqa: SLF001 - a test checks against what the application declared
    if config is None and around is not None:
        return around.config
    if isinstance(config, model):
        return config
    if isinstance(config, BaseModel):
        raise LivecfgError(f"override: config is expected to be a {model.__name__} or a mapping, got a {type(config).__name__}")
    try:
        return model.model_validate({} if config is None else dict(config))
    except ValidationError as error:
        hint = "" if config is not None else f" ({model.__name__} has fields without a default: give config=)"
        raise LivecfgError(f"override: config does not fit the model{hint}: {error}") from error


def _fixed_flags(live: LiveConfig[Any], flags: Mapping[str, Any]) -> dict[str, CompiledFlag]:
    for key, value in flags.items():
        default = live._flags.get(key, value)  # noqa: SLF001 - as above
        if type(default) is not type(value) and not (type(default) is float and type(value) is int):
            raise LivecfgError(f"override: the flag {key!r} is declared as {type(default).__name__}, got {type(value).__name__}")
    if not flags:
        return {}
    fixed = {k: {"state": "ENABLED", "variants": {"test": v}, "defaultVariant": "test"} for k, v in flags.items()}
    return _compile({"flags": fixed}, "strict", "v2", lambda: 0, {})


def _split(name: str, arm: str) -> CompiledSplit:
    return cast("CompiledSplit", _Fixed(name, arm))


def _arms(live: LiveConfig[Any], splits: Mapping[str, tuple[str, BaseModel]]) -> dict[str, dict[str, Arm[Any]]]:
    declared = live._splits  # noqa: SLF001 - as above
    for name, (_, value) in splits.items():
        model = declared.get(name)
        if model is None:
            raise LivecfgError(f"override: the application declares no split {name!r}; it declares {sorted(declared)}")
        if not isinstance(value, model):
            got = type(value).__name__
            raise LivecfgError(f"override: an arm of the split {name!r} is expected to be a {model.__name__}, got a {got}")
    return {name: {arm: Arm(arm, value)} for name, (arm, value) in splits.items()}


def _explainer(key: str) -> Origin:
    return Origin(key, "test")
