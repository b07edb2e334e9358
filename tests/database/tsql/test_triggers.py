"""Ends that procedures cause start other jobs, too."""

from jobfac.database.engine import Database
from jobfac.store import schedules
from tests.database.triggers.test_after import after, apply, started
from tests.support.tsql import THROUGH_TSQL, execute

pytestmark = THROUGH_TSQL


def test_a_stop_and_a_denial_by_t_sql_start_what_comes_after(db: Database) -> None:
    apply(db, a={"already_running": "deny"}, load=after("a", on=["stopped", "denied"]))
    first = int(execute(db, "start_job", job="a"))
    execute(db, "start_job", job="a")
    execute(db, "stop_run", run=first)
    execute(db, "stop_run", run=first)
    assert len(db.transact(schedules.insert_followers, "s1").runs) == 2
    assert len(started(db, "load")) == 2
