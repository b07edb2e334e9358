"""A retry from the failed step takes over what was retried by hand with success, on every engine."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.states import RunState
from tests.database.sequences.continuing.test_taking_over import (
    GATHER,
    ONE,
    USE,
    begun,
    fanned,
    history,
    prepared,
    retry,
)
from tests.support.database import get
from tests.support.sequences import Player, children


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Database]:
    """What does not depend on the engine."""
    db = Database(sqlite_url)
    yield db
    db.close()


def test_what_was_retried_by_hand_with_success_is_not_done_again(db: Database) -> None:
    player, first = prepared(db, ONE, USE)
    player.look()
    player.finish("b")
    player.fail("a", "c")
    inside = {child["job"]: child["id"] for child in children(db, first)}
    again = {job: retry(db, inside[job], from_failed=False) for job in "ac"}
    player.look()
    player.finish("a", outputs='{"file": "x"}')
    player.fail("c")
    second = retry(db, first)
    assert player.look() == ["c"], "the retry by hand of c has failed, too"
    player.fail("c")
    last = retry(db, children(db, second)[0]["id"], from_failed=False)
    player.look()
    player.finish("c")
    third = retry(db, second)
    assert player.look() == ["d"], "nothing of the step is left"
    assert children(db, third)[0]["arguments"] == '["x"]', "the outputs of the retry by hand are there"
    assert {one.job: (one.id, one.taken_from) for one in history(db, third)[0].runs} == {
        "a": (again["a"], again["a"]),
        "b": (inside["b"], first),
        "c": (last, last),
    }
    player.finish("d")
    assert get(db, third)["state"] == RunState.SUCCEEDED


def test_values_that_were_retried_by_hand_with_success_are_not_done_again(db: Database) -> None:
    player, first = fanned(db, GATHER)
    player.look()
    player.fail("a")
    player.finish("b", outputs='{"file": "x"}')
    player.look()
    player.finish("a", "b", outputs='{"file": "x"}')
    (failed,) = (child["id"] for child in children(db, first) if child["state"] == RunState.FAILED)
    retry(db, failed, from_failed=False)
    player.look()
    player.finish("a", outputs='{"file": "y"}')
    second = retry(db, first)
    assert player.look() == ["d"]
    assert children(db, second)[0]["arguments"] == json.dumps(['["y", "x"]'])


def by_hand(db: Database, player: Player, run_id: int, changes: Mapping[str, Any] | None = None) -> int:
    """Retry a run by hand, with success."""
    new = retry(db, run_id, changes, from_failed=False)
    player.look()
    player.finish(get(db, new)["job"], outputs='{"file": "x"}')
    return new


def test_a_retry_by_hand_does_not_stand_for_a_later_visit(lite: Database) -> None:
    player, first = prepared(lite, ONE, {"name": "more", "jobs": ["d"], "on_success": {"step": "one"}})
    player.look()
    player.finish("b", "c")
    player.fail("a")
    by_hand(lite, player, children(lite, first)[0]["id"])
    second = retry(lite, first)
    assert player.look() == ["d"]
    player.finish("d")
    assert player.look() == ["a", "b", "c"], "the next visit is a new one"
    player.finish("b", "c")
    player.fail("a")
    third = retry(lite, second)
    assert player.look() == ["a"]
    player.fail("a")
    by_hand(lite, player, children(lite, third)[0]["id"])
    retry(lite, third)
    assert player.look() == ["d"]


def test_a_retry_by_hand_with_another_value_does_not_stand_for_that_of_its_run(db: Database) -> None:
    player, first = fanned(db)
    for _ in range(2):
        player.look()
        player.fail(*(one.job for one in player.held))
    eu, us = (one["id"] for one in children(db, first) if one["job"] == "a")
    by_hand(db, player, by_hand(db, player, eu), {"region": "jp"})
    by_hand(db, player, us, {"region": "uk"})
    second = retry(db, first)
    player.look()
    player.fail(*(one.job for one in player.held))
    player.look()
    assert begun(db, second) == ["b:eu", "a:us", "b:us"]
