"""Retry and stop many runs: each at most once, however often it is asked for."""

from datetime import timedelta
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import notes, starting
from jobfac.operations.bulk import many
from jobfac.operations.caller import Caller
from jobfac.states import ACTIVE, FINAL, TO_ACKNOWLEDGE, JobKind, RunState
from jobfac.store import sequences
from jobfac.store.history import retries
from jobfac.store.history.search import Filter
from jobfac.views.results.many import ManyView, Result
from tests.database.operating.retrying import ANN, failed, retry
from tests.support.database import Hand, define, get, now, start, state, states


def stop(db: Database, wanted: Filter, by: Caller = ANN, dry_run: bool = False) -> list[ManyView]:
    return many.stop(db, by, many.choose_all(db, by, wanted, 100, ACTIVE), dry_run=dry_run, wanted=wanted)


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


@pytest.mark.parametrize("policy", ["deny", "replace"])
def test_many_retries_of_a_job_run_one_after_another(db: Database, policy: str) -> None:
    define(db, a={})
    failed(db, "a", 3)
    define(db, a={"already_running": policy})
    lines = retry(db, Filter(job="a"))
    new = [line.new_run or 0 for line in lines]
    assert [line.result for line in lines] == [Result.DONE] * 3
    assert states(db, new) == ["queued", "blocked", "blocked"]
    assert {get(db, one)["priority"] for one in new} == {-100}  # today's start goes before those that wait
    again = starting.retry(db, ANN, lines[0].id, key="many", once_after=lines[0].id)
    assert again.id == new[0], "a repetition, as after an answer that was lost, finds the run"
    hand = Hand(db, "w2")
    while claimed := hand.claim(1):
        hand.end(claimed[0])
    assert states(db, new) == ["succeeded"] * 3
    assert {line.result for line in retry(db, Filter(states=[RunState.FAILED], job="a"))} == {Result.SKIPPED}


def test_a_retry_that_never_began_may_be_tried_again(db: Database) -> None:
    define(db, a={"already_running": "deny"})
    (run_id,) = failed(db, "a", 1)
    busy = start(db, "a")
    assert starting.retry(db, ANN, run_id).state == "denied"
    (waiting,) = retry(db, Filter(job="a", states=[RunState.FAILED]))
    assert (waiting.result, state(db, waiting.new_run or 0)) == (Result.DONE, "blocked")
    stop(db, Filter(job="a"))
    assert states(db, [busy, waiting.new_run or 0]) == ["stopped", "stopped"]
    (done,) = retry(db, Filter(job="a", states=[RunState.FAILED]))
    assert (done.id, done.result) == (run_id, Result.DONE)


def test_a_retry_that_never_began_hides_none_that_did(db: Database) -> None:
    define(db, a={})
    (run_id,) = failed(db, "a", 1)
    first = starting.retry(db, ANN, run_id).id
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    starting.retry(db, ANN, run_id)
    stop(db, Filter(job="a"))
    line = retry(db, Filter(job="a", states=[RunState.FAILED]))[0]
    assert (line.id, line.result, line.reason) == (run_id, Result.SKIPPED, f"it was retried as run {first}")


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


def test_a_stop_that_takes_a_while_is_said_and_may_be_made_faster(db: Database) -> None:
    define(db, a={})
    start(db, "a")
    Hand(db).claim(1)
    chosen = many.choose_all(db, ANN, Filter(job="a"), 100, ACTIVE)
    (asked,) = many.stop(db, ANN, chosen)
    assert (asked.result, asked.reason) == (Result.DONE, "it is being stopped")
    (again,) = stop(db, Filter(job="a"))
    assert (again.result, again.reason) == (Result.SKIPPED, "it is being stopped")
    chosen = many.choose_all(db, ANN, Filter(job="a"), 100, ACTIVE)
    (faster,) = many.stop(db, ANN, chosen, now=True)
    assert (faster.result, faster.reason) == (Result.DONE, "it is being stopped")
    (last,) = many.stop(db, ANN, many.choose_all(db, ANN, Filter(job="a"), 100, ACTIVE), now=True)
    assert last.result is Result.SKIPPED


def test_a_sequence_is_stopped_before_what_waits_in_it_and_does_not_go_on(db: Database) -> None:
    steps = [{"name": "load", "jobs": "a", "on_failure": {"step": "mend"}}, {"name": "mend", "jobs": "b"}]
    define(db, a={}, b={}, night={"steps": steps}, week={"steps": [{"name": "night", "jobs": "night"}]})
    top = [start(db, "night"), start(db, "week")]
    for _ in range(3):
        db.transact(sequences.begin, "w")
    assert len(many.choose_all(db, ANN, Filter(job="a", states=[RunState.QUEUED]), 100, ACTIVE)) == 2
    stop(db, Filter(since=now(db) - timedelta(hours=1)))
    assert states(db, top) == ["stopped", "stopped"]
    assert many.choose_all(db, ANN, Filter(job="b", states=[RunState.STOPPED]), 100, FINAL) == []


def test_a_sequence_on_another_page_is_stopped_in_place_of_its_runs(db: Database) -> None:
    """Their runs are newer, so the first page had these alone, and the sequences went on as after a failure."""
    steps = [{"name": "one", "jobs": "a", "on_failure": {"step": "undo"}}, {"name": "undo", "jobs": "b"}]
    define(db, a={}, b={}, night={"steps": steps}, week={"steps": [{"name": "night", "jobs": "night"}]})
    weeks = [start(db, "week") for _ in range(3)]
    for _ in range(2):
        db.transact(sequences.begin, "s1")
    wanted = Filter(since=now(db) - timedelta(hours=1))
    page = many.choose(db, ANN, wanted, 2, ACTIVE)
    lines = many.stop(db, ANN, page.runs, wanted=wanted)
    assert {line.id: line.reason for line in lines if line.result is Result.SKIPPED} == {
        weeks[2] + 6: f"it is left to the sequence run {weeks[2]}",
        weeks[1] + 6: f"it is left to the sequence run {weeks[1]}",
    }
    assert [line.id for line in lines if line.result is Result.DONE] == weeks[1:]
    assert states(db, weeks) == ["running", "stopped", "stopped"]
    stop(db, wanted)
    assert states(db, list(range(weeks[0], weeks[0] + 9))) == ["stopped"] * 9
    assert many.choose_all(db, ANN, Filter(job="b"), 100, ACTIVE) == []


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
        ManyView(ids[0], "a", RunState.STOPPED, Result.SKIPPED, None, "it had ended: stopped", JobKind.PROGRAM)
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


def test_a_retry_of_another_run_of_the_chain_meanwhile_counts_too(db: Database) -> None:
    """Two people see one failure, whose retry has failed: one of them retries it, and the other one retries many."""
    define(db, a={})
    (first,) = failed(db, "a", 1)
    second = starting.retry(db, ANN, first).id
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    newest = db.query(retries.newest)
    other = starting.retry(db, ANN, first).id
    with pytest.raises(starting.AlreadyRetried, match=f"run {other}"):
        starting.retry(db, ANN, second, key="many", once_after=newest)
    hand.end(hand.take(), RunState.FAILED)
    third = starting.retry(db, ANN, second, key="many", once_after=newest).id
    hand.end(hand.take(), RunState.SUCCEEDED)
    for dry_run in (True, False):
        lines = {line.id: line.reason for line in retry(db, Filter(job="a", states=[RunState.FAILED]), dry_run=dry_run)}
        assert lines[other] == f"it was retried as run {third}", "that has done its work, as for a retry by hand"
