"""EvaluationContext: whom a flag is evaluated for. A plain dict of attributes with `targetingKey` is as good, and free."""

from __future__ import annotations

from typing import Any


class EvaluationContext(dict[str, Any]):
    """Attributes of one unit (user, request, instance); its key stands under `targetingKey`."""

    __slots__ = ()

    def __init__(self, key: str | None = None, /, **attributes: Any) -> None:
        super().__init__(attributes)
        if key is not None:
            self["targetingKey"] = key
