"""The reason of a sequence that did not succeed: the step to blame is one whose last visit did not succeed."""

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import visit
from jobfac.operations.approvals import approve
from jobfac.operations.caller import Caller
from jobfac.store import sequences
from tests.support.database import define, get, start
from tests.support.sequences import Player

RELEASE = {"name": "release", "approve": {"by": "operator", "timeout": "4h", "otherwise": "fail"}}


def rejected(db: Database, run_id: int, reason: str | None = None) -> str:
    approve(db, Caller("me"), run_id, "release", approved=False, reason=reason)
    return str(get(db, run_id)["reason"])


def test_a_rejection_is_the_reason(db: Database) -> None:
    define(db, s={"steps": [RELEASE]})
    run_id = start(db, "s")
    Player(db).look()
    assert rejected(db, run_id, "not tonight") == "step 'release' failed: rejected by me: not tonight"


def test_a_step_that_succeeded_when_it_was_repeated_is_not_blamed(db: Database) -> None:
    load = {"name": "load", "jobs": ["a"], "on_failure": {"step": "mend"}, "on_success": {"step": "release"}}
    mend = {"name": "mend", "jobs": ["b"], "on_success": {"step": "load"}}
    define(db, a={}, b={}, s={"steps": [load, mend, RELEASE]})
    run_id, player = start(db, "s"), Player(db)
    player.look()
    player.fail("a")
    for job in ("b", "a"):
        player.look()
        player.finish(job)
    assert rejected(db, run_id) == "step 'release' failed: rejected by me"


def test_a_failure_that_counts_comes_before_a_later_one(db: Database) -> None:
    define(db, a={}, s={"steps": [{"name": "load", "jobs": ["a"], "on_failure": "next"}, RELEASE]})
    run_id, player = start(db, "s"), Player(db)
    player.look()
    player.fail("a")
    assert rejected(db, run_id) == "step 'load' failed: a, failed"


def test_the_failure_is_named_when_the_step_that_handles_it_ends_the_sequence(db: Database) -> None:
    steps = [
        {"name": "load", "jobs": ["a"], "on_failure": {"step": "tell"}},
        {"name": "tell", "jobs": ["b"], "on_success": "end_failed"},
    ]
    define(db, a={}, b={}, s={"steps": steps})
    run_id, player = start(db, "s"), Player(db)
    player.look()
    player.fail("a")
    player.look()
    player.finish("b")
    assert get(db, run_id)["reason"] == "step 'load' failed: a, failed"


def test_it_says_that_nobody_decided_in_time(db: Database) -> None:
    define(db, s={"steps": [RELEASE]})
    run_id = start(db, "s")
    Player(db).look()
    with db.begin() as conn:
        conn.execute(visit.update().values(wake_at=utcnow(-1000)))
    db.transact(sequences.wake, "s1")
    assert get(db, run_id)["reason"] == "step 'release' failed: nobody decided in time"
