"""Truth, equality, order and conversion of JSON values as JavaScript has them (ECMA-262, 7.1 and 7.2), which JSONLogic means.

`"0"` is true, `[]` is false (JSONLogic's one difference from JavaScript), `1 == "1"`, `null` equals nothing but `null`.
"""

from __future__ import annotations

import math
import re
from typing import Any

NAN = math.nan
# Possessive: digits that are given back would be tried again at every place between them.
_NUMBER = re.compile(r"[-+]?(?:Infinity|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?)")
_RADIX = re.compile(r"0(?:[xX]([0-9a-fA-F]+)|[oO]([0-7]+)|[bB]([01]+))")
LONGEST_LIST = 1 << 20
"""As a text, or in CBOR: a rule can make lists of lists that take no memory, and as many characters as there are atoms."""
_WIDE = 1 << 64
_BEYOND = (1 << 1024) - (1 << 970)
"""From here on an integer rounds to no float."""
_SPACE = " \t\n\r\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))


def truthy(value: Any) -> bool:
    """Tell whether JSONLogic takes a value for true."""
    if value is True:
        return True
    if value is None or value is False:
        return False
    if isinstance(value, dict):
        return True
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return False
    return bool(value)


def to_number(value: Any) -> float | int:
    """Convert as JavaScript's Number() does; NaN for what is no number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    if isinstance(value, list | tuple):
        value = to_string(value)
    return _parse(value) if isinstance(value, str) else NAN


def _parse(text: str) -> float | int:
    text = text.strip(_SPACE)
    if not text:
        return 0
    if _NUMBER.fullmatch(text):
        return _literal(text)
    radix = _RADIX.fullmatch(text)
    if radix is None:
        return NAN
    number = next(int(digits, base) for digits, base in zip(radix.groups(), (16, 8, 2), strict=True) if digits)
    if number < _WIDE:
        return number
    return float(number) if number < _BEYOND else math.inf  # as in JavaScript; division of wide integers is quadratic


def _literal(text: str) -> float | int:
    if text.lstrip("+-").isdecimal() and len(text) <= 16:
        return int(text)
    return float(text.replace("Infinity", "inf"))


def to_string(value: Any) -> str:
    """Convert as JavaScript's String() does.

    Raises:
        ValueError: a list whose text has more than a million characters.

    """
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, int) and abs(value) < 10**21 else _float_text(float(value))
    if isinstance(value, list | tuple):
        text = ",".join("" if item is None else to_string(item) for item in value)
        if len(text) > LONGEST_LIST:
            raise ValueError("the text of a list is too long")
        return text
    return "[object Object]"


def _float_text(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = int(exponent)
    if -7 < power < 0:  # JavaScript writes these out
        digits = mantissa.replace(".", "").lstrip("-")
        return f"{'-' if value < 0 else ''}0.{'0' * (-power - 1)}{digits}"
    return f"{mantissa.removesuffix('.0')}e{'+' if power > 0 else '-'}{abs(power)}"


def equal(a: Any, b: Any) -> bool:
    """`a == b`: equality with conversion."""
    kind_a, kind_b = _kind(a), _kind(b)
    if kind_a == kind_b:
        return _same(a, b, kind_a)
    if "null" in (kind_a, kind_b):
        return False
    if "object" in (kind_a, kind_b):  # an array or object against a primitive: its text
        return equal(to_string(a) if kind_a == "object" else a, to_string(b) if kind_b == "object" else b)
    return to_number(a) == to_number(b)


def identical(a: Any, b: Any) -> bool:
    """`a === b`: equality without conversion."""
    kind = _kind(a)
    return kind == _kind(b) and _same(a, b, kind)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "object"


def _same(a: Any, b: Any, kind: str) -> bool:
    return a is b if kind == "object" else bool(a == b)  # two arrays are never the same array


def less(a: Any, b: Any) -> bool:
    """`a < b`."""
    a, b = _primitive(a), _primitive(b)
    if isinstance(a, str) and isinstance(b, str):
        return a < b if a.isascii() and b.isascii() else _units(a) < _units(b)
    return to_number(a) < to_number(b)


def less_equal(a: Any, b: Any) -> bool:
    """`a <= b`."""
    a, b = _primitive(a), _primitive(b)
    if isinstance(a, str) and isinstance(b, str):
        return a <= b if a.isascii() and b.isascii() else _units(a) <= _units(b)
    return to_number(a) <= to_number(b)


def greater(a: Any, b: Any) -> bool:
    """`a > b`."""
    return less(b, a)


def greater_equal(a: Any, b: Any) -> bool:
    """`a >= b`."""
    return less_equal(b, a)


def _primitive(value: Any) -> Any:
    return to_string(value) if _kind(value) == "object" else value


def _units(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")  # JavaScript compares 16-bit units


def dig(data: Any, path: tuple[str, ...]) -> Any:
    """Give what `path` names inside `data`; None when there is nothing."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list | tuple):
            index = int(part) if part.isdecimal() and part.isascii() and len(part) < 10 else -1
            data = data[index] if 0 <= index < len(data) and str(index) == part else len(data) if part == "length" else None
        elif isinstance(data, str) and part == "length":
            data = len(data)
        elif hasattr(data, "keys"):  # another mapping than dict
            data = data.get(part)
        else:
            return None
    return data
