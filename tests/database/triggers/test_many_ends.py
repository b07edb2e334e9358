"""Many ends of runs after which others start: decisions over several transactions, and long pauses."""

from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import schedule, upstream_end
from jobfac.store import schedules, upstream
from jobfac.store.schedules import following, pausing
from tests.database.triggers.test_after import age, apply, end, follow, rows_of, started
from tests.support.outbox import on

BOTH = {"all": [{"job": "a"}, {"job": "b"}]}


def _paused(db: Database, **rules: dict[str, Any]) -> None:
    """Apply jobs that start after others, in a pause in which ten runs of `a` ended and then one of `b`."""
    apply(db, a={}, b={}, **{job: {"schedules": [one], "notify": [on("missed")]} for job, one in rules.items()})
    for job in rules:
        db.transact(schedules.pause, job, None, "me")
    end(db, *["a"] * 10)
    end(db, "b")
    age(db, 60)


def test_many_ends_in_a_pause_are_one_decision(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ENDS", 3)
    policies = {"skip": "skip", "once": "once", "some": {"policy": "all", "maximum": 5, "window": "1h"}}
    rules = {job: {"after": {"job": "a"}, "missed": policy} for job, policy in policies.items()}
    _paused(db, **rules, both={"after": BOTH, "missed": "once"})
    for job in (*rules, "both"):
        db.transact(schedules.resume, job, None, "me")
    done = [follow(db) for _ in range(6)]
    assert {job: len(started(db, job)) for job in (*rules, "both")} == {"skip": 0, "once": 1, "some": 5, "both": 1}
    assert sorted(miss.job for one in done for miss in one.misses) == ["once", "skip", "some"]
    assert rows_of(db, upstream_end) == 0


def test_a_long_pause_keeps_what_it_may_start(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "SPARE", 1)
    monkeypatch.setattr(upstream, "BATCH", 4)
    some = {"policy": "all", "maximum": 3}
    rules = {job: {"after": {"job": "a"}, "missed": missed} for job, missed in (("once", "once"), ("some", some))}
    _paused(db, **rules, both={"after": BOTH, "missed": "skip"})
    assert [db.transact(pausing.forget_surplus, 0.0) for _ in range(8)] == [True] * 6 + [False] * 2
    with db.read() as conn:
        kept = conn.execute(
            sa.select(schedule.c.job, upstream_end.c.job, upstream_end.c.run_id).join(
                upstream_end, upstream_end.c.schedule_id == schedule.c.id
            )
        ).all()
    assert Counter((job, of) for job, of, _ in kept) == {
        ("once", "a"): 3, ("some", "a"): 5, ("both", "a"): 2, ("both", "b"): 1
    }  # fmt: skip
    last = started(db, "a")[-1]["id"]
    assert {run_id for job, of, run_id in kept if of == "a"} == set(range(last - 4, last + 1))
