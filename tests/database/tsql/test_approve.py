"""Approvals by T-SQL; the next sweep lets the sequence go on."""

from jobfac.database.engine import Database
from tests.database.sequences.test_waiting import sweep, waiting
from tests.support.database import events
from tests.support.sequences import path
from tests.support.tsql import THROUGH_TSQL, audited, execute, refusal

pytestmark = THROUGH_TSQL


def test_a_dba_approves(db: Database) -> None:
    player, run_id = waiting(db)
    execute(db, "approve", run=run_id, step="release", reason="looks right", by="boss")
    sweep(db)
    assert player.look() == ["b"]
    assert ("boss", "approved", f"run {run_id}, step release") in audited(db)
    assert "approved" in events(db, run_id)
    assert refusal(db, "approve", run=run_id, step="release")[1].startswith(
        f"Step 'release' of run {run_id} does not wait for an approval"
    )


def test_a_dba_rejects(db: Database) -> None:
    player, run_id = waiting(db, by="admin")
    execute(db, "approve", run=run_id, step="release", reject=1)
    sweep(db)
    assert (path(db, run_id)[1], player.look()) == ("release:failure>undo", ["c"])


def test_nobody_approves_what_they_started(db: Database) -> None:
    _, run_id = waiting(db, not_by_starter=True)
    told = refusal(db, "approve", run=run_id, step="release", by="tester")[1]
    assert told == "Step 'release' must be approved by somebody other than tester."
    assert "There is no run 99" in refusal(db, "approve", run=99, step="release")[1]
