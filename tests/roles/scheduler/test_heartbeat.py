"""The dead man's switch: a URL is called while schedulers turn, the database answers and a worker lives."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobfac.channels import DeliveryError, webhook
from jobfac.database.engine import Database
from jobfac.scheduler import Scheduler
from jobfac.scheduler.poll import read_poll
from jobfac.settings import Settings
from jobfac.store.holds import placing
from jobfac.store.holds.placing import Scope
from tests.support.database import Hand
from tests.support.factory import wait_for
from tests.support.receivers import Receiver


class Calls:
    """A server that takes GET alone, and records its paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        calls = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.paths.append(self.path)
                self.send_response(200 if self.path.startswith("/ok") else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = Calls()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_it_beats_once_a_worker_is_alive(sqlite_url: str, settings: Settings, calls: Calls) -> None:
    db = Database(sqlite_url)
    hold = db.transact(placing.place, Scope(), "why", None, "me")
    db.transact(placing.release, hold.id, "me")
    one = Scheduler(db, replace(settings, heartbeat_url=f"{calls.url}/ok/secret", sweep_interval=0.05), "s")
    thread = threading.Thread(target=one.run)
    thread.start()
    try:

        def has_freed() -> bool:
            """The duty after the heartbeat has had its turn, so the heartbeat would have had its own, too."""
            (last,) = [m for m in one.metrics() if m.name == "jobfac_scheduler_duty_last_timestamp_seconds"]
            assert isinstance(last.value, dict)
            return bool(last.value["unhold"])

        wait_for(has_freed, "the scheduler turns")
        assert calls.paths == []
        Hand(db)
        assert wait_for(lambda: calls.paths, "it is called") == ["/ok/secret"]
    finally:
        one.stop()
        thread.join()
        db.close()


def test_it_does_not_beat_while_schedules_do_not_fire(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    with db.singles.connect() as conn:
        found = read_poll(conn)
    db.close()
    alive = found._replace(alive_until=found.now + timedelta(seconds=9))
    assert [alive.is_well, found.is_well] == [True, False]
    for ago, is_well in ((-60, True), (60, True), (180, False)):
        assert alive._replace(fire_at=found.now - timedelta(seconds=ago)).is_well is is_well


def test_a_receiver_that_takes_no_get_is_posted_to(settings: Settings) -> None:
    receiver = Receiver()
    try:
        webhook.call(f"{receiver.url}/beat", settings)
        assert [(post.path, post.body) for post in receiver.posts] == [("/beat", b"")]
    finally:
        receiver.close()


def test_what_fails_is_an_error_without_the_path(settings: Settings, calls: Calls) -> None:
    with pytest.raises(DeliveryError, match=r"^127\.0\.0\.1 answered 404$"):
        webhook.call(f"{calls.url}/secret", settings)
    with pytest.raises(DeliveryError, match="cannot be used"):
        webhook.call("ftp://x/secret", settings)
    with pytest.raises(DeliveryError) as refused:
        webhook.call(f"{calls.url}/ok/secret", replace(settings, webhook_allow_private=False))
    assert "secret" not in str(refused.value)
    assert calls.paths == ["/secret"]
