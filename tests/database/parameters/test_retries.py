"""What a retry does with the values of the run that it repeats."""

import json

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import sequences
from tests.database.parameters.test_parameters import LOAD, take, values
from tests.support.database import Hand, define, get, start


def test_a_retry_has_the_same_values_unless_it_changes_them(db: Database) -> None:
    define(db, load=LOAD)
    first = start(db, "load", parameters={"region": "eu", "day": "2027-01-31", "token": "geheim"})
    hand = Hand(db)
    hand.end(take(hand)[0], RunState.FAILED)
    again = db.transact(sequences.retry, first, "me").run_id
    changed = db.transact(sequences.retry, first, "me", changes={"region": "us"}).run_id
    assert values(db, again) == values(db, first)
    assert values(db, changed) == {**values(db, first), "region": "us"}
    assert json.loads(get(db, changed)["sensitive"]) == {"token": "geheim"}
    define(db, load={**LOAD, "parameters": {"region": LOAD["parameters"]["region"]}, "command": ["load"]})
    assert values(db, db.transact(sequences.retry, first, "me").run_id) == {"region": "eu"}


def test_a_retry_does_no_other_work_because_a_parameter_was_renamed(db: Database) -> None:
    region = {"default": "us"}
    define(db, load={"parameters": {"region": region}})
    first, usual = start(db, "load", parameters={"region": "eu"}), start(db, "load")
    hand = Hand(db)
    for claimed in take(hand):
        hand.end(claimed, RunState.FAILED)
    define(db, load={"parameters": {"area": region}})
    with pytest.raises(Refused, match=f"Run {first} has a value of 'region', .* new parameter 'area'; give the retry"):
        db.transact(sequences.retry, first, "me")
    define(db, load={"parameters": {"area": region}, "on_demand": False})
    with pytest.raises(Refused, match="on_demand: false; apply it with true, then give the retry a value of that"):
        db.transact(sequences.retry, first, "me")
    define(db, load={"parameters": {"area": region}})
    changed = db.transact(sequences.retry, first, "me", changes={"area": "eu"}).run_id
    assert values(db, changed) == {"area": "eu"}
    assert values(db, db.transact(sequences.retry, usual, "me").run_id) == {"area": "us"}


def test_a_value_of_another_parameter_lets_no_retry_do_other_work(db: Database) -> None:
    region, limit = {"default": "us"}, {"default": "9"}
    define(db, load={"parameters": {"region": region, "limit": limit}})
    first, hand = start(db, "load", parameters={"region": "eu", "limit": "5"}), Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    define(db, load={"parameters": {"area": region, "limit": limit}})
    with pytest.raises(Refused, match="none of its new parameter 'area'"):
        db.transact(sequences.retry, first, "me", changes={"limit": "6"})
    changed = db.transact(sequences.retry, first, "me", changes={"limit": "6", "area": "eu"}).run_id
    assert values(db, changed) == {"limit": "6", "area": "eu"}


def test_what_was_sensitive_is_not_shown_by_a_retry(db: Database) -> None:
    define(db, load={"parameters": {"token": {"sensitive": True}}})
    first, usual = start(db, "load", parameters={"token": "secret"}), start(db, "load")
    hand = Hand(db)
    for claimed in take(hand):
        hand.end(claimed, RunState.FAILED)
    define(db, load={"parameters": {"token": {}}})
    with pytest.raises(Refused, match=f"Run {first} has a sensitive value of 'token', which is not sensitive in job"):
        db.transact(sequences.retry, first, "me")
    changed = db.transact(sequences.retry, first, "me", changes={"token": "open"}).run_id
    assert values(db, changed) == {"token": "open"}
    assert values(db, db.transact(sequences.retry, usual, "me").run_id) == {"token": None}
