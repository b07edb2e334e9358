"""Approvals by T-SQL; the next sweep lets the sequence go on."""

import json

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import audit, job_version
from jobfac.store import sequences
from tests.database.sequences.test_waiting import asking, given, nested, sweep, waiting
from tests.support.database import define, events, now, start
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


def test_a_dba_gives_what_the_step_asks_for(db: Database) -> None:
    player, run_id = asking(db)
    for parameters, says in (
        (None, "Step 'release' needs the parameter 'percent'; give it in @parameters."),
        ({"percent": "x"}, "Step 'release' has the parameter 'percent', which cannot have this value"),
        ({"percent": 1, "x": 1}, "Step 'release' has no parameter 'x'; see its definition."),
    ):
        told = refusal(db, "approve", run=run_id, step="release", parameters=parameters and json.dumps(parameters))
        assert told[1].startswith(says)
    execute(db, "approve", run=run_id, step="release", by="boss", parameters='{"percent": 0}')
    sweep(db)
    assert (player.look(), path(db, run_id)) == ([], ["release:None>None"])
    assert events(db, run_id)[-3:] == ["approval_wanted", "approved", "approval_wanted"]
    execute(db, "approve", run=run_id, step="release", by="boss", parameters='{"percent": 20}')
    sweep(db)
    assert player.look() == ["b"]
    assert given(db, run_id) == {"percent": 20, "day": f"{now(db):%Y-%m-%d}"}
    assert ("boss", "approved", f"run {run_id}, step release") in audited(db)


def test_long_values_of_a_dba_are_not_all_in_the_audit(db: Database) -> None:
    _, run_id = asking(db, parameters={"percent": {"type": "integer"}, "day": {}})
    execute(db, "approve", run=run_id, step="release", parameters=json.dumps({"percent": 20, "day": "x" * 5000}))
    with db.read() as conn:
        (noted,) = conn.execute(sa.select(audit.c.after).where(audit.c.action == "approved")).scalars()
    assert (noted[:14], len(noted)) == ('{"percent": 20', 2000)
    sweep(db)
    assert given(db, run_id)["day"] == "x" * 5000


def test_nobody_approves_what_they_started(db: Database) -> None:
    _, run_id = waiting(db, not_by_starter=True)
    told = refusal(db, "approve", run=run_id, step="release", by="tester")[1]
    assert told == "Step 'release' must be approved by somebody other than tester."
    told = refusal(db, "approve", run=run_id, step="release", by="TESTER")[1]
    assert told == "Step 'release' must be approved by somebody other than tester.", "with every collation"
    assert "There is no run 99" in refusal(db, "approve", run=99, step="release")[1]


def test_nobody_approves_a_sequence_inside_the_one_that_they_started(db: Database) -> None:
    inner = nested(db)
    told = refusal(db, "approve", run=inner, step="release", by="tester")[1]
    assert told == "Step 'release' must be approved by somebody other than tester."
    execute(db, "approve", run=inner, step="release", by="boss")


def test_a_login_does_not_approve_what_it_started_in_the_name_of_another(db: Database) -> None:
    player, _ = waiting(db, not_by_starter=True)
    run_id = execute(db, "start_job", job="seq", by="alice")
    player.look()
    player.finish("a")
    told = refusal(db, "approve", run=run_id, step="release", by="boss")[1]
    assert told.startswith("Step 'release' must be approved by somebody other than ")


def test_a_retry_skips_no_approval(db: Database) -> None:
    _, run_id = waiting(db)
    db.transact(sequences.stop, run_id, now=True, by="boss")
    again = execute(db, "retry_run", run=run_id)
    db.transact(sequences.stop, again, now=True, by="boss")
    behind = start(db, "seq", overrides={"first_step": "publish"})
    db.transact(sequences.stop, behind, now=True, by="boss")
    assert "began behind a step that waits for an approval" in refusal(db, "retry_run", run=behind)[1]


def test_a_retry_skips_no_approval_of_a_sequence_inside(db: Database) -> None:
    gated = {"steps": [{"name": "release", "approve": {"by": "admin"}}]}
    middle = {"steps": [{"name": "all", "jobs": ["gated"]}]}
    steps = [{"name": "one", "jobs": ["middle"]}, {"name": "two", "jobs": ["a"]}]
    define(db, a={}, gated=gated, middle=middle, outer={"steps": steps}, free={"steps": steps[1:]})
    behind, alone = (start(db, name, overrides={"first_step": "two"}) for name in ("outer", "free"))
    for run_id in (behind, alone):
        db.transact(sequences.stop, run_id, now=True, by="boss")
    assert "began behind a step that waits for an approval" in refusal(db, "retry_run", run=behind)[1]
    assert execute(db, "retry_run", run=alone) > alone


def test_nobody_approves_a_step_that_the_definition_does_not_have(db: Database) -> None:
    """As where two collations compare its names: who may approve it is not known."""
    _, run_id = waiting(db, not_by_starter=True)
    with db.begin() as conn:
        renamed = sa.func.replace(job_version.c.definition, '"release"', '"Release"')
        conn.execute(job_version.update().values(definition=renamed))
    says = refusal(db, "approve", run=run_id, step="release")[1]
    assert says == f"Step 'release' of run {run_id} has no approval in its definition."
