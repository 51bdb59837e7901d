"""Reading `sem_ver`: a version written in the rule is parsed once, at load."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from livecfg.flags.constants import compared_part, group_of
from livecfg.flags.operators import VERSION_RELATIONS, parse_version
from livecfg.refusal import Code

if TYPE_CHECKING:
    from livecfg.document import Loc
    from livecfg.flags.targeting import Node, Reader

_WHOLE_VERSION = re.compile(r"v?\d+\.\d+\.\d+")


def is_version(text: Any) -> bool:
    """Tell whether the strict gate takes a text for a version."""
    return isinstance(text, str) and _WHOLE_VERSION.match(text) is not None and parse_version(text) is not None


def read_version(reader: Reader, operands: list[Any], loc: Loc) -> tuple[Node, str] | None:
    """Read a sem_ver whose relation and right side are known; None when they are computed."""
    if len(operands) != 3:
        return ("literal", None), "null"
    relation = operands[1]
    for i in (0, 2):
        text = operands[i]
        if not isinstance(text, dict) and not is_version(text):
            reader.refuse(Code.FLAG_OPERATOR, (*loc, i), "expected a version such as 1.2.3", "in quotes; see semver.org")
    named = isinstance(relation, str) and relation in VERSION_RELATIONS
    if not isinstance(relation, dict) and not named:
        advice = f"the relations are {' '.join(VERSION_RELATIONS)}"
        reader.refuse(Code.FLAG_OPERATOR, (*loc, 1), f"sem_ver does not know the relation {relation!r}", advice)
    other = parse_version(operands[2]) if isinstance(operands[2], str) else None
    if other is None or not named:
        return None
    identity = reader.note(loc, "sem_ver")
    version, _ = reader.value(operands[0], (*loc, 0))
    group = group_of("sem_ver " + relation, operands[0])
    return ("version", identity, relation, version, reader.given(compared_part(other, relation), operands[2], group)), "bool?"
