"""What processes count, on its way to the hub's store and back: merged by maximum, bound to who reports, never trusted."""

from __future__ import annotations

import asyncio
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest

from livecfg.exposures import Exposures
from livecfg.flags.assignment import Assignment, Key
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import ANYBODY, Access, Credential
from livecfg.hub.fleet import Fleet, Host
from livecfg.hub.report import to_report
from livecfg.hub.service import HubService
from livecfg.hub.stores import SqliteStore
from livecfg.hub.tally import Tally
from livecfg.revision import Revision

if TYPE_CHECKING:
    from collections.abc import Sequence

COPY = Assignment(Key("experiment", "copy", "0" * 16), ("targetingKey",), {}, frozenset(("paid",)))
ASKED = hub_pb2.CountsRequest(kind="experiment", name="copy")


def content(boot: str, exposures: Any, **more: Any) -> dict[str, Any]:
    return {"boot": boot, "pid": 7, "service": "checkout", "env": "prod", "condition": "READY", "exposures": exposures} | more


def counted(units: int, paid: int) -> list[dict[str, Any]]:
    log = Exposures()
    for i in range(units):
        log.expose(COPY, "short", f"u{i}", Revision("main", "a" * 40), "copy")
    for i in range(paid):
        log.outcome(COPY, "paid", 2.5, f"u{i}")
    return log.counts()


class Hub:
    """Fleet and tally as the service joins them."""

    def __init__(self, store: SqliteStore | None = None) -> None:
        self.store = store or SqliteStore("sqlite://")
        self.fleet = Fleet(self.store)
        self.tally = Tally(self.store)
        self.host = Host(ANYBODY, "host-1", "")

    def report(self, *contents: dict[str, Any], host: Host | None = None, now: float = 100.0) -> None:
        message = hub_pb2.Report.FromString(to_report(list(contents))[0].SerializeToString())
        self.tally.take(message, self.fleet.take(message, host or self.host, now), now)

    def rows(self, request: hub_pb2.CountsRequest = ASKED) -> list[hub_pb2.ArmCounts]:
        """What the store has after a flush."""
        asyncio.run(self.tally.flush(100.0))
        return asyncio.run(self.tally.ask(request))

    def ask(self, request: hub_pb2.CountsRequest = ASKED) -> dict[tuple[str, str], tuple[int, int, float, int]]:
        """Units, observations, sum and processes by arm and metric."""
        rows = self.rows(request)
        return {(r.arm, r.metric): (sum(r.units), sum(r.observations), sum(r.sums), r.processes) for r in rows}


def test_what_processes_count_is_added_and_a_report_that_comes_twice_late_or_in_disorder_changes_nothing() -> None:
    hub = Hub()
    early, late = content("a", counted(10, 2)), content("a", counted(30, 5))
    for report in (early, late, late, early):
        hub.report(report, content("b", counted(7, 1)))
    assert hub.ask() == {("short", ""): (37, 0, 0, 2), ("short", "paid"): (6, 6, 15.0, 2)}
    hub.report(early, content("b", counted(7, 1)))  # after it was written
    assert hub.ask()["short", ""][0] == 37


def test_what_a_process_counts_again_from_zero_after_it_forgot_a_row_is_added() -> None:
    hub, log = Hub(), Exposures()
    for begin, end in ((0, 10), (10, 13), (13, 14)):
        for unit in range(begin, end):
            log.expose(COPY, "short", f"u{unit}", Revision("main", "a" * 40), "copy")
        hub.report(content("a", [row for row in log.counts() if row["name"] == "copy"]))
        hub.ask()  # some of it is written, some not
        for number in range(1000):
            log.expose(Assignment(Key("split", f"s{number}", ""), (), {}), "a", end, Revision("main", "a" * 40), "s")
        log.counts()
    assert hub.ask()["short", ""] == (14, 0, 0, 3)
    hub.report(content("a", log.counts()), content("a\n1", counted(5, 0)))  # a boot that reads like a life of another
    assert hub.ask()["short", ""] == (19, 0, 0, 4)


def test_counts_stay_when_the_process_and_the_hub_are_gone() -> None:
    hub = Hub()
    hub.report(content("a", counted(10, 2)))
    hub.report(content("a", counted(12, 2), alive=False), content("b", counted(1, 0)))
    hub.fleet.lost(hub.host)
    hub.ask()
    assert Hub(hub.store).ask() == {("short", ""): (13, 0, 0, 2), ("short", "paid"): (2, 2, 5.0, 1)}


def test_a_store_that_fails_loses_nothing() -> None:
    hub = Hub()
    hub.report(content("a", counted(10, 2)))
    hub.store.close()
    with pytest.raises(Exception, match="closed"):
        hub.ask()
    hub.tally._store = SqliteStore("sqlite://")
    assert hub.ask()["short", ""] == (10, 0, 0, 1)


def test_counts_are_written_by_parts_and_what_failed_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livecfg.hub.tally._WRITTEN_AT_ONCE", 2)
    hub = Hub()
    hub.report(*(content(f"{n}", counted(n, 0)) for n in range(1, 6)))
    written: list[int] = []

    class Full(SqliteStore):
        def put_counts(self, rows: Sequence[hub_pb2.ArmCounts]) -> None:
            if len(written) == 1:
                raise OSError("disk full")
            written.append(len(rows))
            hub.store.put_counts(rows)

    hub.tally._store = Full("sqlite://")
    with pytest.raises(OSError, match="disk full"):
        hub.rows()
    assert (written, len(hub.tally._pending)) == ([2], 3)
    hub.report(content("1", counted(7, 0)))  # of those that wait, one is newer now
    hub.tally._store = hub.store
    assert hub.ask() == {("short", ""): (2 + 3 + 4 + 5 + 7, 0, 0, 5)}


def test_a_tally_that_wrote_for_long_rests_and_the_last_is_written_all_the_same() -> None:
    async def scenario() -> None:
        service = HubService(cast("Any", None), SqliteStore("sqlite://"), "repo", "main")

        def report(units: int) -> None:
            message = to_report([content("a", counted(units, 0))])[0]
            service.tally.take(message, service.fleet.take(message, Host(ANYBODY, "h", ""), 1.0), 1.0)

        report(1)
        await service.flush()
        assert service.tally._rests_until > 0
        service.tally._rests_until = math.inf  # as after a very long one
        report(2)
        await service.flush()
        assert [list(row.units) for row in await service.tally.ask(ASKED)] == [counted(1, 0)[0]["units"]]
        await service.flush(is_last=True)
        assert [list(row.units) for row in await service.tally.ask(ASKED)] == [counted(2, 0)[0]["units"]]

    asyncio.run(scenario())


def test_only_the_speaker_of_a_process_counts_for_it() -> None:
    hub = Hub()
    hub.report(content("a", counted(10, 0)))
    other = Host(Credential("mallory", frozenset(("agent",)), "search"), "host-2", "")
    hub.report(content("a", counted(1000, 0)), host=other)
    hub.report(content("c", counted(1000, 0)), host=other)  # of another service than the credential may speak for
    message = to_report([content("d", counted(1, 0))])[0]
    message.counts[0].boot = "a"  # in the report of another process
    hub.tally.take(message, hub.fleet.take(message, hub.host, 100.0), 100.0)
    assert hub.ask() == {("short", ""): (10, 0, 0, 1)}
    assert hub.tally.rejected == 3


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "flag"},
        {"name": ""},
        {"units": [-1, 5]},
        {"units": [1] * 65},
        {"sums": [math.nan]},
        {"sums": [math.inf]},
        {"observations": [1 << 60]},
    ],
)
def test_counts_that_nobody_can_have_counted_are_rejected(change: dict[str, Any]) -> None:
    hub = Hub()
    hub.report(content("a", [counted(3, 0)[0] | change]), content("b", counted(2, 0)))
    assert hub.ask() == {("short", ""): (2, 0, 0, 1)}
    assert hub.tally.rejected == 1


@pytest.mark.parametrize(
    "rows", [[{"kind": "experiment"}], ["x"], [{"units": "many"}], [None], 7, [counted(1, 0)[0] | {"units": ["x"]}]]
)
def test_a_malformed_row_of_another_program_leaves_the_rest_of_the_report(rows: Any) -> None:
    report = to_report([content("a", rows), content("b", counted(1, 0))])[0]
    assert [p.boot for p in report.processes] == ["a", "b"]
    assert [c.boot for c in report.counts] == ["b"]


def test_a_report_stays_below_what_a_message_may_have() -> None:
    rows = [row | {"units": [1 << 40] * 64} for row in counted(1, 0)] * 300
    report = to_report([content(f"{n:016x}", rows) for n in range(200)])[0]
    assert len(report.processes) == 200
    assert report.ByteSize() < 4 << 20


def test_what_one_report_has_no_room_for_comes_with_a_later_one() -> None:
    rows = [row | {"name": f"{n}", "units": [1 << 40] * 64} for row in counted(1, 0) for n in range(60)]
    contents = [content(f"{n:03}", rows) for n in range(200)]
    heard, told, reports = set(), None, 0
    while heard != {made["boot"] for made in contents}:
        report, told = to_report(contents, told)
        heard |= {row.boot for row in report.counts}
        reports += 1
    assert 2 <= reports <= 10
    few = contents[:3]
    assert to_report(few, told) == to_report(few, to_report(few, told)[1])  # the same again is no news


@pytest.mark.parametrize(("message", "told"), [("one of the values is no number; " * 3, 1), ("\u65e5" * 500, 0)])
def test_many_processes_that_refuse_much_are_all_in_one_report(message: str, told: int) -> None:
    refusal = {"code": "LC202", "message": message, "path": "config/checkout/prod.yaml", "line": 7, "advice": message}
    report = to_report([content(f"{n:03}", [], refusals=[refusal] * 20) for n in range(1000)])[0]
    assert report.ByteSize() < wire.MESSAGE_BYTES
    assert len(report.processes) == 1000
    assert (len(report.processes[0].refusals), len(report.processes[999].refusals)) == (20, told)


def test_of_more_processes_than_a_report_holds_the_fetcher_says_so_and_dead_ones_are_left_out_first() -> None:
    contents = [content(f"{n:04}", [], alive=n % 20 > 0, drift=["a"] * 30, fetcher=n == 1099) for n in range(1100)]
    report, told = to_report(contents)
    assert (len(report.processes), told.left_out) == (1000, 100)
    assert sum(process.alive for process in report.processes) == 1000
    (fetcher,) = (process for process in report.processes if process.fetcher)
    assert fetcher.drift[0] == "this host has 1100 processes, and its report 1000: 100 are not shown"
    assert len(fetcher.drift) == 20
    report, told = to_report(contents[100:])
    assert told.left_out == 0
    assert {word for process in report.processes for word in process.drift} == {"a"}


def test_a_hub_says_that_it_drops_processes_beyond_the_most_of_a_report(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    report = hub_pb2.Report(processes=[hub_pb2.Process(boot=f"{n}", alive=True) for n in range(1003)])
    assert len(hub.fleet.take(report, hub.host, 1.0)) == 1000
    assert hub.fleet.rejected == 3
    assert "reported 3 processes of others, or beyond the most of a report or a credential" in caplog.text


def test_what_is_asked_for_is_narrowed_by_service_and_env() -> None:
    hub = Hub()
    hub.report(content("a", counted(1, 0)), content("b", counted(2, 0), env="dev"), content("c", counted(4, 0), service="search"))
    asked = hub_pb2.CountsRequest(kind="experiment", name="copy", service="checkout")
    rows = hub.rows(asked)
    assert sorted((r.service, r.env, sum(r.units)) for r in rows) == [("checkout", "dev", 2), ("checkout", "prod", 1)]
    asked.env = "dev"
    assert hub.ask(asked) == {("short", ""): (2, 0, 0, 1)}


class Stub:
    """A client of a hub service over real gRPC, with a token."""

    def __init__(self, port: int, token: str) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        encode, decode = hub_pb2.CountsRequest.SerializeToString, hub_pb2.CountsReply.FromString
        self._call = self._channel.unary_unary(f"/{wire.SERVICE}/Counts", encode, decode)
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def ask(self, service: str = "") -> list[str] | str:
        """Services that were answered about, or the status of the refusal."""
        request = hub_pb2.CountsRequest(kind="experiment", name="copy", service=service)
        try:
            reply = await self._call(request, metadata=self._metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return sorted(row.service for row in reply.counts)

    async def close(self) -> None:
        await self._channel.close()


def test_counts_are_for_viewers_and_only_of_the_service_that_they_may_see() -> None:
    roles = {"viewer": ("viewer", ""), "search": ("viewer", "search"), "agent": ("agent", "")}
    tokens = [(sha256(n.encode()).hexdigest(), Credential(n, frozenset((role,)), s)) for n, (role, s) in roles.items()]  # type: ignore[arg-type]  # roles

    async def asked() -> dict[str, Any]:
        service = HubService(cast("Any", None), SqliteStore("sqlite://"), "repo", "main", Access(tokens))
        message = to_report([content("a", counted(1, 0)), content("b", counted(1, 0), service="search")])[0]
        host = Host(ANYBODY, "host-1", "")
        service.tally.take(message, service.fleet.take(message, host, 1.0), 1.0)
        await service.flush()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((service.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found = {}
        for name in (*roles, "nobody"):
            stub = Stub(port, name)
            found[name] = [await stub.ask(), await stub.ask("checkout")]
            await stub.close()
        await server.stop(0)
        return found

    assert asyncio.run(asked()) == {
        "viewer": [["checkout", "search"], ["checkout"]],
        "search": [["search"], "PERMISSION_DENIED"],
        "agent": ["PERMISSION_DENIED", "PERMISSION_DENIED"],
        "nobody": ["UNAUTHENTICATED", "UNAUTHENTICATED"],
    }


def test_what_waits_for_a_store_that_does_not_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livecfg.hub.tally._PENDING_MOST", 100)
    hub = Hub()
    report = hub_pb2.Report(processes=[hub_pb2.Process(boot="a", alive=True)])
    for number in range(1000):
        report.counts.add(boot="a", kind="split", name="copy", arm=str(number), units=[1])
    report.counts.add(boot="a", kind="split", name="x" * 10_000, arm="short", units=[1])
    hub.tally.take(report, hub.fleet.take(report, hub.host, 1.0), 1.0)
    assert (len(hub.tally._pending), hub.tally.rejected) == (100, 901)


def test_the_largest_row_that_livecfg_makes_is_taken() -> None:
    hub = Hub()
    most = (1 << 53) - 1
    report = hub_pb2.Report(processes=[hub_pb2.Process(boot="a", alive=True)])
    made = report.counts.add(boot="a" * 1, kind="experiment", units=[most] * 64, observations=[most] * 64, sums=[1e300] * 64)
    for name in ("name", "phase", "arm", "metric"):
        setattr(made, name, "\u65e5" * 200)
    hub.tally.take(report, hub.fleet.take(report, hub.host, 1.0), 1.0)
    assert hub.tally.rejected == 0


def test_of_more_rows_than_are_kept_the_oldest_go_into_the_totals_as_soon_as_many_are_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("livecfg.hub.tally.KEPT_ROWS", 4)
    monkeypatch.setattr("livecfg.hub.tally._FORGET_EVERY_ROWS", 6)
    hub = Hub()
    for n in range(8):
        hub.report(content(f"boot-{n}", counted(1, 0)), now=100.0 + n)
        hub.ask()
    assert hub.ask() == {("short", ""): (8, 0, 0, 8)}
    assert "4 rows of counts are kept; the 2 oldest are in the totals alone from now on" in caplog.text
