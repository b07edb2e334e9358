"""Retry and stop many runs: each at most once, however often it is asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import notes, starting
from jobfac.operations.bulk import many
from jobfac.operations.caller import Caller
from jobfac.states import ACTIVE, FINAL, TO_ACKNOWLEDGE, RunState
from jobfac.store import sequences
from jobfac.store.history.search import Filter
from jobfac.views.results.many import ManyView, Result
from tests.support.database import Hand, define, get, now, start, state, states
from tests.support.engines import ENGINES
from tests.support.sequences import Player, children
from tests.support.tsql import call

ANN = Caller("ann")


def retry(db: Database, wanted: Filter, by: Caller = ANN, dry_run: bool = False) -> list[ManyView]:
    return many.retry(db, by, many.choose_all(db, by, wanted, 100, FINAL), dry_run=dry_run)


def stop(db: Database, wanted: Filter, by: Caller = ANN, dry_run: bool = False) -> list[ManyView]:
    return many.stop(db, by, many.choose_all(db, by, wanted, 100, ACTIVE), dry_run=dry_run)


def failed(db: Database, job: str, number: int) -> list[int]:
    ids = [start(db, job) for _ in range(number)]
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed, RunState.FAILED, reason="exit code 1")
    return ids


def test_failures_are_retried_once_oldest_first(db: Database) -> None:
    define(db, a={}, b={})
    ids = failed(db, "a", 3)
    failed(db, "b", 1)
    wanted = Filter(job="a", since=now(db) - timedelta(hours=1))
    assert [(line.id, line.result) for line in retry(db, wanted, dry_run=True)] == [(id, Result.CHOSEN) for id in ids]
    assert len(many.choose_all(db, ANN, Filter(job="a"), 100, FINAL)) == 3
    lines = retry(db, wanted)
    assert [line.id for line in lines] == ids
    new = [line.new_run for line in lines if line.new_run is not None]
    assert new == sorted(new)
    assert [get(db, run_id)["retry_of"] for run_id in new] == ids
    again = retry(db, wanted)
    assert {line.result for line in again} == {Result.SKIPPED}
    assert again[0].reason == f"it was retried as run {new[0]}"


def test_what_was_retried_by_hand_is_not_retried_again(db: Database) -> None:
    define(db, a={})
    (run_id,) = failed(db, "a", 1)
    starting.retry(db, ANN, run_id)
    assert retry(db, Filter(job="a"))[0].result is Result.SKIPPED


def test_a_denied_retry_may_be_tried_again(db: Database) -> None:
    define(db, a={"already_running": "deny"})
    (run_id,) = failed(db, "a", 1)
    busy = start(db, "a")
    (denied,) = retry(db, Filter(job="a", states=[RunState.FAILED]))
    assert (denied.result, denied.reason) == (Result.REFUSED, "another run of the job is still active")
    stop(db, Filter(job="a"))
    assert state(db, busy) == "stopped"
    (done,) = retry(db, Filter(job="a", states=[RunState.FAILED]))
    assert (done.id, done.result) == (run_id, Result.DONE)


def test_the_runs_of_a_sequence_are_left_to_its_own_retry(db: Database) -> None:
    define(db, a={})
    lone = start(db, "a")
    inside = start(db, "a", sequence_run_id=77)
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed, RunState.FAILED)
    lines = {line.id: line for line in retry(db, Filter(job="a"), dry_run=True)}
    assert lines[lone].result is Result.CHOSEN
    assert lines[inside].reason == "it belongs to the sequence run 77; retry that"
    assert retry(db, Filter(sequence_run_id=77), dry_run=True)[0].result is Result.CHOSEN


def test_all_runs_of_a_job_are_stopped_waiting_ones_first(db: Database) -> None:
    define(db, a={"concurrency": {"limit": 1, "key": "k"}}, b={})
    ids = [start(db, "a") for _ in range(3)]
    other = start(db, "b")
    Hand(db).claim(1)
    assert states(db, ids) == ["running", "blocked", "blocked"]
    assert [line.result for line in stop(db, Filter(job="a"), dry_run=True)] == [Result.CHOSEN] * 3
    assert [line.id for line in stop(db, Filter(job="a"))] == [ids[1], ids[2], ids[0]]
    assert states(db, [*ids, other]) == ["stopping", "stopped", "stopped", "queued"]
    assert [line.result for line in stop(db, Filter(job="a"))] == [Result.SKIPPED]


def test_a_filter_must_say_which_and_only_what_can_be_done(db: Database) -> None:
    with pytest.raises(Refused, match="Select runs"):
        stop(db, Filter(states=[RunState.QUEUED]))
    with pytest.raises(Refused, match="This cannot be done to a run that is queued"):
        retry(db, Filter(job="a", states=[RunState.QUEUED]))
    limited = Filter(states=[RunState.QUEUED], categories=["red"])  # as the pages make it for a limited key
    with pytest.raises(Refused, match="Select runs"):
        many.choose(db, Caller("red", categories=("red",)), limited, 10, ACTIVE)


def test_a_limited_caller_reaches_only_its_categories(db: Database) -> None:
    define(db, a={"category": "red"}, b={"category": "blue"})
    ids = [start(db, "a"), start(db, "b")]
    limited = Caller("red", categories=("red",))
    assert [line.id for line in stop(db, Filter(since=now(db) - timedelta(hours=1)), limited)] == [ids[0]]
    assert many.stop(db, limited, many.find(db, limited, ids)) == [
        ManyView(ids[0], "a", RunState.STOPPED, Result.SKIPPED, None, "it had ended: stopped")
    ]
    assert states(db, ids) == ["stopped", "queued"]


def test_failures_are_acknowledged_once_and_the_first_stays(db: Database) -> None:
    define(db, a={}, b={})
    ids = failed(db, "a", 3)
    failed(db, "b", 1)
    wanted = Filter(job="a", unacknowledged=True)
    chosen = many.choose_all(db, ANN, wanted, 100, TO_ACKNOWLEDGE)
    assert [line.result for line in many.acknowledge(db, ANN, chosen, dry_run=True)] == [Result.CHOSEN] * 3
    notes.acknowledge(db, Caller("bob"), [ids[1]])
    assert [run.id for run in many.choose_all(db, ANN, wanted, 100, TO_ACKNOWLEDGE)] == [ids[2], ids[0]]
    assert [line.result for line in many.acknowledge(db, ANN, chosen)] == [Result.DONE] * 3
    assert [get(db, run_id)["acknowledged_by"] for run_id in ids] == ["ann", "bob", "ann"]
    (again,) = many.acknowledge(db, ANN, many.find(db, ANN, ids[1:2]))
    assert (again.result, again.reason) == (Result.SKIPPED, "it was acknowledged: bob")
    with pytest.raises(Refused, match="Select runs"):
        many.choose(db, ANN, Filter(unacknowledged=True), 100, TO_ACKNOWLEDGE)


def test_a_run_that_somebody_retries_meanwhile_is_skipped(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    define(db, a={})
    ids = failed(db, "a", 3)
    by_hand: list[int] = []
    original = starting.retry

    def retry_by_hand_first(db: Database, by: Caller, run_id: int, **more: Any) -> Any:
        if not by_hand:
            by_hand.extend(original(db, Caller("bob"), ids[number]).id for number in (0, 1))
        return original(db, by, run_id, **more)

    monkeypatch.setattr(starting, "retry", retry_by_hand_first)
    lines = retry(db, Filter(job="a"))
    assert [line.result for line in lines] == [Result.SKIPPED, Result.SKIPPED, Result.DONE]
    assert [line.reason for line in lines[:2]] == [f"it was retried as run {run_id}" for run_id in by_hand]


DOORS = [(engine, "program") for engine in ENGINES] + [(engine, "procedure") for engine in ENGINES[1:]]


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_run_has_one_retry_at_a_time(db: Database, door: str) -> None:
    """Two people who see the same failure in one night."""
    define(db, a={})
    (run_id,) = failed(db, "a", 1)

    def again() -> int:
        if door == "program":
            return starting.retry(db, ANN, run_id).id
        with db.begin() as conn:
            return int(call(conn, "retry_run", run=run_id, by="bob"))

    first = again()
    said = f"Run {run_id} is being retried: run {first} is queued; wait for its end, or start the job."
    with pytest.raises((Refused, sa.exc.DBAPIError), match=said):
        again()
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    second = again()
    assert second > first
    if door == "program":
        with pytest.raises(Refused, match=f"Run {first} is being retried: run {second} is queued"):
            starting.retry(db, ANN, first)  # somebody who sees that failure
    other = failed(db, "a", 1)[0]
    assert starting.retry(db, ANN, other).state == RunState.QUEUED


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
@pytest.mark.parametrize("inside_first", [False, True, None])
def test_a_sequence_and_a_job_inside_it_are_not_retried_beside_each_other(
    db: Database, door: str, inside_first: bool | None
) -> None:
    """None: the job first, and then the sequence around that around it."""
    define(
        db, pay={}, night={"steps": [{"name": "a", "jobs": "pay"}]}, outer={"steps": [{"name": "b", "jobs": "night"}]}
    )
    run_id = start(db, "outer")
    player = Player(db)
    player.look()
    player.fail("pay")
    night = children(db, run_id)[0]["id"]
    pay = children(db, night)[0]["id"]

    def again(run_id: int) -> int:
        if door == "program":
            return starting.retry(db, ANN, run_id).id
        with db.begin() as conn:
            return int(call(conn, "retry_run", run=run_id, by="bob"))

    pairs = {False: (run_id, pay), True: (pay, night), None: (pay, run_id)}
    first, second = pairs[inside_first]
    new = again(first)
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {second} is being retried: run {new} is queued"):
        again(second)
    (line,) = many.retry(db, ANN, many.find(db, ANN, [second]))
    assert (line.result, f"run {new} is queued" in (line.reason or "")) == (Result.REFUSED, True)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_chain_of_retries_of_a_job_is_seen_by_those_of_the_sequence_and_the_reverse(db: Database, door: str) -> None:
    """What fails again is retried by its newest row, which is in no sequence."""
    define(db, pay={}, night={"steps": [{"name": "a", "jobs": "pay"}]})
    night = start(db, "night")
    player = Player(db)
    player.look()
    player.fail("pay")
    pay = children(db, night)[0]["id"]

    def again(run_id: int) -> int:
        if door == "program":
            return starting.retry(db, ANN, run_id).id
        with db.begin() as conn:
            return int(call(conn, "retry_run", run=run_id, by="bob"))

    def refused(run_id: int, by: int) -> None:
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {run_id} is being retried: run {by} is queued"):
            again(run_id)

    failed_again = again(pay)
    player.look()
    player.fail("pay")
    by_hand = again(failed_again)
    refused(night, by_hand)
    player.look()
    player.fail("pay")
    second = again(night)
    player.look()
    player.fail("pay")
    third = again(second)
    for one in (pay, failed_again, by_hand):
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {one} is being retried: run {third} is"):
            again(one)
    player.look()
    player.fail("pay")
    inner = again(children(db, third)[0]["id"])
    refused(night, inner)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_retry_by_hand_counts_before_it_is_committed(db: Database, door: str) -> None:
    define(db, a={}, b={})
    (run_id,) = failed(db, "a", 1)
    waits = threading.Event()
    mine = threading.get_ident()

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if threading.get_ident() != mine and f"jobfac:retry:{run_id}" in map(str, parameters):
            waits.set()

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            if door == "procedure":
                by_hand = int(call(conn, "retry_run", run=run_id, by="bob"))
            else:
                by_hand = sequences.retry(conn, run_id, "bob").run_id
            if db.dialect.name != "sqlite":
                start(db, "b")  # its id is higher
            late = pool.submit(retry, db, Filter(job="a"))
            late.add_done_callback(lambda _: waits.set())
            waits.wait(0.1 if db.dialect.name == "sqlite" else 30)  # SQLite's second writer waits for the first
        (line,) = late.result(30)
    assert (line.result, line.reason) == (Result.SKIPPED, f"it was retried as run {by_hand}")


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_retries_of_one_chain_wait_for_each_other(db: Database, door: str) -> None:
    """The one who sees the first failure and the one who sees that of its retry press at the same moment."""
    define(db, a={})
    (run_id,) = failed(db, "a", 1)
    retried = starting.retry(db, ANN, run_id).id
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)

    def second() -> int:
        if door == "program":
            return starting.retry(db, ANN, retried).id
        with db.begin() as conn:
            return int(call(conn, "retry_run", run=retried, by="bob"))

    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            first = sequences.retry(conn, run_id, "bob").run_id
            late = pool.submit(second)
            wait([late], 0.2)
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {retried} is being retried: run {first} is"):
            late.result(30)


def test_of_one_chain_of_retries_one_run_is_retried(sqlite_url: str) -> None:
    """Some failures are retries of the same run. Retrying each would run the program twice at once."""
    db = Database(sqlite_url)
    define(db, a={})
    (first,) = failed(db, "a", 1)
    hand = Hand(db)
    chain = [first]
    for _ in range(2):
        chain.append(starting.retry(db, ANN, first).id)
        hand.end(hand.take(), RunState.FAILED)
    dry = retry(db, Filter(job="a"), dry_run=True)
    assert [line.result for line in dry] == [Result.SKIPPED, Result.CHOSEN, Result.SKIPPED]
    assert dry[2].reason == f"run {chain[1]} repeats the same"
    done = retry(db, Filter(job="a"))
    assert [line.result for line in done] == [Result.SKIPPED, Result.DONE, Result.SKIPPED]
    assert done[2].reason == f"run {done[1].new_run} repeats the same"
    again = retry(db, Filter(job="a"))
    assert again[2].reason == f"run {done[1].new_run} repeats the same and is queued"
    db.close()
