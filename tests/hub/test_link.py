"""What a host tells its hub: what is news, all of it on each new stream, over real gRPC and the files of real processes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from livecfg.flags.assignment import Assignment, Key
from livecfg.git.reports import Reports
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.link import HubLink
from livecfg.layers import Process
from livecfg.reporting import Reporter
from livecfg.revision import Revision
from livecfg.signals import Signals
from tests.e2e.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REVISION = Revision("main", "a" * 40)


class Listener:
    """A hub that writes down what it is told, by stream, and ends streams on demand."""

    def __init__(self) -> None:
        self.told: list[list[hub_pb2.Report]] = []
        self._calls: list[Any] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.stream_stream_rpc_method_handler(
            self._follow, hub_pb2.FromHost.FromString, hub_pb2.Offer.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, {"Follow": handler}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def start(self) -> None:
        self._server.start()
        eventually(lambda: self.told, 30)

    def _follow(self, requests: Iterator[hub_pb2.FromHost], call: Any) -> Iterator[hub_pb2.Offer]:
        yield hub_pb2.Offer(heartbeat=True)
        assert next(requests).HasField("hello")
        reports: list[hub_pb2.Report] = []
        self._calls.append(call)
        self.told.append(reports)
        reports.extend(message.report for message in requests if message.HasField("report"))

    def cut(self) -> None:
        self._calls[-1].cancel()

    def stop(self) -> None:
        self._server.stop(0).wait()


class Status:
    """What a report says of a process that serves something."""

    def as_dict(self) -> dict[str, str]:
        return {"condition": "READY"}


class Site:
    """A host of some processes, whose fetcher follows the listener."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.now = 0.0
        self.signals = {boot: Signals() for boot in ("a", "b")}
        self._reports = {boot: Reports(folder) for boot in self.signals}
        self._reporters = {
            boot: Reporter(self._reports[boot], Process("checkout", "prod"), self.signals[boot], lambda: self.now)
            for boot in self.signals
        }
        self._listener = listener
        self.link = HubLink(f"127.0.0.1:{listener.port}", repo_id="r", ref="main", have=str, offer=lambda *_: None)

    def close(self) -> None:
        self.link.close()
        for reports in self._reports.values():
            reports.close()

    def shown(self, boot: str, name: str, unit: str) -> None:
        self.signals[boot].expose(Assignment(Key("split", name, ""), (), {}), "on", unit, REVISION, name)

    def report(self, after_s: float = 5.0) -> None:
        self.now += after_s
        for boot, reporter in self._reporters.items():
            reporter.write(Status(), boot)  # type: ignore[arg-type]  # all that it is asked
        self.link.report(lambda whole: self._reporters["a"].of_host(are_sent=True, whole=whole))

    def tells(self, stream: int, number: int) -> list[tuple[str, str, int]]:
        """Give the counts of a report: process, name, units."""
        report = eventually(lambda: self._listener.told[stream:][:1] and self._listener.told[stream][number:], 30)[0]
        assert [process.boot for process in report.processes] == ["a", "b"]
        return sorted((row.boot, row.name, sum(row.units)) for row in report.counts)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.stop()


@pytest.fixture
def site(tmp_path: Path, listener: Listener) -> Iterator[Site]:
    made = Site(tmp_path, listener)
    yield made
    made.close()


def test_a_report_has_the_counts_that_changed_and_on_a_new_stream_all_of_them(site: Site, listener: Listener) -> None:
    listener.start()
    site.shown("a", "one", "u1")
    site.shown("a", "two", "u1")
    site.shown("b", "one", "u1")
    site.report()
    assert site.tells(0, 0) == [("a", "one", 1), ("a", "two", 1), ("b", "one", 1)]
    site.report()  # nothing changed, so nothing is sent
    site.shown("a", "two", "u2")
    site.report()
    assert site.tells(0, 1) == [("a", "two", 2)]
    site.shown("b", "new", "u1")
    site.report()
    assert site.tells(0, 2) == [("b", "new", 1)]
    listener.cut()
    assert site.tells(1, 0) == []  # who serves what, at once
    site.report()
    assert site.tells(1, 1) == [("a", "one", 1), ("a", "two", 2), ("b", "new", 1), ("b", "one", 1)]


def test_a_report_that_was_not_sent_yet_is_replaced_by_one_that_has_its_counts(site: Site, listener: Listener) -> None:
    eventually(lambda: site.link._streams, 30)  # its hello waits for somebody who listens
    site.shown("a", "one", "u1")
    site.report(0)
    site.shown("b", "two", "u1")
    site.report(0)
    site.report(0)
    listener.start()
    site.report(0)
    wanted = {("a", "one"), ("b", "two")}
    eventually(lambda: {(row.boot, row.name) for report in listener.told[0] for row in report.counts} == wanted, 30)


def test_from_time_to_time_all_counts_are_told_for_a_hub_may_have_had_no_room(
    site: Site, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.start()
    site.shown("a", "one", "u1")
    site.report()
    assert site.tells(0, 0) == [("a", "one", 1)]
    monkeypatch.setattr(site.link, "_tell_all_at", time.monotonic())
    site.report()
    assert site.tells(0, 1) == [("a", "one", 1)]
    site.shown("b", "two", "u1")
    site.report()
    assert site.tells(0, 2) == [("b", "two", 1)]


def test_that_processes_of_a_host_are_left_out_is_logged_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def many(_: bool) -> list[dict[str, Any]]:  # noqa: FBT001 - as the link calls it
        return [{"boot": f"{n}", "pid": n, "service": "s", "env": "e", "condition": "READY"} for n in range(1001)]

    for _ in range(3):
        site.link.report(many)
    assert caplog.text.count("the hub does not hear of 1 processes of this host") == 1


def test_counts_that_came_while_a_stream_began_are_told_on_it(site: Site, listener: Listener) -> None:
    """The report was made of what the old stream knew, and is sent on the new one: that is told all with the next."""
    listener.start()
    site.shown("a", "one", "u1")
    site.report()
    assert site.tells(0, 0) == [("a", "one", 1)]
    reporter, began = site._reporters["a"], threading.Event()

    def slowly(whole: bool) -> list[dict[str, Any]]:  # noqa: FBT001 - as the link calls it
        found = reporter.of_host(are_sent=True, whole=whole)
        listener.cut()
        eventually(lambda: listener.told[1:] and listener.told[1], 30)
        began.set()
        return found

    site.shown("b", "two", "u1")
    site.now += 60
    site._reporters["b"].write(Status(), "b")  # type: ignore[arg-type]  # as above
    site.link.report(slowly)
    assert began.is_set()
    assert site.tells(1, 1) == [("b", "two", 1)]
    site.report()
    assert site.tells(1, 2) == [("a", "one", 1), ("b", "two", 1)]
