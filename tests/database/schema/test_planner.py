"""Statistics that ANALYZE has made on the first day: what SQLite's planner thinks of them, and that they go."""

from contextlib import ExitStack

from jobfac.database.engine import Database
from jobfac.scheduler import planner
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.database.schema.test_statements import sent
from tests.support.database import Hand, define


def test_statistics_of_a_young_file_are_dropped_so_that_no_end_reads_all_runs(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    define(db, job={})
    db.transact(runs.start_many, StartRequest("job", "me"), 3)
    hand = Hand(db)
    with sent(db) as statements:
        hand.end(hand.take())
    ends = [one for one in statements if one[0].startswith("UPDATE run")]
    asked = 0

    def reading_all() -> int:
        """Return how many of three connections would read all runs."""
        nonlocal asked
        found = 0
        with ExitStack() as held:
            for conn in [held.enter_context(db.read()) for _ in range(3)]:
                conn.exec_driver_sql("SELECT count(*) FROM run").all()  # an EXPLAIN notices no change of the schema
                asked += 1  # nor does one that was prepared before it
                asking = [(f"EXPLAIN QUERY PLAN {text} -- {asked}", given) for text, given in ends]
                plans = [conn.exec_driver_sql(*one).all() for one in asking]
                found += any(step[3] == "SCAN run" for steps in plans for step in steps)
        return found

    assert reading_all() == 0
    with db.begin() as conn:
        conn.exec_driver_sql("ANALYZE")
    assert reading_all() == 3
    assert planner.drop(db)
    assert reading_all() == 0
    assert not planner.drop(db)
    db.close()
