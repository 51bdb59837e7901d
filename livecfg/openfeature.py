"""LivecfgProvider: livecfg behind the OpenFeature API, for code that is written against that.

```python
from openfeature import api
from livecfg.openfeature import LivecfgProvider

api.set_provider(LivecfgProvider(live))
api.get_client().get_boolean_value("new-checkout", False, EvaluationContext("u1"))
```
The provider reads the snapshot that `live.current` gives, so a pinned request stays on one revision. It never reports ERROR
while there is a verified snapshot: an old one is STALE. It does not own `live`: `shutdown` leaves it running.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderFatalError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.flags.compiled import MISMATCH, converted
from livecfg.flags.evaluate import ErrorCode as OurErrorCode
from livecfg.flags.evaluate import not_found
from livecfg.status import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagValueType
    from openfeature.track import TrackingEventDetails

    from livecfg.client import LiveConfig
    from livecfg.flags.evaluate import Evaluation
    from livecfg.snapshot import Snapshot, View

log = logging.getLogger(__name__)

_STALE_CHECK_S = 1.0
_MESSAGES = {
    "FLAG_NOT_FOUND": "no flag of this name in this revision",
    "TYPE_MISMATCH": "the flag's variant is of another type than was asked for",
    "PARSE_ERROR": "the flag's rule could not run for this context",
    "GENERAL": "the flag's rule gave what is no variant",
}


def _attributes(context: EvaluationContext | None) -> dict[str, Any]:
    """Give the context as livecfg takes it: attributes, and the unit under `targetingKey`."""
    if context is None:
        return {}
    if context.targeting_key is None:
        return dict(context.attributes)
    return {**context.attributes, "targetingKey": context.targeting_key}


def _drawn(view: View[Any], name: str, default: Any) -> Evaluation[Any]:
    """Evaluate a split as a flag: its arms are the variants; one without a value gives its name. Records the exposure."""
    snapshot = view.snapshot
    split = snapshot.splits[name]
    made: Evaluation[Any] = split.evaluate(view.context, snapshot.revision_text)
    arm = made.value
    value = split.arms[arm] if split.arms[arm] is not None else arm
    made.value = converted(value, default)
    if made.value is MISMATCH:
        made.value, made.variant, made.error_code = default, None, OurErrorCode.TYPE_MISMATCH
        return made
    assignment = split.assignment
    snapshot.recorder.expose(assignment, arm, assignment.unit(view.context), snapshot.revision, name)
    return made


class LivecfgProvider(AbstractProvider):
    """Evaluates flags of `live` for an OpenFeature client.

    Events: READY after the first revision and when answers come again, CONFIGURATION_CHANGED with the keys of the flags that
    differ, STALE when the remote has not answered for `max_staleness_s` (looked at once a second).
    Flag metadata carries the revision under `version`, what the document says (`flagSetId`), and of an experiment name and layer.
    A split is a flag whose variants are its arms. `track` records outcomes.
    """

    def __init__(self, live: LiveConfig[Any], *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._live = live
        self._clock = clock
        self._check_at = 0.0
        self._stale = False
        self._ready = False
        self._looking = threading.Lock()
        reference = weakref.ref(self)

        def changed(old: Snapshot[Any], new: Snapshot[Any]) -> None:
            provider = reference()
            if provider is not None:
                provider._changed(old, new)  # noqa: SLF001 - its own, weakly held

        def beat() -> None:
            provider = reference()
            if provider is not None and provider._ready:  # noqa: SLF001 - as above
                provider._look()  # noqa: SLF001 - as above

        live.on_change()(changed)
        live._hooks.beats.append(beat)  # noqa: SLF001 - of this package

    def get_metadata(self) -> Metadata:
        """Name the provider."""
        return Metadata("livecfg")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - OpenFeature's signature
        """Wait for the first revision.

        Raises:
            FetchError: there is none and the remote did not give one in time.
            RefusedError: there is none and the newest one is refused.
            ProviderFatalError: the set-up of `live` is wrong, which no waiting mends.

        """
        try:
            self._live.start()
        except (FetchError, RefusedError):
            raise
        except LivecfgError as error:
            raise ProviderFatalError(str(error)) from error
        self._ready = True

    # --- resolving ----------------------------------------------------------------------------------------------------

    def _resolve(
        self, flag_key: str, default_value: Any, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[Any]:
        """Evaluate a flag to a value of the type of the default; a fraction where an integer is asked for is a TYPE_MISMATCH."""
        snapshot = self._live.current
        flag = snapshot.asked.get(flag_key)
        if flag is not None:
            made = flag.evaluate(_attributes(evaluation_context), default_value, snapshot.revision_text)
        elif flag_key in snapshot.splits:
            made = _drawn(snapshot.view(_attributes(evaluation_context)), flag_key, default_value)
        else:
            made = not_found(flag_key, default_value, snapshot.revision_text)
        if self._clock() >= self._check_at:
            self._look()
        said = made.flag_metadata
        metadata = {**said, "version": made.revision} if said else {"version": made.revision}
        if made.error_code is None:
            return FlagResolutionDetails(made.value, None, None, made.reason, made.variant, metadata)
        code = made.error_code.value
        return FlagResolutionDetails(made.value, ErrorCode(code), _MESSAGES[code], Reason.ERROR, None, metadata)

    resolve_boolean_details = resolve_string_details = resolve_integer_details = _resolve

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Evaluate a number flag as a float."""
        return self._resolve(flag_key, float(default_value), evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Evaluate an object flag: a mapping or a list, whatever the default is of the two."""
        made: FlagResolutionDetails[Any] = self._resolve(flag_key, None, evaluation_context)
        if made.variant is None:
            made.value = default_value
        elif not isinstance(made.value, dict | list):
            code = ErrorCode.TYPE_MISMATCH
            message, metadata = _MESSAGES[code.value], made.flag_metadata
            return FlagResolutionDetails(default_value, code, message, Reason.ERROR, None, metadata)
        return made

    # --- tracking -----------------------------------------------------------------------------------------------------

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record what came of it, as `view.observe` does: the event is the metric, 1 its value unless the details have one.

        It counts for an experiment that names the metric. Never raises; nothing is recorded before the first revision.
        """
        value = tracking_event_details.value if tracking_event_details is not None else None
        try:
            snapshot = self._live.current
        except LivecfgError as error:
            log.debug("an event is not recorded, there is no revision yet: %s", error)
            return
        snapshot.view(_attributes(evaluation_context)).observe(tracking_event_name, 1 if value is None else value)

    # --- events -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Say STALE when answers stay away, READY when they come again."""
        self._check_at = self._clock() + _STALE_CHECK_S
        status = self._live.status
        stale = status.condition is Condition.STALE
        with self._looking:  # whoever evaluates and livecfg's thread may see it at once: one of them says it
            turned, self._stale = stale != self._stale, stale
        if turned and stale:
            self.emit_provider_stale(ProviderEventDetails(message=status.reason))
        elif turned:
            self.emit_provider_ready(ProviderEventDetails())

    def _changed(self, old: Snapshot[Any], new: Snapshot[Any]) -> None:
        pairs = ((old.flags, new.flags), (old.splits, new.splits))
        differ = sorted({key for a, b in pairs for key in a.keys() | b.keys() if a.get(key) != b.get(key)})
        if differ:
            details = ProviderEventDetails(flags_changed=differ, metadata={"version": str(new.revision)})
            self.emit_provider_configuration_changed(details)
        self._look()
