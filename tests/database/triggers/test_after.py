"""Starts after other jobs, on every engine: each end that counts starts exactly one run, whoever ends it."""

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit, run, schedule, upstream, upstream_end
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import jobs as job_store
from jobfac.store import schedules, sequences
from jobfac.store.history import search
from jobfac.store.schedules import following
from tests.support.database import Hand, get, origin, start, together
from tests.support.sequences import Player


def apply(db: Database, **jobs: Any) -> None:
    """Store jobs with their schedules."""
    bodies = {job: body if "steps" in body else {"command": ["true"], **body} for job, body in jobs.items()}

    def work(conn: sa.Connection) -> None:
        stored = {one.id: d.canonical(one.definition) for one in job_store.load_all(conn)}
        wanted = d.from_data({"jobs": bodies}, known=stored).jobs
        plan = d.plan(stored, {job: d.canonical(body) for job, body in wanted.items()}, prune=False)
        schedules.apply(conn, plan, wanted, "me")

    db.transact(work)


def after(job: str, **more: Any) -> dict[str, Any]:
    return {"schedules": [{"after": {"job": job, **more}}]}


def follow(db: Database) -> schedules.Inserted:
    """Let a scheduler handle the recorded ends."""
    return db.transact(schedules.insert_followers, "s1")


def started(db: Database, job: str) -> list[sa.RowMapping]:
    """The runs of a job, oldest first."""
    with db.read() as conn:
        return list(conn.execute(sa.select(run).where(run.c.job == job).order_by(run.c.id)).mappings())


def end(db: Database, *jobs: str, state: RunState = RunState.SUCCEEDED, **more: Any) -> list[int]:
    """Start a run of each job and end it."""
    hand = Hand(db)
    ids = [start(db, job) for job in jobs]
    for claimed in hand.claim():
        hand.end(claimed, state, **more)
    return ids


def rows_of(db: Database, table: sa.Table) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_each_end_that_counts_starts_one_run(db: Database) -> None:
    apply(
        db,
        extract={},
        load=after("extract"),
        alert=after("extract", on=["failed", "lost"]),
        each=after("extract", on="finished"),
    )
    (first,) = end(db, "extract", outputs=json.dumps({"rows": 12}))
    assert len(follow(db).runs) == 2
    assert follow(db).runs == []
    end(db, "extract", state=RunState.FAILED)
    follow(db)
    assert [len(started(db, job)) for job in ("load", "alert", "each")] == [1, 1, 2]
    (load,) = started(db, "load")
    assert json.loads(load["origin"])["run"] == {
        "id": first, "job": "extract", "state": "succeeded", "outputs": {"rows": 12},
    }  # fmt: skip
    assert (load["created_by"], load["due_at"]) == ("schedule 1", get(db, first)["ended_at"])
    assert rows_of(db, upstream_end) == 0


def test_a_time_that_has_a_run_is_not_used_again_whatever_the_schedule_knows(db: Database) -> None:
    """Two runs of a schedule with one time are impossible, and the failure would repeat itself for ever."""
    apply(db, extract={}, load=after("extract"))
    ids = [*end(db, "extract"), *end(db, "extract")]
    with db.begin() as conn:
        times = {"ended_at": get(db, ids[1])["ended_at"]}
        conn.execute(upstream_end.update().values(times))
        conn.execute(upstream_end.delete().where(upstream_end.c.run_id == ids[1]))
    follow(db)
    with db.begin() as conn:
        conn.execute(schedule.update().values(last_due_at=None))
        values = {"run_id": ids[1], "job": "extract", "state": "succeeded", **times}
        conn.execute(upstream_end.insert().values(schedule_id=sa.select(schedule.c.id).scalar_subquery(), **values))
    follow(db)
    first, second = (one["due_at"] for one in started(db, "load"))
    assert second - first == timedelta(milliseconds=1)


def test_the_run_knows_what_triggered_it(db: Database) -> None:
    load: dict[str, Any] = {
        "parameters": {
            "rows": {"type": "integer", "default": "${trigger.run.outputs.rows}"},
            "day": {"type": "date", "default": "${due.date}"},
        },
        "schedules": [{
            "after": {"job": "extract"},
            "timezone": "Asia/Tokyo",
            "arguments": ["${trigger.run.id}", "${trigger.run.job}"],
        }],
    }  # fmt: skip
    apply(db, extract={}, load=load)
    (first,) = end(db, "extract", outputs=json.dumps({"rows": 12}))
    follow(db)
    (row,) = started(db, "load")
    assert json.loads(row["arguments"]) == [str(first), "extract"]
    assert origin(db, row["id"]) == f"schedule 1, after run {first} of extract (succeeded)"
    local = get(db, first)["ended_at"] + timedelta(hours=9)
    assert json.loads(row["parameters"]) == {"rows": 12, "day": local.date().isoformat()}
    end(db, "extract")
    refused = follow(db)
    assert refused.runs == []
    assert "refers to ${trigger.run.outputs.rows}, which this start does not have" in refused.refusals[0].why


def test_all_waits_for_each_job_once(db: Database) -> None:
    both = {"after": {"all": [{"job": "a"}, {"job": "b", "on": ["succeeded", "failed"]}]}}
    apply(db, a={}, b={}, load={"schedules": [both]})
    end(db, "a", "a")
    assert follow(db).runs == []
    ids = end(db, "b", state=RunState.FAILED)
    assert len(follow(db).runs) == 1
    (row,) = started(db, "load")
    cause = json.loads(row["origin"])
    assert cause["run"]["id"] == ids[0]
    assert [one["job"] for one in cause["runs"]] == ["a", "b"]
    end(db, "b")
    assert follow(db).runs == []
    end(db, "a")
    assert len(follow(db).runs) == 1


def test_any_starts_for_each(db: Database) -> None:
    apply(db, a={}, b={}, load={"schedules": [{"after": {"any": [{"job": "a"}, {"job": "b"}]}}]})
    end(db, "a", "b", "a")
    assert len(follow(db).runs) == 3
    assert len({row["due_at"] for row in started(db, "load")}) == 3  # whatever the resolution of the clock


def age(db: Database, seconds: float) -> None:
    """Let the recorded ends be older."""
    with db.begin() as conn:
        for row in conn.execute(sa.select(upstream_end)).all():
            older = row.ended_at - timedelta(seconds=seconds)
            conn.execute(upstream_end.update().where(upstream_end.c.run_id == row.run_id).values(ended_at=older))


def test_what_is_older_than_within_is_missed(db: Database) -> None:
    apply(db, a={}, load={"schedules": [{"after": {"job": "a"}, "within": "1h"}]})
    end(db, "a")
    age(db, 7200)
    end(db, "a")
    done = follow(db)
    assert (len(done.runs), len(done.misses)) == (1, 1)
    with db.read() as conn:
        assert conn.execute(sa.select(audit.c.action).where(audit.c.subject == "load/1")).scalars().all() == ["missed"]


def test_all_counts_ends_that_are_near_each_other(db: Database) -> None:
    both = {"after": {"all": [{"job": "a"}, {"job": "b"}]}, "within": "1h"}
    apply(db, a={}, b={}, load={"schedules": [both]})
    end(db, "a")
    age(db, 7200)
    end(db, "b")
    done = follow(db)
    assert (done.runs, len(done.misses)) == ([], 1)
    end(db, "a")
    assert len(follow(db).runs) == 1


@pytest.mark.parametrize(("policy", "expected"), [("skip", 0), ("once", 1), ("all", 2)])
def test_ends_in_a_pause_are_missed(db: Database, policy: str, expected: int) -> None:
    rule = {"after": {"job": "a"}, "missed": policy}
    apply(db, a={}, load={"schedules": [rule], "already_running": "deny"})
    db.transact(schedules.pause, "load", None, "me")
    end(db, "a", "a")
    assert follow(db).runs == []
    age(db, 60)
    db.transact(schedules.resume, "load", None, "me")
    started = follow(db).runs
    assert [get(db, one)["state"] for one in started] == ["queued", "blocked"][:expected]
    assert rows_of(db, upstream_end) == 0


def test_a_definition_that_changes_is_followed(db: Database) -> None:
    apply(db, a={}, b={}, load=after("a", on="finished"))
    assert rows_of(db, upstream) == 9 - 1
    apply(db, load=after("b"))
    assert rows_of(db, upstream) == 1
    end(db, "a", "b")
    assert len(follow(db).runs) == 1
    apply(db, load={"schedules": [{"after": {"job": "b"}, "enabled": False}]})
    end(db, "b")
    assert (follow(db).runs, rows_of(db, upstream)) == ([], 0)
    apply(db, load={})
    assert rows_of(db, schedule) == 0


def test_every_way_to_end_counts(db: Database) -> None:
    seq = {"steps": [{"name": "s", "jobs": ["b"]}]}
    apply(db, a={"already_running": "deny"}, b={}, seq=seq)
    apply(db, load=after("a", on="finished"), last=after("seq", on="finished"), each=after("b", on="finished"))
    first = start(db, "a")
    assert get(db, start(db, "a"))["state"] == "denied"
    hand = Hand(db)
    hand.claim()
    hand.lapse()
    db.transact(sequences.expire, "sweeper")
    assert get(db, first)["state"] == "queued"
    db.transact(sequences.stop, first, now=False, by="me")
    assert len(follow(db).runs) == 2
    player = Player(db)
    start(db, "seq")
    player.look()
    player.fail("b")
    follow(db)
    assert [len(started(db, job)) for job in ("load", "last", "each")] == [2, 1, 1]


def test_two_schedulers_start_each_run_once(db: Database) -> None:
    apply(db, a={}, load=after("a"))
    end(db, *["a"] * 8)
    together(3, lambda place: db.transact(schedules.insert_followers, f"s{place}"))
    follow(db)
    assert len(started(db, "load")) == 8


def test_many_ends_of_many_schedules_take_several_transactions(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule with few ends does not wait for those with many."""
    monkeypatch.setattr(following, "ENDS", 2)
    monkeypatch.setattr(following, "STARTS", 3)
    apply(db, a={}, x={}, load=after("a"), more=after("a"), few=after("x"))
    end(db, *["a"] * 4, "x")
    started_first = [get(db, one)["job"] for one in follow(db).runs]
    assert sorted(started_first) == ["few", "load", "load"]
    while follow(db).runs:
        pass
    assert [len(started(db, job)) for job in ("load", "more", "few")] == [4, 4, 1]


def test_a_job_that_others_wait_for_cannot_be_deleted(db: Database) -> None:
    apply(db, a={}, load=after("a"))
    with pytest.raises(Refused, match="Job 'load' starts after the job 'a'; change that first"):
        db.transact(schedules.remove, "a", "me")
    with pytest.raises(d.DefinitionError, match="closes a circle of starts: a -> load -> a"):
        apply(db, a=after("load"))


def test_nothing_is_previewed_and_nothing_is_due(db: Database) -> None:
    apply(db, a={}, load=after("a"))
    with db.read() as conn:
        assert schedules.preview(conn, "load", 5) == []
        (shown,) = schedules.list_schedules(conn, "load")
        assert (shown.next_due_at, search.find_all(conn)) == (None, [])


def test_those_that_wait_for_other_jobs_hide_no_schedule(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SCHEDULES", 3)
    both = {"schedules": [{"after": {"all": [{"job": "a"}, {"job": "b"}]}}]}
    apply(db, a={}, b={}, **{f"both{number}": both for number in range(4)})
    apply(db, last=after("a"))
    end(db, "a")
    assert len(follow(db).runs) == 1
    assert len(started(db, "last")) == 1
    assert follow(db).schedules == 0
    with db.read() as conn:
        assert conn.execute(schedules.WAITING).first() is None  # no scheduler is busy with them
    end(db, "b")
    assert len(follow(db).runs) + len(follow(db).runs) == 4


def test_many_ends_of_one_job_do_not_hide_the_end_of_the_other(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ENDS", 3)
    apply(db, a={}, b={}, load={"schedules": [{"after": {"all": [{"job": "a"}, {"job": "b"}]}}]})
    ids = end(db, *["a"] * 7)
    for _ in range(5):
        assert follow(db).runs == []
    assert rows_of(db, upstream_end) == 1  # the last one counts
    end(db, *["a"] * 4, "b")
    assert sum(len(follow(db).runs) for _ in range(5)) == 1
    (row,) = started(db, "load")
    assert json.loads(row["origin"])["runs"][0]["id"] > ids[-1]
    assert rows_of(db, upstream_end) == 0


@pytest.mark.parametrize("changed", [{"schedules": [{"cron": "0 6 * * *"}]}, after("other")], ids=["clock", "other"])
def test_an_end_that_is_recorded_while_the_schedule_changes_starts_nothing(db: Database, changed: Any) -> None:
    apply(db, load={}, other={}, report=after("load"), audit=after("load"))
    hand = Hand(db)
    start(db, "load")
    (claimed,) = hand.claim()
    known = {job: {"command": ["true"]} for job in ("load", "other")}
    definition = d.from_data({"jobs": {"report": {"command": ["true"], **changed}}}, known=known).jobs["report"]
    if db.engine.dialect.name == "sqlite":  # one writer: the end comes first and is forgotten, so it is recorded again
        hand.end(claimed)
        ends = db.query(lambda conn: conn.execute(sa.select(upstream_end)).mappings().all())
        db.transact(schedules.put, "report", definition, "me")
        with db.begin() as conn:
            conn.execute(upstream_end.delete())
            conn.execute(upstream_end.insert(), [dict(row) for row in ends])
    else:  # the statement that records the end sees the schedules as they were before the change
        with db.begin() as conn:
            schedules.put(conn, "report", definition, "me")
            hand.end(claimed)
    assert rows_of(db, upstream_end) == 2
    follow(db)
    assert started(db, "report") == []
    assert len(started(db, "audit")) == 1
    assert rows_of(db, upstream_end) == 0


def test_a_change_of_the_schedule_keeps_the_ends_for_which_it_still_waits(db: Database) -> None:
    def both(second: str, **more: Any) -> dict[str, Any]:
        return {"schedules": [{"after": {"all": [{"job": "a"}, {"job": second}]}, **more}]}

    apply(db, a={}, b={}, c={}, report=both("b"), each=after("a"))
    (first,) = end(db, "a")
    apply(db, report=both("b", arguments=["--full"]), each={"schedules": [{"after": {"job": "a"}, "within": "1h"}]})
    follow(db)
    assert [origin(db, one["id"]) for one in started(db, "each")] == [f"schedule 1, after run {first} of a (succeeded)"]
    end(db, "b")
    follow(db)
    assert [one["arguments"] for one in started(db, "report")] == ['["--full"]']
    end(db, "b")
    apply(db, report=both("c"))
    assert rows_of(db, upstream_end) == 0  # it does not wait for b any more
    apply(db, report=both("b"))
    end(db, "a")
    follow(db)
    assert len(started(db, "report")) == 1
