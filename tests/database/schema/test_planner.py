"""Statistics that ANALYZE has made on the first day: what SQLite's planner thinks of them, and that they go."""

from jobfac.database.engine import Database
from jobfac.scheduler import planner
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.database.schema.test_statements import plan, sent
from tests.support.database import Hand, define


def test_statistics_of_a_young_file_are_dropped_so_that_no_end_reads_all_runs(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    define(db, job={})
    db.transact(runs.start_many, StartRequest("job", "me"), 3)
    hand = Hand(db)
    with sent(db) as statements:
        hand.end(hand.take())
    ends = [one for one in statements if one[0].startswith("UPDATE run")]

    def reads_all() -> bool:
        new = Database(sqlite_url)
        steps = [step for one in ends for step in plan(new, *one)]
        new.close()
        assert any("run" in step for step in steps)
        return "SCAN run" in steps

    assert not reads_all()
    with db.begin() as conn:
        conn.exec_driver_sql("ANALYZE")
    assert reads_all()
    assert planner.drop(db)
    assert not reads_all()
    assert not planner.drop(db)
    db.close()
