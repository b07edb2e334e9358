"""Sequences advance through their steps in the transaction that ends one of their jobs."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import runs, sequences
from jobfac.store.runs import Outcome
from tests.support.database import attempts, define, events, get, make_due, now, origin, start, state
from tests.support.sequences import Player, children, path


def test_a_sequence_visits_its_steps_in_order_and_ends(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq={"steps": [{"name": "one", "jobs": ["a", "b"]}, {"name": "two", "jobs": "c"}]})
    run_id = start(db, "seq", priority=7)
    assert state(db, run_id) == "queued"
    player = Player(db)
    assert player.look() == ["a", "b"]
    row = get(db, run_id)
    assert (row["state"], row["worker_id"], row["worker"], row["attempt"]) == ("running", None, None, 1)
    assert player.finish("a") == []
    assert path(db, run_id) == ["one:None>None"]
    assert player.finish("b") == []
    assert path(db, run_id) == ["one:success>two", "two:None>None"]
    assert player.look() == ["c"]
    (ended,) = player.finish("c")
    assert (ended.run_id, ended.job, ended.state) == (run_id, "seq", RunState.SUCCEEDED)
    row = get(db, run_id)
    assert (row["state"], row["reason"]) == ("succeeded", None)
    assert row["ended_at"] >= row["started_at"]
    assert events(db, run_id) == ["queued", "running", "succeeded"]
    assert attempts(db, run_id) == []
    started = [(child["job"], child["priority"], child["created_by"]) for child in children(db, run_id)]
    assert started == [(job, 7, f"run {run_id}") for job in "abc"]
    assert origin(db, children(db, run_id)[2]["id"]) == f"step two of run {run_id}"


BRANCHES = {
    "name": "one",
    "jobs": ["a", "b"],
    "on_success": {"step": "good"},
    "on_failure": {"step": "bad"},
    "on_mixed": {"step": "half"},
}


@pytest.mark.parametrize(
    ("bad", "step", "result", "outcome"),
    [
        ([], "good", "success", "succeeded"),
        (["a", "b"], "bad", "failure", "mixed"),
        (["b"], "half", "mixed", "mixed"),
    ],
)
def test_with_when_all_the_results_of_all_jobs_decide(
    db: Database, bad: list[str], step: str, result: str, outcome: str
) -> None:
    ends = [{"name": name, "jobs": name, "on_success": "end"} for name in ("good", "bad", "half")]
    define(db, a={}, b={}, good={}, bad={}, half={}, seq={"steps": [BRANCHES, *ends]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.fail(*bad)
    player.finish(*sorted({"a", "b"} - set(bad)))
    assert player.look() == [step]
    player.finish(step)
    assert path(db, run_id) == [f"one:{result}>{step}", f"{step}:success>end"]
    assert state(db, run_id) == outcome


@pytest.mark.parametrize("word", ["timed_out", "start_failed", "lost", "stopped"])
def test_every_other_final_state_counts_as_a_failure(sqlite_url: str, word: str) -> None:
    db = Database(sqlite_url)
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("a", state=RunState(word))
    assert path(db, run_id) == ["one:failure>end_failed"]
    row = get(db, run_id)
    assert (row["state"], row["reason"]) == (
        "failed",
        f"step 'one' {'was stopped' if word == 'stopped' else 'failed'}: a, {word.replace('_', ' ')}",
    )
    db.close()


def test_with_when_any_the_first_end_decides(db: Database) -> None:
    first = {"name": "one", "jobs": ["a", "b", "c"], "proceed": "when_any"}
    define(db, a={}, b={}, c={}, d={}, seq={"steps": [first, {"name": "two", "jobs": "d"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("b")
    assert path(db, run_id) == ["one:success>two", "two:None>None"]
    assert player.look() == ["a", "c", "d"]
    player.fail("a")
    assert player.finish("d") == []
    assert state(db, run_id) == "running", "one of its jobs runs still"
    (ended,) = player.fail("c")
    assert ended.state == RunState.SUCCEEDED
    assert path(db, run_id) == ["one:success>two", "two:success>end"]


def test_of_two_ends_in_one_turn_the_earlier_one_decides(db: Database) -> None:
    define(db, a={}, b={}, seq={"steps": [{"name": "one", "jobs": ["a", "b"], "proceed": "when_any"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    a, b = player.held
    late = Outcome(a.id, a.attempt, RunState.FAILED)
    early = Outcome(b.id, b.attempt, RunState.SUCCEEDED, ended=late.ended - 5.0)

    def work(conn: sa.Connection) -> None:
        sequences.advance_after(conn, runs.finish(conn, player.id, [late, early], "w1"), "w1")

    db.transact(work)
    assert path(db, run_id) == ["one:success>end"]
    assert state(db, run_id) == "succeeded"


def test_an_at_once_step_is_judged_at_the_end_of_the_sequence(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "b"], "proceed": "at_once"}, {"name": "two", "jobs": "c"}]
    define(db, a={}, b={}, c={}, seq={"steps": steps})
    run_id = start(db, "seq")
    player = Player(db)
    assert player.look() == ["a", "b", "c"]
    player.finish("c")
    player.fail("a")
    assert player.finish("b")[0].state == RunState.MIXED
    assert path(db, run_id) == ["one:at_once>two", "two:success>end"]
    assert get(db, run_id)["reason"] == "step 'one' failed: a, failed"


def test_a_step_whose_start_if_does_not_hold_is_skipped(db: Database) -> None:
    hour = now(db).hour
    closed = {"times": {"hours": [(hour + 12) % 24]}, "otherwise": {"step": "three"}}
    still_open = {"times": {"hours": [hour, (hour + 1) % 24]}, "otherwise": "end_failed"}
    steps = [
        {"name": "one", "jobs": "a", "start_if": closed},
        {"name": "two", "jobs": "a"},
        {"name": "three", "jobs": "b", "start_if": still_open},
    ]
    define(db, a={}, b={}, seq={"steps": steps})
    run_id = start(db, "seq")
    player = Player(db)
    assert player.look() == ["b"]
    player.finish("b")
    assert path(db, run_id) == ["one:skipped>three", "three:success>end"]
    with db.read() as conn:
        first = sequences.step_history(conn, run_id)[0]
    assert (first.start, first.runs, first.reason) == ("skipped", [], "its start_if did not hold")
    assert state(db, run_id) == "succeeded"


def test_the_last_visit_of_a_step_counts(db: Database) -> None:
    steps = [
        {"name": "load", "jobs": "a", "on_success": "end", "on_failure": "next"},
        {"name": "repair", "jobs": "b", "on_success": {"step": "load"}},
    ]
    define(db, a={}, b={}, seq={"steps": steps, "maximum_visits": 2})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.fail("a")
    player.look()
    player.finish("b")
    player.look()
    player.finish("a")
    assert path(db, run_id) == ["load:failure>repair", "repair:success>load", "load:success>end"]
    assert state(db, run_id) == "succeeded"


def test_more_than_maximum_visits_fail_the_sequence(db: Database) -> None:
    step = {"name": "poll", "jobs": "a", "on_failure": {"step": "poll"}, "on_success": "end"}
    define(db, a={}, seq={"steps": [step], "maximum_visits": 3})
    run_id = start(db, "seq")
    player = Player(db)
    for _ in range(3):
        assert player.look() == ["a"]
        player.fail("a")
    assert player.look() == []
    assert path(db, run_id) == ["poll:failure>poll"] * 3
    row = get(db, run_id)
    assert (row["state"], row["reason"]) == (
        "failed",
        "step 'poll' would be visited more than 3 times; step 'poll' failed: a, failed",
    )


def test_a_nested_sequence_advances_the_outer_one(db: Database) -> None:
    inner = {"steps": [{"name": "i", "jobs": ["a", "b"], "on_mixed": "end"}]}
    middle = {"steps": [{"name": "m", "jobs": "inner", "on_mixed": "end"}]}
    outer = {"steps": [{"name": "o", "jobs": ["middle", "c"], "on_mixed": "next"}, {"name": "p", "jobs": "a"}]}
    define(db, a={}, b={}, c={}, inner=inner, middle=middle, outer=outer)
    run_id = start(db, "outer")
    player = Player(db)
    assert sorted(player.look()) == ["a", "b", "c"]
    player.finish("c", "a")
    ended = player.fail("b")
    assert [(one.job, one.state) for one in ended] == [("inner", "mixed"), ("middle", "mixed")]
    assert path(db, run_id) == ["o:mixed>p", "p:None>None"]
    with db.read() as conn:
        shown = sequences.step_history(conn, run_id)[0].runs
    assert [one.job for one in shown] == ["middle", "c"]
    middle_path = shown[0].path or []
    inner_path = middle_path[0].runs[0].path or []
    assert [one.state for one in inner_path[0].runs] == ["succeeded", "failed"]
    player.look()
    assert player.finish("a")[0].state == RunState.MIXED


def test_a_step_waits_for_a_retry_of_its_job(db: Database) -> None:
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("a", state=RunState.FAILED, retry_after=0.0)
    assert path(db, run_id) == ["one:None>None"]
    make_due(db)
    db.transact(runs.promote_due, "w1")
    player.look()
    player.finish("a")
    assert state(db, run_id) == "succeeded"


def test_the_admission_rule_of_a_sequence_applies(db: Database) -> None:
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}], "already_running": "queue"})
    first, second = start(db, "seq"), start(db, "seq")
    player = Player(db)
    assert player.look() == ["a"]
    assert state(db, second) == "blocked"
    player.finish("a")
    assert (state(db, first), state(db, second)) == ("succeeded", "queued")
