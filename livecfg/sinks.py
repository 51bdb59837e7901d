"""Sinks: where exposures go beside the counts: a file of JSON lines, OpenTelemetry events, or any function of the application.

```python
live.on_exposure(JsonLines(Path("/var/log/shop/exposures.jsonl")))
live.on_exposure(otel_events())
```
A sink gets what is new, oldest first, about once a second, on livecfg's thread: it may do I/O, and holds up nobody's request.
It gets the units themselves, which never leave the process otherwise: with them a warehouse joins exposures and outcomes.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.telemetry import EVALUATION_EVENT, evaluation_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from opentelemetry._logs import LoggerProvider

    from livecfg.exposures import Exposure


class JsonLines:
    """Appends one JSON object per exposure to a file; several processes may share it, and it may be moved away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, exposures: Sequence[Exposure]) -> None:
        """Append, in one write."""
        lines = "".join(json.dumps(_as_dict(exposure), default=str) + "\n" for exposure in exposures).encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while lines:
                lines = lines[os.write(file, lines) :]
        finally:
            os.close(file)


def _as_dict(exposure: Exposure) -> dict[str, Any]:
    return exposure._asdict() | {"revision": str(exposure.revision)}


def otel_events(provider: LoggerProvider | None = None) -> Callable[[Sequence[Exposure]], None]:
    """Give a sink that emits each exposure as the OpenTelemetry event `feature_flag.evaluation`, by default globally.

    Raises:
        LivecfgError: opentelemetry-api is not installed.

    """
    try:
        from opentelemetry._logs import SeverityNumber, get_logger  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LivecfgError("OpenTelemetry events need opentelemetry-api: pip install 'livecfg[otel]'") from error
    logger = get_logger("livecfg", logger_provider=provider)

    def emit(exposures: Sequence[Exposure]) -> None:
        for e in exposures:
            unit = str(e.unit).encode(errors="replace").decode()  # half a surrogate pair would fail the exporter's whole batch
            attributes = evaluation_attributes(e.flag, e.arm, unit, str(e.revision), e.flag_set)
            logger.emit(
                timestamp=int(e.at * 1e9),
                severity_number=SeverityNumber.INFO,
                event_name=EVALUATION_EVENT,
                attributes=attributes | {f"livecfg.{e.kind}": e.name},
            )

    return emit
