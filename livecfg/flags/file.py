"""read_flags(): the bytes of a flag document → a FlagFile. Of a later version only the flags whose text differs are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from livecfg.document import Document
from livecfg.errors import RefusedError
from livecfg.flags.flag import compile_flags
from livecfg.members import edited, read_members

if TYPE_CHECKING:
    from livecfg.document import DocumentLimits
    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.targeting import Dialect
    from livecfg.flags.templates import Templates
    from livecfg.members import Members


class FlagFile(NamedTuple):
    """The flags of one document by key, in its order, and what the next version of it is compared with."""

    flags: dict[str, CompiledFlag]
    alone: Dialect
    """What they were read by, segments aside; each flag keeps those that it uses."""
    members: Members | None


def read_flags(
    data: bytes, path: str, limits: DocumentLimits, dialect: Dialect, before: FlagFile | None, templates: Templates
) -> FlagFile:
    """Read and compile a flag document; flags that say the same in `before`, an earlier version of it, are taken from there.

    `before` has no members where one of the segments that its flags use is another now.

    Raises:
        RefusedError: the document cannot be read, or the first hundred faults of its flags, each with its line and column.

    """
    made = _edited(data, path, limits, dialect, before, templates) if before is not None else None
    if made is not None:
        return made
    document, members = read_members(data, path, "flags", limits)
    flags = compile_flags(document, dialect, before.flags if before is not None else None, templates)
    return FlagFile(flags, dialect.alone(), members)


def _edited(
    data: bytes, path: str, limits: DocumentLimits, dialect: Dialect, before: FlagFile, templates: Templates
) -> FlagFile | None:
    """Read what differs in a document that is read by the same dialect; None where all must be read, as to tell its faults."""
    if before.members is None or "$evaluators" in before.members.rest or not before.alone.same(dialect.alone()):
        return None
    edit = edited(before.members, data, path, limits)
    if edit is None:
        return None
    try:
        fresh = compile_flags(
            Document(path, data, {**before.members.rest, "flags": edit.fresh}), dialect, before.flags, templates
        )
    except RefusedError:
        return None
    if edit.members.keys == before.members.keys:
        flags = {**before.flags, **fresh}
    else:
        flags = {key: fresh[key] if key in fresh else before.flags[key] for key in edit.members.keys}
    return FlagFile(flags, before.alone, edit.members)
