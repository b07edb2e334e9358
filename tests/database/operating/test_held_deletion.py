"""A hold of a category outlives the deletion of a job, and a change of its category."""

import pytest

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import holds
from jobfac.operations import jobs as operations
from jobfac.operations.caller import Caller
from jobfac.store.holds.placing import Scope
from tests.support.database import define, start, states

ME = Caller("me")


def test_the_runs_of_a_held_category_do_not_start_because_their_job_is_deleted(db: Database) -> None:
    define(db, a={"category": "etl"}, b={"category": "etl"}, c={})
    placed = holds.hold(db, ME, Scope(category="etl"), "why")
    run_id = start(db, "a")
    with pytest.raises(Refused, match=f"Run {run_id} of job 'a' waits, and hold {placed.id} of the category 'etl'"):
        operations.delete(db, ME, "a")
    operations.delete(db, ME, "b")  # nothing of it waits
    with pytest.raises(Refused, match="stop the run, or release the hold"):
        operations.apply(db, ME, lambda known: d.from_data({"jobs": {"c": {"command": ["true"]}}}), prune=True)
    holds.release(db, ME, placed.id)
    operations.delete(db, ME, "a")
    assert states(db, [run_id]) == ["queued"]


def test_the_runs_of_a_held_category_do_not_start_because_their_job_leaves_it(db: Database) -> None:
    define(db, a={"category": "etl"}, b={"category": "etl"}, c={"category": "dwh"})
    placed = holds.hold(db, ME, Scope(category="etl"), "why")
    run_id = start(db, "a")
    moved = {"command": ["true"], "category": "dwh"}
    operations.put(db, ME, "b", moved)  # nothing of it waits
    with pytest.raises(
        Refused, match=f"Run {run_id} .* waits, and hold {placed.id} .* would not keep it if the job left"
    ):
        operations.put(db, ME, "a", moved)
    with pytest.raises(Refused, match="left the category"):
        operations.apply(db, ME, lambda known: d.from_data({"jobs": {"a": moved}}, known=known))
    holds.hold(db, ME, Scope(category="dwh"), "why")
    operations.put(db, ME, "a", moved)
