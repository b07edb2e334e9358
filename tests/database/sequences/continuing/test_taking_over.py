"""A retry from the failed step takes over what succeeded in this step, and starts the rest, on every engine."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run, run_event, visit
from jobfac.errors import Refused
from jobfac.operations import approvals
from jobfac.operations.caller import Caller
from jobfac.states import Role, RunState
from jobfac.store import sequences
from jobfac.views.sequences import StepVisitView
from tests.support.database import define, get, start
from tests.support.sequences import Player, children, path
from tests.support.tsql import execute

ONE = {"name": "one", "jobs": ["a", "b", "c"]}
USE = {"name": "use", "jobs": ["d"], "arguments": {"d": ["${steps.one.a.outputs.file}"]}}

FAN = {"name": "fan", "jobs": ["a", "b"], "for_each": {"region": "${parameters.regions}"}, "at_most": 2}
GATHER = {"name": "gather", "jobs": ["d"], "arguments": {"d": ["${steps.fan.a.outputs.file}"]}}


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Database]:
    """What does not depend on the engine."""
    db = Database(sqlite_url)
    yield db
    db.close()


def declare(db: Database, *steps: dict[str, Any], **more: Any) -> None:
    define(db, a={}, b={}, c={}, d={}, seq={"steps": list(steps), **more})


def prepared(db: Database, *steps: dict[str, Any], **more: Any) -> tuple[Player, int]:
    declare(db, *steps, **more)
    return Player(db), start(db, "seq")


def fanned(db: Database, *more: dict[str, Any], **step: Any) -> tuple[Player, int]:
    """A sequence run whose step starts ``a`` and ``b`` for each region."""
    takes = {"parameters": {"region": {"required": True}}}
    own = {"regions": {"type": "text", "many": True, "default": ["eu", "us"]}}
    define(db, a=takes, b=takes, d={}, seq={"steps": [{**FAN, **step}, *more], "parameters": own})
    return Player(db), start(db, "seq")


def retry(db: Database, run_id: int, changes: Mapping[str, Any] | None = None, *, from_failed: bool = True) -> int:
    return db.transact(sequences.retry, run_id, "me", from_failed=from_failed, changes=changes).run_id


def history(db: Database, run_id: int) -> list[StepVisitView]:
    with db.read() as conn:
        return sequences.step_history(conn, run_id)


def begun(db: Database, run_id: int) -> list[str]:
    """The jobs that a sequence run has started, those of a fan with their region."""
    return [
        child["job"] + "".join(f":{value}" for value in json.loads(child["parameters"] or "{}").values())
        for child in children(db, run_id)
    ]


def test_only_what_did_not_succeed_starts(db: Database) -> None:
    player, first = prepared(db, ONE, USE)
    player.look()
    player.finish("a", outputs='{"file": "x"}')
    player.fail("b", "c")
    second = retry(db, first)
    assert player.look() == ["b", "c"]
    player.finish("b")
    player.fail("c")
    third = retry(db, second)
    assert player.look() == ["c"]
    player.finish("c")
    assert [(one.job, one.taken_from, one.state) for one in history(db, third)[0].runs] == [
        ("a", first, RunState.SUCCEEDED),
        ("b", second, RunState.SUCCEEDED),
        ("c", None, RunState.SUCCEEDED),
    ]
    assert history(db, third)[0].taken == 2
    player.look()
    assert children(db, third)[1]["arguments"] == '["x"]', "the outputs of the job that succeeded are there"
    player.fail("d")
    assert get(db, third)["state"] == RunState.FAILED
    is_lite = db.dialect.name == "sqlite"
    again = retry(db, third, from_failed=False) if is_lite else execute(db, "retry_run", run=third)
    assert player.look() == ["c"], "a plain retry repeats what the run did"
    assert [begun(db, one) for one in (second, third, again)] == [["b", "c"], ["c", "d"], ["c"]]


def test_values_count_by_what_they_are(db: Database) -> None:
    player, first = fanned(db, GATHER)
    player.look()
    player.finish("a", outputs='{"file": "eu"}')
    player.look()
    player.fail("b")
    player.look()
    player.finish("a", outputs='{"file": "us"}')
    player.look()
    player.finish("b")
    assert begun(db, first) == ["a:eu", "b:eu", "a:us", "b:us"]
    second = retry(db, first, {"regions": ["us", "jp", "eu", "us"]})
    player.look()
    assert db.transact(sequences.sweep, "me") == []
    assert begun(db, second) == ["a:jp", "b:jp"], "at most two"
    player.finish("a", outputs='{"file": "jp"}')
    player.look()
    player.finish("b", "b")
    player.look()
    player.finish("a", outputs='{"file": "us2"}')
    player.look()
    player.finish("b")
    assert begun(db, second) == ["a:jp", "b:jp", "b:eu", "a:us", "b:us", "d"], "one value is there twice"
    assert children(db, second)[-1]["arguments"] == '["[\\"us\\", \\"jp\\", \\"eu\\", \\"us2\\"]"]'
    (visit, _) = history(db, second)
    assert (visit.counts, visit.taken) == ({"succeeded": 8}, 3)
    assert sorted((one.job, one.item) for one in visit.runs if one.taken_from) == [("a", 0), ("a", 2), ("b", 0)]


def test_a_fan_that_was_stopped_goes_on(lite: Database) -> None:
    player, first = fanned(lite, at_most=1)
    player.look()
    player.finish("a")
    player.look()
    lite.transact(sequences.stop, first, now=True, by="me")
    player.finish("b", state=RunState.STOPPED)
    assert get(lite, first)["state"] == RunState.STOPPED
    second = retry(lite, first)
    lite.transact(sequences.stop, second, now=True, by="me")
    third = retry(lite, second)
    while player.look():
        player.finish(player.held[0].job)
    assert begun(lite, third) == ["b:eu", "a:us", "b:us"]
    assert get(lite, third)["state"] == RunState.SUCCEEDED


def test_the_last_visit_of_a_loop_counts(lite: Database) -> None:
    repair = {"name": "repair", "jobs": ["c"], "on_success": {"step": "one"}}
    one = {"name": "one", "jobs": ["a", "b"], "on_success": "end", "on_failure": "end_failed"}
    player, first = prepared(lite, {**one, "on_mixed": {"step": "repair"}}, repair, maximum_visits=2)
    for bad, good in (("a", "b"), ("b", "a")):
        player.look()
        player.fail(bad)
        player.finish(good)
        player.look()
        player.finish("c")
    assert get(lite, first)["state"] == RunState.FAILED, "it may not visit the step a third time"
    second = retry(lite, first)
    assert player.look() == ["b"]
    player.fail("b")
    player.look()
    player.finish("c")
    assert player.look() == ["a", "b"], "the next visit is a new one"
    player.finish("a", "b")
    assert get(lite, second)["state"] == RunState.SUCCEEDED


def test_a_step_that_is_to_be_visited_once_more_starts_as_a_whole(lite: Database) -> None:
    player, first = prepared(lite, {"name": "one", "jobs": ["a"], "on_success": {"step": "one"}}, maximum_visits=1)
    player.look()
    player.finish("a")
    assert get(lite, first)["state"] == RunState.FAILED
    retry(lite, first)
    assert player.look() == ["a"]


def test_a_step_that_has_other_jobs_now(lite: Database) -> None:
    player, first = prepared(lite, {**ONE, "proceed": "when_any"})
    player.look()
    player.fail("b")
    player.finish("a", "c")
    declare(lite, {"name": "one", "jobs": ["a", "d", "c"]})
    second = retry(lite, first)
    assert player.look() == ["d"]
    player.fail("d")
    declare(lite, {"name": "one", "jobs": ["a", "c"]})
    third = retry(lite, second)
    assert player.look() == []
    assert (path(lite, third), get(lite, third)["state"]) == (["one:success>end"], RunState.SUCCEEDED)


def test_a_retry_that_could_not_start_the_step_loses_nothing(lite: Database) -> None:
    one = {"name": "one", "jobs": ["a", "b"]}
    player, first = prepared(lite, one)
    player.look()
    player.finish("a")
    player.fail("b")
    declare(lite, {"name": "zero", "jobs": ["c"]}, {**one, "arguments": {"b": ["${steps.zero.c.outputs.x}"]}})
    second = retry(lite, first)
    assert player.look() == []
    assert get(lite, second)["state"] == RunState.FAILED
    declare(lite, one)
    retry(lite, second)
    assert player.look() == ["b"]


@pytest.mark.parametrize("gone", ["a", "b"])
def test_runs_that_were_purged(lite: Database, gone: str) -> None:
    """It is not known whether they succeeded, so nothing may be started twice without a word."""
    player, first = prepared(lite, {"name": "one", "jobs": ["a", "b"]})
    player.look()
    player.finish("a")
    player.fail("b")
    again = retry(lite, first)
    with lite.begin() as conn:
        conn.execute(run.delete().where(run.c.job == gone))
    with pytest.raises(Refused, match="cannot be continued: runs of the step 'one' of run"):
        retry(lite, first)
    assert player.look() == []
    assert "were purged, so it is not known which jobs succeeded" in get(lite, again)["reason"]


def test_a_step_that_waited_in_vain_waits_again(lite: Database) -> None:
    """It has started nothing, so no run of it can be missing."""
    player, first = prepared(lite, {"name": "release", "approve": {}}, ONE)
    player.look()
    approvals.approve(lite, Caller("ann", role=Role.OPERATOR), first, "release", approved=False)
    assert get(lite, first)["state"] == RunState.FAILED
    second = retry(lite, first)
    player.look()
    assert path(lite, second) == ["release:None>None"]
    approvals.approve(lite, Caller("ann", role=Role.OPERATOR), second, "release")
    assert player.look() == ["a", "b", "c"]


def test_a_sequence_that_is_being_purged_is_not_continued(lite: Database) -> None:
    """Its visits go before its run, so the steps that are left say nothing."""
    player, first = prepared(lite, {"name": "one", "jobs": ["a"]}, {"name": "two", "jobs": ["b"]})
    player.look()
    player.finish("a")
    player.look()
    player.fail("b")
    with lite.begin() as conn:
        conn.execute(run_event.delete().where(run_event.c.run_id == first))
        conn.execute(visit.delete().where(visit.c.run_id == first))
    with pytest.raises(Refused, match=f"Run {first} is being purged, so it is not known which of its steps succeeded"):
        retry(lite, first)
    assert player.look() == []


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_run_that_continues_one_that_is_being_purged_is_not_continued(lite: Database, gone: int) -> None:
    steps = [{"name": name, "jobs": [job]} for name, job in (("one", "a"), ("two", "b"), ("three", "c"))]
    player, first = prepared(lite, *steps)
    for job in ("a", "b"):
        player.look()
        player.finish(job)
    player.look()
    player.fail("c")
    second = retry(lite, first)
    lite.transact(sequences.stop, second, now=True, by="me")
    with lite.begin() as conn:
        ids = conn.execute(sa.select(visit.c.id).where(visit.c.run_id == first).order_by(visit.c.id)).scalars().all()
        conn.execute(run_event.delete().where(run_event.c.run_id == first))
        conn.execute(visit.delete().where(visit.c.id.in_(ids[:gone] if gone < 2 else ids[1:])))
    with pytest.raises(Refused, match=f"Run {first} is being purged"):
        retry(lite, second)
    assert player.look() == []
