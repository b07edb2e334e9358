"""What is wrong with one run, one sequence or one definition stops nothing else."""

import contextlib
import json
import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database import sequence_memory
from jobfac.database.engine import Database
from jobfac.database.tables import job_version, notification, run, schedule, worker_lease
from jobfac.scheduler import Scheduler
from jobfac.scheduler import notifier as notifying
from jobfac.scheduler.notifier import Notifier
from jobfac.settings import Settings
from jobfac.states import RunState
from jobfac.store import outbox, output, parameters, runs, schedules, sequences, workers
from jobfac.store.runs import Finished, Outcome, StartRequest
from jobfac.store.sequences import advance
from jobfac.worker import identity
from jobfac.worker.lease import register
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.worker import Worker
from tests.support.api_stage import Served
from tests.support.database import Hand, define, get, start
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for
from tests.support.outbox import notified_events, on
from tests.support.process_stage import left_file
from tests.support.sequences import Player


def test_a_number_that_is_too_large_fails_the_step_and_nothing_else(db: Database) -> None:
    """A program may report a whole number of any length."""
    steps = [
        {"name": "one", "jobs": ["a"]},
        {"name": "two", "jobs": ["b"], "parameters": {"b": {"n": "${steps.one.a.outputs.n}"}}},
    ]
    define(db, a={}, b={"parameters": {"n": {"type": "number"}}}, seq={"steps": steps})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    (ended,) = player.finish("a", outputs=json.dumps({"n": 10**400}))
    assert (ended.run_id, get(db, run_id)["state"]) == (run_id, "failed")
    assert "must be a number" in get(db, run_id)["reason"]


@pytest.mark.parametrize(
    "value", ["1" * 5000, "[" + "1" * 5000 + "]", "1e999", '"a\nb"'], ids=["long", "inside", "big", "line"]
)
def test_json_that_only_the_database_reads_ends_its_run_at_most(served: Served, value: str) -> None:
    """T-SQL takes such values of parameters. They ended each worker that claimed the run."""
    served.define("job", parameters={"p": {}, "q": {"many": True}})
    run_id = served.start("job", delay="1h")
    served.start("job", delay="1h")
    with served.db.begin() as conn:
        stored = f'{{"{"q" if value.startswith("[") else "p"}": {value}}}'
        conn.execute(run.update().where(run.c.id == run_id).values(parameters=stored))
        conn.execute(run.update().values(state="queued", queued_at=run.c.created_at, ready_at=None))
    with served.worker():
        wait_for(lambda: _states(served, "job") == ["succeeded"] * 2, "both runs have ended")


def test_an_unknown_fault_of_one_start_stops_no_other(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is simulated: none is known."""

    def fail(conn: sa.Connection, definition: d.AnyJob, said: parameters.Start) -> dict[str, object]:
        if said.job == "a":
            raise KeyError("x")
        return before(conn, definition, said)

    before = parameters.prepare
    monkeypatch.setattr(parameters, "prepare", fail)
    define(db, a={}, b={})
    bad, good = db.transact(runs.start_each, [StartRequest("a", "me"), StartRequest("b", "me")])
    assert (str(bad), isinstance(good, int)) == ("Job 'a' cannot be started: KeyError('x').", True)


def _fail(conn: object, run_id: int, by: str) -> Finished | None:
    """Stands for a fault that nobody knows."""
    raise RuntimeError


def _sweep_until_failed(served: Served, run_id: int) -> None:
    def failed() -> bool:
        served.db.transact(sequences.sweep, "me")
        return bool(served.viewer.get(f"/v1/runs/{run_id}").json()["state"] == "failed")

    wait_for(failed, "the sequence is advanced")


def test_dead_workers_are_expired_although_a_sequence_cannot_be_advanced(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_memory, "LEFT_OUT_FOR", 2.0)
    served.define("a", restartable=False)
    served.admin.put("/v1/jobs/seq", json={"steps": [{"name": "one", "jobs": ["a"]}]}).raise_for_status()
    for expired_by in ("worker", "scheduler"):
        run_id = served.start("seq")
        player = Player(served.db)
        assert player.look() == ["a"]
        player.lapse()
        with monkeypatch.context() as patched:
            patched.setattr(advance, "_advance", _fail)
            if expired_by == "worker":
                with served.worker() as worker:
                    wait_for(lambda: _states(served, "a")[0] == "lost", "the run of the dead worker has ended")
                    assert worker.running == 0
            else:
                _expire_to_the_end(served)
        _sweep_until_failed(served, run_id)


def test_a_worker_registers_again_although_a_sequence_cannot_be_advanced(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_memory, "LEFT_OUT_FOR", 2.0)
    served.define("a", command=["sleep", "600"], restartable=False)
    served.define("other")
    served.admin.put("/v1/jobs/seq", json={"steps": [{"name": "one", "jobs": ["a"]}]}).raise_for_status()
    run_id = served.start("seq")
    with served.worker() as worker:
        wait_for(lambda: worker.running == 1, "the program runs")
        with monkeypatch.context() as patched:
            patched.setattr(advance, "_advance", _fail)
            with served.db.begin() as conn:  # as an expiry does
                conn.execute(worker_lease.update().values(ended=True))
            wait_for(lambda: _states(served, "a") == ["lost"], "the run has ended", 60)
            other = served.start("other")
            wait_for(lambda: served.viewer.get(f"/v1/runs/{other}").json()["ended_at"], "the worker goes on")
    _sweep_until_failed(served, run_id)


def _expire_to_the_end(served: Served) -> None:
    scheduler = Scheduler(served.db, served.settings, "s1")

    def is_over() -> bool:
        scheduler._expire()  # on SQLite several give notice first
        return _states(served, "a")[0] == "lost"

    wait_for(is_over, "the run of the dead worker has ended")


def _states(served: Served, job: str) -> list[str]:
    return [one["state"] for one in served.viewer.get("/v1/runs", params={"job": job}).json()["items"]]


NEWER = '{"command": ["true"], "of_a_later_version": 1}'


def test_output_of_a_job_that_cannot_be_read_is_left_to_a_newer_worker(sqlite_url: str, tmp_path: Path) -> None:
    """A dead worker of a newer version has left it. Without the definition its secrets are not known."""
    db = Database(sqlite_url)
    define(db, newer={})
    run_id = start(db, "newer")
    hand = Hand(db, "dead")
    hand.take()
    dead = SpoolFolder(tmp_path / "spool", hand.name, hand.name)
    dead.ensure()
    left_file(dead.path, run_id).write_text("hello")
    assert dead._lock is not None
    os.close(dead._lock)  # the process has ended
    with db.begin() as conn:
        conn.execute(job_version.update().values(definition=NEWER))
    living = SpoolFolder(tmp_path / "spool", "living", "living")
    living.ensure()
    for _ in range(2):
        living.clear_dead(db)
    assert left_file(dead.path, run_id).read_text() == "hello"
    with db.begin() as conn:
        conn.execute(job_version.update().values(definition='{"command": ["true"]}'))
    living.clear_dead(db)
    assert not dead.path.exists()
    db.close()


def test_a_worker_that_ends_by_an_error_leaves_the_output_of_its_programs(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker of the machine stores it, as after kill -9."""
    db = Database(sqlite_url)
    define(db, job={"command": ["sh", "-c", "echo hello; exec sleep 600"]})
    run_id = start(db, "job")
    settings = Settings(spool=str(tmp_path / "spool"))
    worker = Worker(db, settings, name="w1", slots=1)
    iterate = worker._iterate

    def iterate_until_written() -> None:
        iterate()
        if any(b"hello" in path.read_bytes() for path in tmp_path.rglob("*.stdout")):
            raise ZeroDivisionError

    def refuse(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(worker, "_iterate", iterate_until_written)
        patched.setattr("jobfac.worker.shipping._store", refuse)
        with pytest.raises(ZeroDivisionError):
            worker.run()
    db = Database(sqlite_url)
    SpoolFolder(tmp_path / "spool", "living", "living").clear_dead(db)
    assert get(db, run_id)["state"] == "running", "until its worker's lease expires, which counts as a lost attempt"
    with db.read() as conn:
        assert b"".join(piece.data for piece in output.read(conn, run_id, 1, {"stdout": 0}, limit=99)) == b"hello\n"
    wait_for(lambda: not any((tmp_path / "spool").iterdir()), "nothing is left")
    db.close()


def test_a_retry_is_stored_although_its_schedule_cannot_be_read(db: Database) -> None:
    define(db, job={})
    body = {"command": ["true"], "schedules": [{"cron": "0 6 * * *", "blackout": ["SAT 22:00 - SUN 06:00"]}]}
    wanted = d.from_data({"jobs": {"job": body}}).jobs["job"]
    db.transact(schedules.put, "job", wanted, "me")
    with db.begin() as conn:
        schedule_id = conn.execute(sa.select(schedule.c.id)).scalar_one()
        conn.execute(schedule.update().values(definition='{"blackout": [], "of_a_later_version": 1}'))
    run_id = start(db, "job", schedule_id=schedule_id)
    hand = Hand(db)
    outcome = Outcome(run_id, hand.take().attempt, RunState.FAILED, retry_after=60.0)
    (kept,) = db.query(schedules.hold_back, [outcome])
    assert kept == outcome


def test_a_registration_whose_answer_is_lost_is_one(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [True, False]
    begin = db.begin

    @contextlib.contextmanager
    def losing() -> Iterator[sa.Connection]:
        with begin() as conn:
            yield conn
        if lost.pop(0):  # after the commit
            raise sa.exc.DBAPIError("", None, Exception(), connection_invalidated=True)

    monkeypatch.setattr(db, "begin", losing)
    monkeypatch.setattr(db, "is_transient", lambda error: isinstance(error, sa.exc.DBAPIError))
    called: list[object] = []
    worker_id, _ = register(db, identity.registration("w1", 1, ["default"], None), settings, called.append)
    monkeypatch.undo()
    assert ([one.id for one in db.query(workers.workers)], len(called), lost) == ([worker_id], 1, [])


def test_notifications_whose_take_lost_its_answer_are_sent_at_once_and_once(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(db, job={"notify": [on("stopped")]})
    db.transact(runs.request_stop, start(db, "job"), now=False, by="me")
    lost = [False, True]  # the answer to the take, which comes after the addressing
    begin = db.begin

    @contextlib.contextmanager
    def losing() -> Iterator[sa.Connection]:
        with begin() as conn:
            yield conn
        if lost and lost.pop(0):  # after the commit
            raise sa.exc.DBAPIError("", None, Exception(), connection_invalidated=True)

    monkeypatch.setattr(db, "begin", losing)
    monkeypatch.setattr(db, "is_transient", lambda error: isinstance(error, sa.exc.DBAPIError))
    sent: queue.Queue[outbox.Taken] = queue.Queue()
    notifier = Notifier(db, settings, "s")
    monkeypatch.setattr(notifier, "_deliver", sent.put)
    notifier._work()
    assert sent.get(timeout=10).tries == 1
    notifier._work()
    assert (sent.empty(), lost) == (True, [])


@pytest.mark.parametrize("url", DRIVERS[:1], indirect=True)
def test_a_notification_whose_result_cannot_be_stored_at_once_is_sent_once(
    db: Database, settings: Settings, faults: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails over after the message was sent, and refuses logins for a moment."""
    define(db, job={"notify": [on("stopped")]})
    db.transact(runs.request_stop, start(db, "job"), now=False, by="me")
    faults("error 18456 matching 'UPDATE.*delivered_at' first 1")
    sent: list[object] = []
    monkeypatch.setattr("jobfac.channels.deliver", lambda message, *more: sent.append(message))
    monkeypatch.setattr(notifying, "RECORD_PAUSE", 0.0)
    notifier = Notifier(db, settings, "s")
    notifier._work()
    states = sa.select(notification.c.state)
    wait_for(lambda: db.query(lambda conn: conn.execute(states).scalar()) == "delivered", "stored")
    assert len(sent) == 1


def test_a_notifier_that_fails_makes_the_duty_of_its_scheduler_fail(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = Notifier(db, settings, "s")
    worked: queue.Queue[int] = queue.Queue()

    def work() -> None:
        worked.put(1)
        if worked.qsize() == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(notifier, "_work", work)
    notifier.start()
    notifier.wake()
    with pytest.raises(ZeroDivisionError):
        wait_for(notifier.wake, "the first round has failed")
    wait_for(lambda: worked.qsize() > 1, "the round is repeated")
    notifier.wake()
    notifier.close()


def test_what_cannot_be_notified_delays_no_other_notification(db: Database) -> None:
    define(db, job={"notify": [on("stopped")]})
    ids = [start(db, "job", overrides={"notify": [on("stopped", to={"email": "a@b"})]}) for _ in range(2)]
    with db.begin() as conn:
        newer = json.dumps({"notify": [{"on": ["stopped"], "to": {"pigeon": "x"}}]})
        conn.execute(run.update().where(run.c.id == ids[0]).values(overrides=newer))
    for run_id in ids:
        db.transact(runs.request_stop, run_id, now=False, by="me")
    assert notified_events(db) == [("job", "stopped")] * 3  # the job's recipient of both, and that of the second start
    with db.begin() as conn:
        first = conn.execute(sa.select(sa.func.min(notification.c.id))).scalar_one()
        conn.execute(notification.update().where(notification.c.id == first).values(recipient='{"pigeon": "x"}'))
    taken = [db.transact(outbox.take, 1, 60.0) for _ in range(2)]
    assert [len(some) for some in taken] == [0, 1]
