"""Errors, named for what the caller does next.

```
LivecfgError                  something is wrong with the set-up: file, argument, environment
├── FetchError                later: the remote, the hub or the disk did not give what was asked
│   ├── ShortageError         this process may open no file just now: nothing was learned of what was asked
│   ├── MissingObjectError    an object is not in the mirror yet
│   └── CorruptObjectError    the mirror's bytes are not what their id says: re-clone
├── RefusedError              never this revision: it broke a rule; `refusals` say which
│   ├── WrongKindError        an id names another kind of object than where it stands says
│   └── RollbackError         the ref no longer contains the last good revision
└── PushConflictError         look again: the remote moved
```
"""

from __future__ import annotations

from livecfg.refusal import Code, Refusal


class LivecfgError(Exception):
    """Root of everything livecfg raises on purpose."""


class FetchError(LivecfgError):
    """The remote, the hub or the disk did not give what was asked; trying later may help."""


class ShortageError(FetchError):
    """This process or its host has no file descriptor or memory left. It says nothing about what was to be read."""


class MissingObjectError(FetchError):
    """An object is not in the mirror; `object_id` names it."""

    def __init__(self, object_id: str) -> None:
        self.object_id = object_id
        super().__init__(f"object {object_id} is missing from the mirror")


class CorruptObjectError(FetchError):
    """The mirror holds other bytes than an id names, or bytes over the caps; `object_id` names them."""

    def __init__(self, object_id: str, why: str) -> None:
        self.object_id = object_id
        super().__init__(f"object {object_id} is corrupt in the mirror: {why}")


class RefusedError(LivecfgError):
    """A revision broke a rule and will never be applied as it is; `refusals` say where, which and what to do."""

    def __init__(self, *refusals: Refusal) -> None:
        self.refusals = refusals
        super().__init__("\n".join(map(str, refusals)))


class WrongKindError(RefusedError):
    """An object is of another kind than where its id stands says. Git takes such a push; whoever wrote it answers for it."""

    def __init__(self, object_id: str, found: str, expected: str) -> None:
        advice = "remove what names it in a further commit"
        super().__init__(
            Refusal(Code.TREE_HYGIENE, f"a {found} ({object_id[:10]}) stands where a {expected} belongs", advice=advice)
        )


class RollbackError(RefusedError):
    """The ref does not contain the last good revision any more: a force push, a rollback or a foxtrot merge."""


class PushConflictError(LivecfgError):
    """The remote ref moved since it was read; read it again and decide anew."""
