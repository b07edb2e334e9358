"""A retry from the failed step takes over what was retried by hand with success, on every engine."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import sequences
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
from tests.support.database import define, get, start
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
    by_hand = {job: retry(db, inside[job], from_failed=False) for job in "ac"}
    player.look()
    player.finish("a", outputs='{"file": "x"}')
    player.fail("c")
    second = retry(db, first)
    assert player.look() == ["c"], "the retry by hand of c has failed, too"
    player.fail("c")
    last = retry(db, by_hand["c"], from_failed=False)
    player.look()
    player.finish("c")
    third = retry(db, second)
    assert player.look() == ["d"], "nothing of the step is left"
    assert children(db, third)[0]["arguments"] == '["x"]', "the outputs of the retry by hand are there"
    assert {one.job: (one.id, one.taken_from) for one in history(db, third)[0].runs} == {
        "a": (by_hand["a"], by_hand["a"]),
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
    done = by_hand(db, player, eu)
    by_hand(db, player, done, {"region": "jp"})
    by_hand(db, player, us, {"region": "uk"})
    second = retry(db, first)
    player.look()
    player.fail(*(one.job for one in player.held))
    player.look()
    assert begun(db, second) == ["b:eu", "a:us", "b:us"]


@pytest.mark.parametrize("last", [0, 1])
def test_a_retry_by_hand_of_what_another_retry_of_the_sequence_started_counts(db: Database, last: int) -> None:
    """Ann retries what the last retry started. Bob continues the run of an earlier mail."""
    player, first = prepared(db, ONE, USE)
    player.look()
    player.finish("b", "c")
    player.fail("a")
    second, third = (retry(db, first, from_failed=from_failed) for from_failed in (True, False))
    player.look()
    player.fail("a", "a", "b", "c")
    (failed, *_) = (children(db, one)[0]["id"] for one in ((second, third)[last],))
    by_hand(db, player, failed)
    retry(db, first)
    assert player.look() == ["d"]


@pytest.mark.parametrize("days", [(1, 1), (1, 2)])
def test_a_retry_by_hand_stands_for_what_failed_later_with_the_same_values_alone(
    lite: Database, days: tuple[int, int]
) -> None:
    takes = {"parameters": {"day": {"type": "integer", "default": 1}}}
    steps = [{"name": "one", "jobs": ["a"], "parameters": {"a": {"day": "${parameters.day}"}}}]
    define(lite, a=takes, seq={"steps": steps, **takes})
    player, first = Player(lite), start(lite, "seq")
    player.look()
    player.fail("a")
    second = retry(lite, first, {"day": days[1]})
    player.look()
    player.fail("a")
    by_hand(lite, player, children(lite, first)[0]["id"])
    retry(lite, second)
    assert player.look() == ([] if days == (1, 1) else ["a"])


def test_what_was_not_started_again_before_its_retry_by_hand_is_not_done_again(lite: Database) -> None:
    player, first = fanned(lite, at_most=1)
    for _ in range(4):
        player.look()
        player.fail(player.held[0].job)
    second = retry(lite, first)
    player.look()
    lite.transact(sequences.stop, second, now=True, by="me")
    player.finish("a", state=RunState.STOPPED)
    assert begun(lite, second) == ["a:eu"]
    by_hand(lite, player, children(lite, first)[1]["id"])
    third = retry(lite, second)
    while player.look():
        player.finish(player.held[0].job)
    assert begun(lite, third) == ["a:eu", "a:us", "b:us"]
