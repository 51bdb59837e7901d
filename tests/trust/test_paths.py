"""Path patterns: the index over all of them finds what each of them by itself says, in bounded time."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from livecfg.trust.paths import PathIndex, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = st.sampled_from(["**", "**", "*", "a", "b", "ab", "a*", "*a", "a*a", "ab*", "*a*b*", "*a*a*a*", "a*b*a"])
MARKS = st.sampled_from(["", "", "!"])
GLOBS = st.builds(lambda mark, parts: mark + "/".join(parts), MARKS, st.lists(PARTS, min_size=1, max_size=5))
LISTS = st.lists(st.lists(GLOBS, max_size=4), max_size=5)
NAMES = st.one_of(st.text("ab", max_size=5), st.sampled_from(["*", "**", "!a", "a\nb", "a\n"]))
PATHS = st.builds("/".join, st.lists(NAMES, min_size=1, max_size=5))


def says(parts: Sequence[str], names: Sequence[str]) -> bool:
    """What one pattern says of a path, by the words of the documentation and without a thought of time."""
    if not parts:
        return not names
    first, *rest = parts
    if first == "**":
        return any(says(rest, names[taken:]) for taken in range(len(names) + 1)) if rest else bool(names)
    pattern = ".*".join(map(re.escape, first.split("*")))
    return bool(names) and bool(re.fullmatch(pattern, names[0], re.DOTALL)) and says(rest, names[1:])


@given(LISTS, PATHS)
def test_many_lists_of_patterns_in_one_index_match_as_each_pattern_by_itself(lists: list[list[str]], path: str) -> None:
    names = path.split("/")
    expected = []
    for number, globs in enumerate(lists):
        found = {glob for glob in globs if says(glob.removeprefix("!").split("/"), names)}
        if found and not any(glob.startswith("!") for glob in found):
            expected.append(number)
        assert matches(globs, path) is (number in expected)
    assert PathIndex(lists).find(path) == expected


def test_attack_23_no_index_of_hostile_patterns_takes_long() -> None:
    lists = [["/".join(["**"] * 2000) + "/b"], *([f"**/*a*{'a*' * n}b*"] for n in range(40))]
    path = "/".join(["a" * 128] * 16)
    began = time.process_time()
    assert PathIndex(lists).find(path) == []
    assert time.process_time() - began < 1
