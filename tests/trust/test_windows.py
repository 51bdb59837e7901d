"""Windows keep a valid revision out for a while, and only what they name; applied by a real reconciler over objects in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from livecfg.layers import Process
from livecfg.reconciler import Reconciler
from livecfg.revision import Candidate
from livecfg.scope import Scope
from livecfg.signals import Signals
from livecfg.trust import windows
from livecfg.trust.policy import Hours
from livecfg.trust.windows import closed_until
from tests.simulator.memory import MemoryRepo
from tests.trust.removed import without

if TYPE_CHECKING:
    from livecfg.revision import Kind
    from livecfg.snapshot import Snapshot

ANA, BO, CY = "ana@acme", "bo@acme", "cy@acme"
BASE, PROD, FLAGS = "config/shop/base.yaml", "config/shop/prod.yaml", "flags/shop/main.json"
FLAG = b'{"flags": {"f": {"state": "%s", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}'
ON, OFF = FLAG % b"ENABLED", FLAG % b"DISABLED"
FRIDAY = datetime(2026, 11, 27, 15, 30, tzinfo=UTC).timestamp()
SATURDAY = FRIDAY + 86400
RULES = [
    {"id": "all", "paths": ["**"], "allow": ["*"]},
    {"id": "kill", "paths": ["flags/**"], "only": "disable", "allow": ["*"], "fast": True},
]
WINDOW = {
    "id": "no-friday",
    "paths": ["config/*/prod.yaml", "flags/**"],
    "deny": {"weekdays": ["fri"], "from": "15:00", "until": "23:59"},
    "override": "ops",
}


class Config(BaseModel, frozen=True):
    a: int = 0


class MemoryMirror:
    """A mirror over objects in memory: the reconciler's seam, without a disk."""

    def __init__(self, repo: MemoryRepo) -> None:
        self.objects = repo
        self.tip = ""
        self.states: dict[str, bytes] = {}

    def fetch(self, since: str | None) -> Candidate | None:
        return Candidate("main", self.tip, self.objects) if self.tip != since else None

    def holds(self, object_id: str) -> bool:
        return object_id in self.objects.objects

    def promote(self) -> None:
        pass

    def load_state(self, name: str) -> bytes | None:
        return self.states.get(name)

    def save_state(self, name: str, data: bytes, position: int) -> bool:  # noqa: ARG002 - the shape of a mirror
        self.states[name] = data
        return True


class Service:
    """One process that follows the repository."""

    def __init__(self, **policy: Any) -> None:
        self.repo = MemoryRepo()
        files = {"config/_shared/base.yaml": b"{}\n", BASE: b"a: 1\n", PROD: b"a: 1\n", FLAGS: ON}
        changes = {"windows": [WINDOW], "teams": {"ops": [BO]}} | policy
        self.tip = self.repo.found((ANA, BO, CY), RULES, files, **changes)
        self.mirror = MemoryMirror(self.repo)
        self.start()
        self.reconcile(FRIDAY)

    def start(self) -> None:
        self.served: Snapshot[Config] | None = None

        def swap(snapshot: Snapshot[Config]) -> None:
            self.served = snapshot

        scope: Scope[Config] = Scope(Config, Process("shop", "prod"), Signals(), lambda: 0)
        self.reconciler = Reconciler(
            self.mirror, self.repo.trusted(), scope, state="shop", prepare=lambda _old, _new: None, swap=swap
        )

    def change(self, files: dict[str, bytes | None] | None, by: str = CY, message: str = "Change it") -> None:
        self.tip = self.repo.commit(files, on=(self.tip,), by=by, message=message)

    def reconcile(self, now: float) -> None:
        self.mirror.tip = self.tip
        self.reconciler.reconcile(now)

    @property
    def serves(self) -> bytes:
        assert self.served is not None
        return b"a: %d" % self.served.config.a

    @property
    def serves_tip(self) -> bool:
        return self.served is not None and self.served.revision.commit == self.tip


def test_a_revision_waits_for_its_window_and_is_swapped_in_when_it_opens() -> None:
    service = Service()
    assert service.serves_tip, "the first revision of a process never waits"
    service.change({PROD: b"a: 2\n"})
    service.reconcile(FRIDAY)
    assert not service.serves_tip
    assert "waits for the window 'no-friday' until 2026-11-27T23:59Z (config/shop/prod.yaml)" in service.reconciler.waiting
    service.reconcile(SATURDAY)
    assert service.serves_tip
    assert service.reconciler.waiting == ""


def test_a_restart_in_a_closed_window_serves_what_was_in_use() -> None:
    service = Service()
    in_use = service.tip
    service.change({PROD: b"a: 2\n"})
    service.reconcile(FRIDAY)
    service.start()
    assert service.reconciler.resume()
    assert service.served is not None
    assert service.served.revision.commit == in_use
    service.reconcile(FRIDAY + 60)
    assert not service.serves_tip
    service.reconcile(SATURDAY)
    assert service.serves_tip


@pytest.mark.parametrize(
    ("files", "by", "message", "waits"),
    [
        ({BASE: b"a: 2\n"}, CY, "Change it", False),
        ({PROD: b"a: 2\n"}, CY, "Change it", True),
        ({BASE: b"a: 2\n", PROD: b"a: 2\n"}, CY, "Change it", True),
        ({FLAGS: OFF}, CY, "Kill it", False),
        ({FLAGS: ON.replace(b'"on"}', b'"off"}')}, CY, "Change it", True),
        ({PROD: b"a: 2\n"}, BO, "Now\n\nLivecfg-Window: override no-friday", False),
        ({PROD: b"a: 2\n"}, CY, "Now\n\nLivecfg-Window: override no-friday", True),
        ({PROD: b"a: 2\n"}, BO, "Now\n\nLivecfg-Window: override another", True),
    ],
)
def test_only_what_a_window_names_waits_and_its_role_lets_it_pass(
    files: dict[str, bytes | None],
    by: str,
    message: str,
    waits: bool,  # noqa: FBT001
) -> None:
    service = Service()
    service.change(files, by=by, message=message)
    service.reconcile(FRIDAY)
    assert service.serves_tip is not waits


def test_the_policy_itself_never_waits() -> None:
    service = Service(windows=[WINDOW | {"paths": ["**"]}])
    service.change(dict(service.repo.policy((ANA, BO), RULES, windows=[WINDOW], teams={"ops": [BO]})), by=ANA)
    service.reconcile(FRIDAY)
    assert service.serves_tip


def test_a_rollback_never_waits_and_only_for_what_it_gives_back() -> None:
    service = Service()
    first = service.tip
    service.change({PROD: b"a: 2\n"})
    service.reconcile(SATURDAY)
    assert service.serves_tip
    service.change({PROD: b"a: 1\n"}, message=f"Back\n\nLivecfg-Rollback: {first}")
    service.reconcile(FRIDAY + 7 * 86400)
    assert service.serves_tip
    service.change({PROD: b"a: 3\n"}, message=f"Not back\n\nLivecfg-Rollback: {first}")
    service.reconcile(FRIDAY + 7 * 86400)
    assert not service.serves_tip


def test_a_change_that_is_named_as_what_one_goes_back_to_waits_all_the_same() -> None:
    service = Service()
    service.change({PROD: b"a: 2\n"})
    changed = service.tip
    service.change(None, message=f"Back, it says\n\nLivecfg-Rollback: {changed}")
    service.reconcile(FRIDAY)
    assert service.serves == b"a: 1"
    with without(windows, "older = between[-1]", "older = between[0]"):
        service.reconcile(FRIDAY)
    assert service.serves == b"a: 2"


def test_nobody_else_makes_a_change_a_rollback_that_passes_the_window() -> None:
    service = Service()
    first = service.tip
    service.change({PROD: b"a: 2\n"})
    service.reconcile(SATURDAY)
    service.change(None, by="", message=f"Back\n\nLivecfg-Rollback: {first}")
    service.change({PROD: b"a: 1\n"})
    service.reconcile(FRIDAY + 7 * 86400)
    assert service.serves == b"a: 2"
    check = "if isinstance(identities.at(commit, commit.committer_time), Signed)\n"
    with without(windows, check, "if True\n"):
        service.reconcile(FRIDAY + 7 * 86400)
    assert service.serves == b"a: 1"


def test_attack_23_rollbacks_that_name_nothing_cost_one_pass_over_the_chain() -> None:
    service = Service()
    service.change({PROD: b"a: 2\n"})
    for n in range(60):
        service.change(None, by=(BO, "")[n % 2], message=f"Back\n\nLivecfg-Rollback: {n:040x}")
    reads = 0

    class Counting:
        def read(self, object_id: str, kind: Kind) -> bytes:
            nonlocal reads
            reads += 1
            return service.repo.read(object_id, kind)

    first = service.repo.parents(service.tip)[0]
    while service.repo.parents(first):
        first = service.repo.parents(first)[0]
    assert windows.waiting(Counting(), first, service.tip, FRIDAY) is not None
    assert reads < 5 * 60


def test_an_override_by_root_takes_the_root_threshold() -> None:
    service = Service(windows=[WINDOW | {"override": "root"}])
    service.change({PROD: b"a: 2\n"}, by=BO, message="Now\n\nLivecfg-Window: override no-friday")
    service.reconcile(FRIDAY)
    assert not service.serves_tip
    service.change(None, by=ANA, message="Now\n\nLivecfg-Window: override no-friday")
    service.reconcile(FRIDAY)
    assert service.serves_tip


def test_what_waits_is_verified_already_and_a_later_hostile_commit_changes_nothing() -> None:
    service = Service()
    service.change({PROD: b"a: 2\n"})
    good = service.tip
    service.change({PROD: b"a: 666\n"}, by="")
    service.reconcile(FRIDAY)
    service.reconcile(SATURDAY)
    assert service.served is not None
    assert service.served.revision.commit == good


@pytest.mark.parametrize(
    ("weekdays", "start", "until", "zone", "moment", "end"),
    [
        (["fri"], "15:00", "23:59", "UTC", "2026-11-27T15:00", "2026-11-27T23:59"),
        (["fri"], "15:00", "23:59", "UTC", "2026-11-27T14:59", None),
        (["fri"], "15:00", "23:59", "UTC", "2026-11-27T23:59", None),
        (["fri"], "15:00", "24:00", "UTC", "2026-11-27T23:59", "2026-11-28T00:00"),
        (["fri"], "22:00", "06:00", "UTC", "2026-11-28T05:59", "2026-11-28T06:00"),
        (["fri"], "22:00", "06:00", "UTC", "2026-11-27T05:59", None),
        (["fri"], "15:00", "16:00", "Europe/Berlin", "2026-11-27T14:30", "2026-11-27T15:00"),
        (["fri"], "15:00", "16:00", "Europe/Berlin", "2026-07-03T13:30", "2026-07-03T14:00"),
        (["fri"], "15:00", "16:00", "No/Where", "2026-11-27T15:30", "2026-11-27T16:00"),
    ],
)
def test_hours_are_local_to_their_zone(
    weekdays: list[Any], start: str, until: str, zone: str, moment: str, end: str | None
) -> None:
    hours = Hours.model_validate({"weekdays": weekdays, "from": start, "until": until, "zone": zone})
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    closed = closed_until(hours, now)
    assert (None if closed is None else datetime.fromtimestamp(closed, UTC).isoformat()[:16]) == end
