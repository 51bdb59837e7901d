"""The constants of one of many flags: what its rules compare with, how it weighs its variants."""

from __future__ import annotations

import random
from typing import NamedTuple

COUNTRIES = ["DE", "FR", "IT", "ES", "PT", "NL", "BE", "AT", "CH", "PL"]
_MORE = ["SE", "NO", "DK", "FI", "IS", "IE", "GB", "US", "CA", "MX", "BR", "AR", "CL", "JP", "KR", "IN", "AU", "NZ", "ZA", "EG"]
_AGES = [13, 16, 18, 21, 25, 30, 40, 50, 65]
SEGMENT = [f"user-{i}" for i in range(1000)]


class Constants(NamedTuple):
    """What differs between two flags of one kind."""

    countries: list[str]
    limits: list[tuple[int, str]]
    """For each country: the lowest age, the lowest version."""
    segment: list[str]
    percent: int
    weights: list[int]


def constants_of(number: int) -> Constants:
    """Give the constants of the flag with that number; those of 0 are the ones that W1 to W6 are measured with."""
    world = COUNTRIES + _MORE
    r = random.Random(number)
    own = [(r.choice(_AGES), f"{r.randint(1, 3)}.{r.randint(0, 9)}.0") for _ in range(10)]
    return Constants(
        countries=[world[(number + i) % len(world)] for i in range(10)],
        limits=own if number % 2 else [(18 + number % 50, f"2.{number % 40}.0")] * 10,
        segment=[f"user-{number * 11 + i}" for i in range(1000)] if number else SEGMENT,
        percent=10 + number % 80,
        weights=[25 + number % 20, 25 - number % 20, 25, 25],
    )
