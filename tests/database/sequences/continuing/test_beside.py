"""What a retry by hand repeats inside one retry of a sequence, nothing repeats at the same time inside another one."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import starting
from jobfac.states import RunState
from jobfac.store import runs
from tests.database.operating.retrying import ANN, DOORS, again, failed
from tests.support.database import define, start
from tests.support.sequences import Player, children


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
@pytest.mark.parametrize("is_inner", [False, True])
def test_retries_inside_two_retries_of_a_sequence_do_not_overlap(db: Database, door: str, is_inner: bool) -> None:
    """Two people retry the failures of two runs of a sequence: one its job, the other one the sequence around it."""
    define(
        db, pay={}, night={"steps": [{"name": "a", "jobs": "pay"}]}, outer={"steps": [{"name": "b", "jobs": "night"}]}
    )
    first, player = start(db, "outer"), Player(db)
    found = []
    for _ in range(2):
        player.look()
        player.fail("pay")
        (night,) = children(db, first)
        found.append((night["id"], children(db, night["id"])[0]["id"]))
        if len(found) == 1:
            first = starting.retry(db, ANN, first, from_failed=True).id
    (night, pay), (second_night, second_pay) = found
    by_hand = starting.retry(db, ANN, second_pay if is_inner else second_night).id
    player.look()

    refused = night if is_inner else pay
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {refused} is being retried: run {by_hand} is"):
        again(db, door, refused)
    player.fail("pay")
    assert again(db, door, refused) > by_hand


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_sequence_is_not_retried_beside_a_job_that_only_its_retry_has_started(db: Database, door: str) -> None:
    define(db, make={}, pay={}, night={"steps": [{"name": "a", "jobs": "make"}, {"name": "b", "jobs": "pay"}]})
    first, player = start(db, "night"), Player(db)
    player.look()
    player.fail("make")
    second = starting.retry(db, ANN, first).id
    player.look()
    player.finish("make")
    player.look()
    player.fail("pay")
    by_hand = starting.retry(db, ANN, children(db, second)[1]["id"]).id
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {first} is being retried: run {by_hand} is queued"):
        again(db, door, first)


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_retry_may_be_denied_beside_the_retry_of_another_run(db: Database, door: str) -> None:
    define(db, pay={"already_running": "deny"})
    (first,), (second,) = failed(db, "pay", 1), failed(db, "pay", 1)
    starting.retry(db, ANN, first)
    new = again(db, door, second)
    with db.read() as conn:
        assert runs.get(conn, new).state == RunState.DENIED
