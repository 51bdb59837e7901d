"""Faults a Git server can have; `GitHttpServer.fault` and `GitDaemon.fault` may change while it runs."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What the server does instead of answering well."""

    DROP = "drop"  # closes every connection at once
    HTTP_500 = "http-500"
    UNAUTHORIZED = "unauthorized"
    HTML = "html"  # 200 with a login page, as captive portals do
    GARBAGE = "garbage"  # right headers, random bytes
    TRUNCATE = "truncate"  # the pack ends half way
    FLIP = "flip"  # one byte in the middle of the pack is another
    DRIP = "drip"  # one byte at a time
    HANG = "hang"  # accepts and says nothing
    REDIRECT = "redirect"  # 302 to another place
