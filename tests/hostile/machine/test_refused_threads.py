"""A machine that refuses threads for a while, as under a limit of processes, stops nothing for good."""

import errno
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from socketserver import TCPServer

import httpx
import pytest

from jobfac.api import Server
from jobfac.api.serving import loop_watch
from jobfac.channels import DeliveryError, egress
from jobfac.database.engine import Database
from jobfac.machine import threads
from jobfac.programs import Series
from jobfac.programs.files import inquiry, places
from jobfac.programs.files.places import Places
from jobfac.scheduler.asker import AT_A_TIME, Asker
from jobfac.scheduler.notifier import MAX_DELIVERIES, Notifier
from jobfac.settings import Settings
from jobfac.store import outbox, runs
from jobfac.store.sequences import WaitingVisit
from jobfac.telemetry.exporter import NOT_ACCEPTED_PAUSE, Exporter
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.files.events import NoEvents
from jobfac.worker.files.lanes import Lanes
from jobfac.worker.files.watcher import FileWatcher
from tests.support.database import define, start
from tests.support.factory import wait_for
from tests.support.outbox import on

Refuse = Callable[[bool], None]


@pytest.fixture(params=["refused", "without memory"])
def refuse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Make every start of a thread fail as it does on such a machine, until it is called with False.

    A thread without memory ends before it begins, without an error.
    """

    def refused(*arguments: object) -> None:
        if request.param == "refused":
            raise RuntimeError("can't start new thread")

    def switch(is_on: bool) -> None:
        if is_on:
            monkeypatch.setattr(threads, "start_new_thread", refused)
            monkeypatch.setattr(threads, "BEGINS", 0.01)
            if request.param == "refused":
                monkeypatch.setattr(threading.Thread, "start", refused)
        else:
            monkeypatch.undo()

    return switch


def test_a_thread_that_begins_after_it_was_given_up_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], None]] = []
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threads, "start_new_thread", lambda run, arguments: late.append(run))
        patch.setattr(threads, "BEGINS", 0.01)
        with pytest.raises(RuntimeError, match="cannot begin"):
            threads.begin(done.append, 1)
    late[0]()
    assert done == []
    threads.begin(done.append, 2)
    wait_for(lambda: done == [2], "a thread begins again")


def test_what_comes_too_late_is_disposed_of() -> None:
    go_on, late = threading.Event(), queue.SimpleQueue[bool]()
    before = set(threads._living)  # a driver of another test may still wait for its server
    with pytest.raises(TimeoutError):
        threads.within(0.01, lambda: go_on.wait(20), late.put)
    assert threads.are_alive()
    go_on.set()
    assert late.get(timeout=20)
    wait_for(lambda: threads._living <= before, "the thread has ended")


def test_what_comes_in_time_is_returned_or_raised() -> None:
    def fail() -> None:
        raise TimeoutError("of its own")

    assert threads.within(20.0, lambda: 5, print) == 5
    with pytest.raises(TimeoutError, match="of its own"):
        threads.within(20.0, fail, print)


def test_notifications_are_sent_when_there_are_threads_again(db: Database, settings: Settings, refuse: Refuse) -> None:
    define(db, job={"notify": [on("stopped")]})
    for _ in range(MAX_DELIVERIES + 1):
        db.transact(runs.request_stop, start(db, "job"), now=False, by="me")
    sent: queue.Queue[outbox.Taken] = queue.Queue()
    notifier = Notifier(db, settings, "s")

    def deliver(taken: outbox.Taken) -> None:
        sent.put(taken)
        notifier._end(taken)

    notifier._deliver = deliver  # type: ignore[method-assign]
    notifier._closing.wait = lambda timeout=None: False  # type: ignore[method-assign]
    refuse(True)
    notifier._work()
    refuse(False)
    notifier._work()
    tries = [sent.get(timeout=10).tries for _ in range(MAX_DELIVERIES + 1)]
    assert (tries, sent.empty()) == ([1] * (MAX_DELIVERIES + 1), True)


def test_addresses_are_asked_when_there_are_threads_again(sqlite_url: str, settings: Settings, refuse: Refuse) -> None:
    asker = Asker(Database(sqlite_url), settings, "s")
    refuse(True)
    asker.ask(WaitingVisit(one, 1, "step", f'{{"http": "http://host{one}/"}}') for one in range(AT_A_TIME))
    assert asker.free == AT_A_TIME


def test_folders_are_scanned_when_there_are_threads_again(tmp_path: Path, refuse: Refuse) -> None:
    (tmp_path / "a.csv").touch()
    lanes = Lanes(NoEvents())
    refuse(True)
    assert 0.0 < (lanes.begin([f"{tmp_path}/*.csv"], 1000.0) or 0.0) < 1010.0
    refuse(False)
    lanes.begin((), 1001.0)
    found = wait_for(lanes.results, "scanned")
    assert list(found[0].found.files) == [f"{tmp_path}/a.csv"]


def test_the_watcher_of_files_begins_when_there_are_threads_again(
    sqlite_url: str, settings: Settings, refuse: Refuse
) -> None:
    watcher = FileWatcher(Database(sqlite_url), settings, "w", ["default"])
    refuse(True)
    watcher.noticed(1)
    assert watcher._events is None
    refuse(False)
    watcher.noticed(1)
    assert watcher._events is not None
    watcher.close()
    assert watcher._gone.is_set()


def test_a_delivery_whose_time_no_thread_can_limit_is_tried_again(refuse: Refuse) -> None:
    before = set(threads._living)
    refuse(True)
    with pytest.raises(DeliveryError, match="a thread cannot begin"), egress.guarded(Settings()):
        pass
    refuse(False)
    with egress.guarded(Settings()) as rule:
        assert egress.active() is rule
    wait_for(lambda: threads._living <= before, "the thread that limits its time has ended")


def test_metrics_are_served_when_there_are_threads_again(sqlite_url: str, refuse: Refuse) -> None:
    with Exporter("127.0.0.1:0", Database(sqlite_url), []) as exporter:
        refuse(True)
        with pytest.raises(httpx.TransportError):
            httpx.get(exporter.url)
        refuse(False)
        assert "jobfac_statements" in httpx.get(exporter.url).text


def test_a_client_that_no_descriptor_is_free_for_costs_no_processor(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop of the metrics took it from the kernel's queue again and again, beside the worker's heartbeat."""
    tried: list[float] = []

    def refused(server: TCPServer) -> None:
        tried.append(time.monotonic())
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with Exporter("127.0.0.1:0", Database(sqlite_url), []) as exporter, monkeypatch.context() as patch:
        patch.setattr(TCPServer, "get_request", refused)
        address = exporter.url.removeprefix("http://").removesuffix("/metrics").split(":")
        with socket.create_connection((address[0], int(address[1]))):
            wait_for(lambda: len(tried) > 2, "three tries")
    assert tried[2] - tried[0] >= 2 * NOT_ACCEPTED_PAUSE


def test_old_files_are_removed_when_there_are_threads_again(tmp_path: Path, settings: Settings, refuse: Refuse) -> None:
    old = tmp_path / "out-20200101T000000Z-1.log"
    old.touch()
    os.utime(old, (0, 0))
    files = OldFiles(replace(settings, retention=1.0), logging.getLogger())
    series = [Series(f"{tmp_path}/out-*.log", None, f"{tmp_path}/out-*.log", "job")]
    refuse(True)
    files.after(None, series)  # it ended the worker, with all of its programs
    refuse(False)
    files.after(None, series)
    wait_for(lambda: not old.exists(), "removed")


def test_a_thread_without_the_memory_to_begin_does_not_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own start of a thread waits for ever then."""
    with ThreadPoolExecutor(1) as loop:
        loop.submit(int).result()  # its thread has begun
        monkeypatch.setattr(threading.Thread, "_bootstrap", lambda thread: None)
        found = loop.submit(Places(lambda: None).silent, [str(tmp_path)])
        try:
            assert found.result(10) is None
        finally:
            for thread in threading.enumerate():
                thread._started.set()  # type: ignore[attr-defined]  # a start that waits so would not let the test end


def test_a_start_does_not_wait_for_a_look_that_has_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start then finds out itself that the machine lacks memory, and no drive is blamed."""
    asked = Places(lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(places, "start_new_thread", lambda run, arguments: 0)  # it ends before it begins
        assert asked.silent([str(tmp_path)]) == str(tmp_path)
        wait_for(lambda: asked.silent([str(tmp_path)]) is None, "an answer")
    with monkeypatch.context() as patch:

        def fails(path: str) -> os.stat_result:
            raise MemoryError

        patch.setattr(inquiry, "look", fails)
        wait_for(lambda: asked.silent([str(tmp_path / "other")]) is None, "an answer")


def test_that_nobody_can_look_at_a_file_is_no_change_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a program that is silent for too long would count as one that has written."""

    def refused(*_: object) -> None:
        raise RuntimeError

    asked = Places(lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(places, "start_new_thread", refused)
        assert asked.seen([str(tmp_path)]) is None
    wait_for(lambda: asked.seen([str(tmp_path)]), "an answer")


def test_an_api_whose_event_loop_is_stuck_says_so_and_ends(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that begins without memory keeps the event loop waiting."""
    monkeypatch.setattr(loop_watch, "SECOND", 0.01)
    server, stuck, go_on = Server(db, Settings(api_port=0)), threading.Event(), threading.Event()
    server.when_stuck(stuck.set)
    monkeypatch.setattr(db.dialect, "check_file", go_on.wait)
    serving = threading.Thread(target=server.run)
    with caplog.at_level(logging.ERROR):
        serving.start()
        try:
            assert stuck.wait(10)
            assert server.is_stuck
        finally:
            go_on.set()
    assert "the API's event loop is stuck" in caplog.text
    wait_for(lambda: not server.is_stuck)
    server.stop()
    serving.join(10)
    assert not serving.is_alive()
