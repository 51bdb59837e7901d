"""bucket(): integers only, versioned, the same in every language that follows flagd.

`h` is murmur3_x86_32 with seed 0; `bucket = (h * total) >> 32`; the arm is the first whose cumulative weight is above it.
v2 hashes the UTF-8 bytes of a string. v3 hashes deterministic CBOR (RFC 8949, 4.2.1) of any value, after whole floats became
integers. Neither ever changes: a new one gets a new name.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from mmh3 import hash as murmur3

from livecfg.flags.values import LONGEST_LIST

MAX_TOTAL = (1 << 31) - 1
"""The largest sum of weights: Java counts in signed 32 bits."""


def bucket_v2(text: str, total: int) -> int:
    """Give the bucket of a string, 0 ≤ bucket < total.

    Raises:
        ValueError: half of a surrogate pair, which UTF-8 cannot encode.

    """
    return int(murmur3(text.encode(), 0, False) * total >> 32)  # noqa: FBT003 - signed=False, by position: this is the hot path


def bucket_v3(value: Any, total: int) -> int:
    """Give the bucket of any JSON value, 0 ≤ bucket < total.

    Raises:
        ValueError: a value that JSON does not have.

    """
    return int(murmur3(encode(value), 0, False) * total >> 32)  # noqa: FBT003 - as above


def first_hash(bucket: int, total: int) -> int:
    """Give the smallest hash whose bucket is `bucket`: comparing hashes spares two operations on wide integers per call."""
    return -(-(bucket << 32) // total)


def weight_of(value: object) -> int | None:
    """Read a weight: an integer, or a float that is one; negative counts as 0. None when it is not a weight."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    return max(value, 0)


def weighed(hashed: int | None, weights: tuple[Any, ...]) -> tuple[int | None, int | None]:
    """Give (index of the arm, bucket) for weights that were computed; (None, None) when there is no unit or no sane weight."""
    if hashed is None:
        return None, None
    total, bounds = 0, []
    for value in weights:
        weight = weight_of(value)
        if weight is None:
            return None, None
        total += weight
        bounds.append(total)
    if not 0 < total <= MAX_TOTAL:
        return None, None
    bucket = hashed * total >> 32
    return next(i for i, bound in enumerate(bounds) if bucket < bound), bucket


def encode(value: Any) -> bytes:
    """Encode a JSON value as deterministic CBOR; whole floats within 64 bits become integers first.

    Raises:
        ValueError: a value that JSON does not have, or a list of more than a mebibyte.

    """
    if type(value) is str:  # nearly every unit is a short text
        data = value.encode()
        if len(data) < 24:
            return _SHORT_TEXT[len(data)] + data
    out = bytearray()
    _encode(value, out)
    return bytes(out)


_SHORT_TEXT = [bytes([0x60 | size]) for size in range(24)]


def _encode(value: Any, out: bytearray) -> None:
    if isinstance(value, str):
        data = value.encode()
        _head(3, len(data), out)
        out += data
    elif isinstance(value, bool) or value is None:
        out.append({False: 0xF4, True: 0xF5, None: 0xF6}[value])
    elif isinstance(value, int):
        _integer(int(value), out)
    elif isinstance(value, float):
        _float(float(value), out)
    elif isinstance(value, list | tuple):
        _head(4, len(value), out)
        for item in value:
            _encode(item, out)
        if len(out) > LONGEST_LIST:
            raise ValueError("expected a shorter list")
    elif isinstance(value, dict):
        _head(5, len(value), out)
        for key, item in sorted(((encode(k), v) for k, v in value.items()), key=_first):  # bytewise order of the encoded keys
            out += key
            _encode(item, out)
    else:
        raise ValueError(f"expected a JSON value, got a {type(value).__name__}")


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _integer(value: int, out: bytearray) -> None:
    if value >= 0 and value < 1 << 64:
        _head(0, value, out)
    elif value < 0 and value >= -(1 << 64):
        _head(1, -1 - value, out)
    else:
        magnitude = value if value >= 0 else -1 - value
        data = magnitude.to_bytes((magnitude.bit_length() + 7) // 8)
        out.append(0xC2 if value >= 0 else 0xC3)
        _head(2, len(data), out)
        out += data


def _float(value: float, out: bytearray) -> None:
    if value.is_integer() and -(2**63) <= value <= 2**64 - 1:
        _integer(int(value), out)
        return
    if math.isnan(value):
        out += b"\xf9\x7e\x00"
        return
    for head, kind in ((0xF9, ">e"), (0xFA, ">f")):  # the shortest that holds it
        try:
            data = struct.pack(kind, value)
        except (OverflowError, struct.error):
            continue
        if struct.unpack(kind, data)[0] == value:
            out.append(head)
            out += data
            return
    out.append(0xFB)
    out += struct.pack(">d", value)


def _head(major: int, count: int, out: bytearray) -> None:
    major <<= 5
    if count < 24:
        out.append(major | count)
        return
    for extra, limit, size in ((24, 1 << 8, 1), (25, 1 << 16, 2), (26, 1 << 32, 4), (27, 1 << 64, 8)):
        if count < limit:
            out.append(major | extra)
            out += count.to_bytes(size)
            return
