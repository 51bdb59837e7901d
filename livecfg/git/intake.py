"""Intake: what comes from a remote or the hub, turned into checked objects in memory; Upstream: the remote it comes from."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from livecfg.errors import FetchError
from livecfg.git import graph
from livecfg.git.local import LocalRemote, LocalSession
from livecfg.git.pack import PackReader
from livecfg.git.quarantine import Quarantine
from livecfg.git.transport import Deadline, connect
from livecfg.git.wire import OldProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.git.edge import Edge
    from livecfg.git.pack import Content
    from livecfg.git.source import GitSource, Limits
    from livecfg.git.transport import Remote, Session

log = logging.getLogger(__name__)


class Intake:
    """Checks packs and copies; `holds` says what the mirror has already (whole, with all below it), `read` gives it.

    `at_hand` gives what is in memory, in the mirror or not: good for comparing, and no word on what need not be sent.
    """

    def __init__(
        self,
        limits: Limits,
        holds: Callable[[str], bool],
        read: Callable[[str], Content],
        at_hand: Callable[[str], Content | None] = lambda _: None,
        edge: Edge | None = None,
    ) -> None:
        self.limits = limits
        self.at_hand = at_hand
        self.edge = edge
        self._holds = holds
        self._read = read
        self._compares_with_nothing = False

    def holds(self, name: str) -> bool:
        """Whether an object need not be sent. After an incomplete answer nothing counts: the mirror itself may be at fault."""
        return not self._compares_with_nothing and self._holds(name)

    def pack(self, data: bytes, tip: str, *, alone: bool = False) -> Quarantine:
        """Read a pack that may be thin; `alone`: it leaves out the commit's parents and what is below them.

        Raises:
            FetchError: it is malformed, over a cap, or leaves something out.

        """
        reader = PackReader(data, self.limits, self._read, len(tip))
        found = Quarantine(tip, reader.read())
        if reader.self_contained:
            found.pack, found.offsets = data, reader.offsets
        return self.complete(found, alone=alone)

    def complete(self, found: Quarantine, *, alone: bool = False) -> Quarantine:
        """Check that nothing is left out: a mirror that claims what it lacks would never be sent it again."""
        try:
            objects = found.objects | _orphaned(found) if alone else found.objects
            holds = cache(self.holds)  # the parent is asked for twice, and every answer is a look at the disk
            graph.check_closed(objects, found.tip, holds, self._read)
        except FetchError:
            self._compares_with_nothing = True
            raise
        self._compares_with_nothing = False
        return found


class Upstream:
    """The remote of a source; connects when asked and keeps its connection."""

    def __init__(self, source: GitSource) -> None:
        self._source = source
        # Made here, in the thread that opens the mirror, and not at the first fetch in ours: it imports, and an application
        # that forks during an import leaves the child an import lock that nobody will release.
        self._remote: Remote | LocalRemote = LocalRemote(source) if source.scheme == "file" else connect(source)
        self._deadline: Deadline | None = None

    def ask(self, have: str, intake: Intake) -> Quarantine | None:
        """Give what is new at the remote, or None when its ref is at `have`.

        Raises:
            FetchError: the remote did not answer well, or a cap was exceeded.

        """
        try:
            with Deadline(intake.limits) as deadline, self._remote.session(deadline) as session:
                self._deadline = deadline
                tip = session.tip()
                if tip == have:
                    return None
                return Quarantine(tip) if intake.holds(tip) else _new_objects(session, tip, have, intake)
        except OldProtocolError:
            self._use_old_protocol()
            return self.ask(have, intake)
        finally:
            self._deadline = None

    def begin(self, intake: Intake) -> Quarantine | None:
        """Give the commit at `intake.edge` alone, with its files; None where the remote cannot do that."""
        edge = intake.edge.commit if intake.edge is not None else ""
        try:
            with Deadline(intake.limits) as deadline, self._remote.session(deadline) as session:
                self._deadline = deadline
                if isinstance(session, LocalSession):
                    return None  # all of it is at hand
                return intake.pack(session.pack(edge, "", edge), edge, alone=True)
        except FetchError as error:  # also that of an old protocol
            log.info("cannot begin at %s (%s): fetching everything", edge[:10], error)
            return None
        finally:
            self._deadline = None

    def cut(self) -> None:
        """From another thread: end a conversation that is going on."""
        deadline = self._deadline
        if deadline is not None:
            deadline.cut()

    def close(self) -> None:
        """Drop what is kept."""
        self._remote.close()

    def _use_old_protocol(self) -> None:
        from livecfg.git.fallback import OldRemote  # noqa: PLC0415 - for servers of before 2018

        if isinstance(self._remote, OldRemote):
            raise FetchError(f"{self._source.url} speaks no protocol that livecfg knows")
        self.close()
        self._remote = OldRemote(self._source)


def _new_objects(session: Session | LocalSession, tip: str, have: str, intake: Intake) -> Quarantine:
    if isinstance(session, LocalSession):
        has = intake.holds if have else _never  # an empty mirror need not be asked 10,000 times
        return intake.complete(Quarantine(tip, session.objects(tip, has, intake.at_hand)))
    if not have or not intake.holds(have):
        return intake.pack(session.pack(tip, ""), tip)
    return intake.pack(session.pack(tip, have, intake.edge.commit if intake.edge is not None else ""), tip)


def _orphaned(found: Quarantine) -> dict[str, Content]:
    """The commit as one without parents, to be checked only."""
    kind, content = found.objects.get(found.tip, ("", b""))
    if kind != "commit":
        return {}
    head, blank, message = content.partition(b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith(b"parent ")]
    return {found.tip: ("commit", b"\n".join(kept) + blank + message)}


def _never(_: str) -> bool:
    return False
