"""One retry of a failure at a time: of a run, of its chain of retries, of its sequence and of the jobs inside it."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run, run_event
from jobfac.errors import Refused
from jobfac.operations import starting
from jobfac.operations.bulk import many
from jobfac.states import RunState
from jobfac.store import sequences
from jobfac.store.history import retries
from jobfac.store.history.search import Filter
from jobfac.views.results.many import Result
from tests.database.operating.retrying import ANN, DOORS, again, failed, retry
from tests.support.database import Hand, define, start, state
from tests.support.sequences import Player, children
from tests.support.tsql import call


def refused_beside(db: Database, door: str, late: int, first: int) -> None:
    """Retry one run while the transaction that retries the other one is open: the late retry is refused."""
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            new = sequences.retry(conn, first, "bob").run_id
            answer = pool.submit(again, db, door, late)
            wait([answer], 0.2)
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {late} is being retried: run {new} is"):
            answer.result(30)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_run_has_one_retry_at_a_time(db: Database, door: str) -> None:
    """Two people who see the same failure in one night."""
    define(db, a={})
    (run_id,) = failed(db, "a", 1)

    first = again(db, door, run_id)
    said = f"Run {run_id} is being retried: run {first} is queued; wait for its end, or start the job."
    with pytest.raises((Refused, sa.exc.DBAPIError), match=said):
        again(db, door, run_id)
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    second = again(db, door, run_id)
    assert second > first
    if door == "program":
        with pytest.raises(Refused, match=f"Run {first} is being retried: run {second} is queued"):
            starting.retry(db, ANN, first)  # somebody who sees that failure
    other = failed(db, "a", 1)[0]
    assert starting.retry(db, ANN, other).state == RunState.QUEUED


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_failure_whose_retry_has_succeeded_is_not_retried_again(db: Database, door: str) -> None:
    """The second person of the night is told, however late. What has succeeded is retried by its own number."""
    define(db, a={})
    (run_id,) = failed(db, "a", 1)
    hand = Hand(db)
    first = again(db, door, run_id)
    hand.end(hand.take(), RunState.FAILED)
    second = again(db, door, first)
    hand.end(hand.take(), RunState.SUCCEEDED)

    for one in (run_id, first):
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {one} was retried as run {second}, which"):
            again(db, door, one)
    again(db, door, second)
    hand.end(hand.take(), RunState.FAILED)
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"retry run {second} or start the job"):
        again(db, door, run_id)


def test_a_failure_is_retried_with_other_values_than_those_that_succeeded(db: Database) -> None:
    define(db, a={"parameters": {"limit": {"type": "integer", "default": 5}}})
    (run_id,) = failed(db, "a", 1)
    hand = Hand(db)
    first = starting.retry(db, ANN, run_id, changes={"limit": 10}).id
    hand.end(hand.take())
    for changes in ({"limit": 10}, None):
        with pytest.raises(Refused, match=f"Run {run_id} was retried as run {first}, which succeeded"):
            starting.retry(db, ANN, run_id, changes=changes)
    assert starting.retry(db, ANN, run_id, changes={"limit": 7}).state == RunState.QUEUED
    hand.end(hand.take())
    with pytest.raises(Refused, match=f"Run {run_id} was retried as run {first}, which succeeded"):
        starting.retry(db, ANN, run_id, changes={"limit": 10})


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_chain_of_retries_of_any_length_is_read_at_once(db: Database, door: str) -> None:
    """As that of a file that comes back again and again. Its first runs may have been purged."""
    define(db, a={})
    known, hand = failed(db, "a", 1), Hand(db)
    for _ in range(4):
        known.append(again(db, door, known[-1]))
        hand.end(hand.take(), RunState.FAILED)
    sent: list[str] = []
    with db.read() as conn:
        sa.event.listen(conn, "before_cursor_execute", lambda *args: sent.append(args[2]))
        assert retries.first_ones(conn, {known[-1]}) == {known[-1]: known[0]}
    assert len(sent) <= 2

    with db.begin() as conn:
        for gone in known[:3]:
            for of in (run_event.c.run_id, attempt.c.run_id, run.c.id):
                conn.execute(sa.delete(of.table).where(of == gone))
    new = again(db, door, known[-1])
    hand.end(hand.take(), RunState.SUCCEEDED)
    for one in known[3:]:
        with pytest.raises(Refused, match=f"Run {one} was retried as run {new}"):
            again(db, "program", one)


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

    pairs = {False: (run_id, pay), True: (pay, night), None: (pay, run_id)}
    first, second = pairs[inside_first]
    new = again(db, door, first)
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {second} is being retried: run {new} is queued"):
        again(db, door, second)
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

    def refused(run_id: int, by: int) -> None:
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {run_id} is being retried: run {by} is queued"):
            again(db, door, run_id)

    failed_again = again(db, door, pay)
    player.look()
    player.fail("pay")
    by_hand = again(db, door, failed_again)
    refused(night, by_hand)
    player.look()
    player.fail("pay")
    second = again(db, door, night)
    player.look()
    player.fail("pay")
    third = again(db, door, second)
    for one in (pay, failed_again, by_hand):
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {one} is being retried: run {third} is"):
            again(db, door, one)
    player.look()
    player.fail("pay")
    inner = again(db, door, children(db, third)[0]["id"])
    refused(night, inner)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_job_inside_a_repeated_sequence_that_goes_on_may_be_retried(db: Database, door: str) -> None:
    """As inside the first run of the sequence. It said that the sequence, which started the failed run, retries it."""
    steps = [{"name": "a", "jobs": "pay", "on_failure": "next"}, {"name": "b", "jobs": "other"}]
    define(db, pay={}, other={}, night={"steps": steps}, outer={"steps": [{"name": "c", "jobs": "night"}]})
    run_id = start(db, "outer")
    player = Player(db)

    player.look()
    player.fail("pay")
    pay = children(db, children(db, run_id)[0]["id"])[0]["id"]
    player.look()
    player.finish("other")
    repeated = again(db, door, run_id)
    player.look()
    player.fail("pay")
    (night,) = children(db, repeated)
    by_hand = again(db, door, children(db, night["id"])[0]["id"])
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {pay} is being retried: run {by_hand} is queued"):
        again(db, door, pay)
    player.look()
    player.fail("pay")
    assert again(db, door, by_hand) > by_hand
    assert state(db, repeated) == "running"


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

    refused_beside(db, door, retried, run_id)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
@pytest.mark.parametrize("sequence_first", [False, True])
def test_retries_of_a_sequence_and_of_what_retried_a_job_inside_it_wait_for_each_other(
    db: Database, door: str, sequence_first: bool
) -> None:
    """The retry by hand of a job is in no sequence, but it repeats what the sequence does."""
    define(db, pay={}, night={"steps": [{"name": "a", "jobs": "pay"}]})
    night = start(db, "night")
    player = Player(db)
    player.look()
    player.fail("pay")
    retried = starting.retry(db, ANN, children(db, night)[0]["id"]).id
    player.end(player.take(), RunState.FAILED)
    first, second = (night, retried) if sequence_first else (retried, night)

    refused_beside(db, door, second, first)


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


def test_what_the_sequence_itself_has_repeated_is_not_retried(db: Database) -> None:
    """A loop until it works: the first failure is over, and only the last visit of ``c`` is left to retry."""
    loop = {"name": "load", "jobs": ["a", "c"], "on_mixed": {"step": "load"}, "on_failure": {"step": "load"}}
    define(db, a={}, c={}, seq={"steps": [loop], "maximum_visits": 2})
    run_id, player = start(db, "seq"), Player(db)
    player.look()
    player.fail("a")
    player.fail("c")
    player.look()
    player.finish("a")
    player.fail("c")
    first_a, first_c, _, second_c = [row["id"] for row in children(db, run_id)]
    (skipped,) = {line.reason for line in retry(db, Filter(job="c"))}
    assert skipped == f"it belongs to the sequence run {run_id}; retry that", (
        "others of the job may be on further pages"
    )
    lines = {line.id: line for line in retry(db, Filter(sequence_run_id=run_id))}
    assert {id: line.result for id, line in lines.items()} == {
        first_a: Result.SKIPPED,
        first_c: Result.SKIPPED,
        second_c: Result.DONE,
    }
    assert lines[first_c].reason == f"its sequence repeated it as run {second_c}"
