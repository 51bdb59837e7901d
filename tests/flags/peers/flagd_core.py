"""Runs inside the peer's own environment: JSON lines in (a document and questions), JSON lines out (what flagd-core gives)."""

from __future__ import annotations

import importlib
import json
import logging
import math
import operator
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

logging.disable(logging.CRITICAL)


from openfeature.contrib.tools.flagd.core import FlagdCore  # noqa: E402 - it logs at every operand it cannot take
from openfeature.evaluation_context import EvaluationContext  # noqa: E402
from openfeature.exception import OpenFeatureError  # noqa: E402

targeting = importlib.import_module("openfeature.contrib.tools.flagd.core.targeting.targeting")
from json_logic import builtins  # noqa: E402


def _loose(a: Any, b: Any) -> bool:
    return a is b if a is None or b is None else bool(builtins.op_equals(None, a, b))


def _kind(value: Any) -> str:
    return "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else type(value).__name__


def _in(_: Any, needle: Any = None, haystack: Any = None, *__: Any) -> bool:
    if isinstance(haystack, list):
        return any(_kind(needle) == _kind(item) and needle == item and not isinstance(item, list | dict) for item in haystack)
    return bool(_ORIGINAL["in"](None, needle, haystack))


def _modulo(_: Any, a: Any = None, b: Any = None, *__: Any) -> float:
    divisor = builtins.to_number(b)
    return float("nan") if divisor == 0 else math.fmod(builtins.to_number(a), divisor)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join("" if v is None else _text(v) for v in value)
    return str(_to_string(value))


def _identical(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) and (a is b if isinstance(a, list | dict) else a == b)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        value = _text(value)
    return 0 if isinstance(value, str) and not value.strip() else _to_number(value)


def _order(compare: Callable[[Any, Any], bool]) -> Any:
    def two(a: Any, b: Any) -> bool:
        a, b = (_text(v) if isinstance(v, list) else v for v in (a, b))
        return compare(a, b) if isinstance(a, str) and isinstance(b, str) else compare(_number(a), _number(b))

    return lambda _, a=None, b=None, *c: two(a, b) and (not c or two(b, c[0]))


_to_number, _to_string = builtins.to_number, builtins.to_string
_OPERATORS = targeting.OPERATORS
_ORIGINAL = dict(_OPERATORS)
CORRECTIONS: dict[str, dict[str, Any]] = {
    "null equals 0 and false": {
        "==": lambda _, a=None, b=None, *__: _loose(a, b),
        "!=": lambda _, a=None, b=None, *__: not _loose(a, b),
    },
    "text is compared with null and lists as text": {
        "<": _order(operator.lt),
        "<=": _order(operator.le),
        ">": _order(operator.gt),
        ">=": _order(operator.ge),
    },
    "in takes true for 1": {"in": _in},
    "an empty text is found in an empty text": {
        "in": lambda _, needle=None, haystack=None, *__: haystack != "" and _in(None, needle, haystack),
    },
    "the smallest or largest number can be a boolean": {
        "min": lambda _, *values: builtins.to_number(_ORIGINAL["min"](None, *values)) + 0,
        "max": lambda _, *values: builtins.to_number(_ORIGINAL["max"](None, *values)) + 0,
    },
    "0 is identical with false": {
        "===": lambda _, a=None, b=None, *__: _identical(a, b),
        "!==": lambda _, a=None, b=None, *__: not _identical(a, b),
    },
    "cat writes null out": {"cat": lambda data, *values: _ORIGINAL["cat"](data, *("" if v is None else v for v in values))},
    "a remainder by zero raises": {"%": _modulo},
}

LISTS = "booleans and nulls in a list are written as Python writes them"
EMPTY = "an empty text is no number, and a list the number of its item"


def answer(core: Any, ask: dict[str, Any]) -> dict[str, Any]:
    attributes = dict(ask["context"])
    context = EvaluationContext(attributes.pop("targetingKey", None), attributes)
    resolve = getattr(core, f"resolve_{ask['type']}_value")
    try:
        made = resolve(ask["key"], ask["default"], context)
    except OpenFeatureError as error:
        return {"error": str(error.error_code.value), "value": ask["default"]}
    except Exception as error:  # noqa: BLE001 - that it raises is the finding
        return {"exception": type(error).__name__, "value": ask["default"]}
    return {"value": made.value, "variant": made.variant, "reason": str(made.reason)}


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        core = FlagdCore()
        core.set_flags(job["document"])
        _OPERATORS.update(_ORIGINAL)
        for name, corrected in CORRECTIONS.items():
            if name in job["corrected"]:
                _OPERATORS.update(corrected)
        builtins.to_number = _number if EMPTY in job["corrected"] else _to_number
        builtins.to_string = _text if LISTS in job["corrected"] else _to_string
        print(json.dumps([answer(core, ask) for ask in job["asks"]]), flush=True)  # noqa: T201 - the protocol


main()
