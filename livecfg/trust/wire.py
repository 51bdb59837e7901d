"""The SSH wire format (RFC 4251 §5): length-prefixed strings and big-endian numbers, read strictly."""

from __future__ import annotations

import struct


class SignatureError(Exception):
    """A signature, key or certificate that is malformed or does not hold; the text says why."""


class Reader:
    """Reads one field after the other; whatever is missing, malformed or left over is a SignatureError."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """Give the next `count` bytes."""
        if self.at + count > len(self.data):
            raise SignatureError("truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """Give a 32-bit number."""
        return int(struct.unpack(">I", self.take(4))[0])

    def long(self) -> int:
        """Give a 64-bit number."""
        return int(struct.unpack(">Q", self.take(8))[0])

    def string(self) -> bytes:
        """Give a length-prefixed string."""
        start = self.at + 4
        end = start + int.from_bytes(self.data[self.at : start])
        if end > len(self.data):
            raise SignatureError("truncated")
        self.at = end
        return self.data[start:end]

    def strings(self) -> list[bytes]:
        """Give all strings up to the end."""
        found = []
        while self.at < len(self.data):
            found.append(self.string())
        return found

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self.at != len(self.data):
            raise SignatureError("trailing bytes")


def string(data: bytes) -> bytes:
    """Give a string with its length before it."""
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    """Give a positive number as a string."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def positive(raw: bytes) -> int:
    """Read what `mpint` wrote (without its length): one encoding a number, no sign, no padding."""
    if not raw or raw[0] & 0x80 or (raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80)):
        raise SignatureError("a number that is not canonical")
    return int.from_bytes(raw, "big")
