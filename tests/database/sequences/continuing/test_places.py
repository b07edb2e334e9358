"""What a retry of a sequence has done again is not done once more by a retry of what failed inside the former run."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import starting
from jobfac.operations.bulk import many
from jobfac.states import RunState
from jobfac.store.history.search import Filter
from jobfac.views.results.many import Result
from tests.database.operating.retrying import ANN, DOORS, again, retry
from tests.support.database import define, start
from tests.support.sequences import Player, children


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_what_a_retry_of_the_sequence_has_done_is_not_done_again(db: Database, door: str, is_nested: bool) -> None:
    """One person continues the sequence. Another one has the number of its job that failed, from a mail."""
    define(
        db, pay={}, night={"steps": [{"name": "a", "jobs": "pay"}]}, outer={"steps": [{"name": "b", "jobs": "night"}]}
    )
    run_id, player = start(db, "outer"), Player(db)
    player.look()
    player.fail("pay")
    (night,) = children(db, run_id)
    (pay,) = children(db, night["id"])
    around = night["id"] if is_nested else run_id
    second = starting.retry(db, ANN, around, from_failed=True).id
    player.look()
    player.fail("pay")
    if not is_nested:
        second = children(db, second)[0]["id"]
    (failed_again,) = children(db, second)

    by_hand = again(db, door, failed_again["id"])
    said = f"Run {pay['id']} is being retried: run {by_hand} is queued"
    with pytest.raises((Refused, sa.exc.DBAPIError), match=said):
        again(db, door, pay["id"])
    (line,) = retry(db, Filter(sequence_run_id=night["id"]))
    assert (line.result, line.reason) == (Result.SKIPPED, f"it was retried as run {by_hand}")
    player.end(player.take(), RunState.FAILED)
    third = starting.retry(db, ANN, second, from_failed=True).id
    player.look()
    player.finish("pay")
    (done,) = children(db, third)
    inside = [pay["id"], failed_again["id"], by_hand]
    for failure, by in [*((one, done["id"]) for one in inside), (night["id"], third), (second, third)]:
        with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {failure} was retried as run {by}, which succ"):
            again(db, door, failure)
    for dry_run in (True, False):
        (line,) = retry(db, Filter(sequence_run_id=night["id"]), dry_run=dry_run)
        assert (line.result, line.reason) == (Result.SKIPPED, f"it was retried as run {done['id']}")
    assert again(db, door, done["id"]) > done["id"]


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_a_step_that_a_retry_has_done_is_not_the_first_one_of_another_retry(db: Database, door: str) -> None:
    """The retry failed at a later step. Who knows only the first failure continues that, too."""
    parameters = {"day": {"type": "integer", "default": 1}}
    steps = [{"name": "pay", "jobs": ["pay", "ok"]}, {"name": "tell", "jobs": "tell"}]
    define(db, pay={}, ok={}, tell={}, night={"steps": steps, "parameters": parameters})
    run_id, player = start(db, "night"), Player(db)
    player.look()
    player.finish("ok")
    player.fail("pay")
    for _ in range(2):
        first = starting.retry(db, ANN, run_id, from_failed=True).id
        player.look()
        player.fail("pay")
    second = starting.retry(db, ANN, run_id, from_failed=True).id
    player.look()
    player.finish("pay")
    player.look()
    player.fail("tell")
    said = f"was retried as run {second}, which has done work of the step 'pay'; retry run {second}, or start"
    for one in (run_id, first):
        with pytest.raises(Refused, match=f"Run {one} {said}"):
            starting.retry(db, ANN, one, from_failed=True)
    with pytest.raises((Refused, sa.exc.DBAPIError), match=f"Run {first} {said}"):
        again(db, door, first)
    (line,) = many.retry(db, ANN, many.find(db, ANN, [first]))
    assert (line.result, line.reason) == (Result.REFUSED, f"Run {first} {said} the sequence with this step.")
    other = starting.retry(db, ANN, run_id, from_failed=True, changes={"day": 2}).id
    player.look()
    player.fail("pay")
    assert starting.retry(db, ANN, second, from_failed=True).id > other


STEPS = [
    {"name": "make", "jobs": "make"},
    {"name": "a", "jobs": "pay", "on_failure": "next"},
    {"name": "b", "jobs": "pay", "on_failure": "next"},
    {"name": "each", "jobs": "pay", "for_each": {"to": ["x", "X"]}, "on_failure": "next", "on_mixed": "next"},
    {"name": "made", "jobs": "pay", "parameters": {"pay": {"to": "${steps.make.make.outputs.to}"}}},
]


@pytest.mark.parametrize(("url", "door"), DOORS, indirect=["url"])
def test_other_steps_and_other_values_of_a_repeated_sequence_may_be_retried(db: Database, door: str) -> None:
    define(db, make={}, pay={"parameters": {"to": {"type": "text", "default": "-"}}}, night={"steps": STEPS})
    player = Player(db)

    def play(run_id: int, to: str, *good: int) -> list[int]:
        player.look()
        player.finish("make", outputs={"to": to})
        for place in range(5):
            player.look()
            (player.finish if place in good else player.fail)("pay")
        return [row["id"] for row in children(db, run_id)][1:]

    night = start(db, "night")
    a, b, x, other, made = play(night, "batch 1")
    second = play(starting.retry(db, ANN, night).id, "batch 2", 0, 2, 4)
    for failure, by in ((a, second[0]), (x, second[2]), (made, second[4])):
        how = " with other values; to do the work with those of run" if failure == made else "; to do the work again"
        said = f"Run {failure} was retried as run {by}, which succeeded{how}"
        with pytest.raises((Refused, sa.exc.DBAPIError), match=said):
            again(db, door, failure)
    assert starting.retry(db, ANN, made, changes={"to": "batch 1"}).retry_of == made
    player.look()
    player.finish("pay")
    with pytest.raises((Refused, sa.exc.DBAPIError), match="which succeeded; to do the work again"):
        again(db, door, made)
    assert again(db, door, b) < again(db, door, other)
    assert starting.retry(db, ANN, a, changes={"to": "y"}).state == RunState.QUEUED


def test_a_visit_of_a_loop_may_be_retried_though_the_same_step_has_done_other_work(db: Database) -> None:
    given = {"arguments": {"pay": ["${steps.next.next.outputs.n}"]}, "on_success": {"step": "next"}}
    define(
        db, next={}, pay={}, night={"steps": [{"name": "next", "jobs": "next"}, {"name": "p", "jobs": "pay"} | given]}
    )
    run_id, player = start(db, "night"), Player(db)
    failures = []
    for _ in range(2):
        for number in range(2):
            player.look()
            player.finish("next", outputs={"n": str(number)})
            player.look()
            (player.fail if number else player.finish)("pay")
        failures.append(children(db, run_id)[-1]["id"])
        run_id = starting.retry(db, ANN, run_id).id
    player.look()
    player.fail("next")
    assert starting.retry(db, ANN, failures[0]).retry_of == failures[0]
