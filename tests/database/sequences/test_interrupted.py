"""A sequence whose next step is decided but not entered, because a process died between two transactions."""

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run, visit
from jobfac.store import sequences
from tests.support.database import define, start
from tests.support.sequences import Player, path


def test_the_sweep_goes_on_beside_newer_sequences_while_a_job_still_runs(db: Database) -> None:
    steps = [{"name": "one", "jobs": "a", "proceed": "at_once"}, {"name": "two", "jobs": "b"}]
    define(db, a={}, b={}, seq={"steps": steps})
    player, run_id = Player(db), start(db, "seq")
    assert player.look() == ["a", "b"]
    with db.begin() as conn:  # as if only the first move had been committed
        last = conn.execute(sa.select(sa.func.max(visit.c.id))).scalar_one()
        conn.execute(run.delete().where(run.c.visit_id == last))
        conn.execute(visit.delete().where(visit.c.id == last))
    start(db, "seq")
    player.look()
    db.transact(sequences.sweep, "s1")
    assert path(db, run_id) == ["one:at_once>two", "two:None>None"]
