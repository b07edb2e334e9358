"""The rule that says which success shows that a failure is over: one text for programs and views, and few pairs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobfac.store.history.recovery import Ended, candidates, condition

VIEWS = Path(__file__).parents[3] / "sql"
NIGHT = datetime(2027, 1, 31, 1, tzinfo=UTC)


@pytest.mark.parametrize("engine", ["mssql", "sqlite"])
def test_the_views_have_the_rule_of_the_programs(engine: str) -> None:
    view = "".join((VIEWS / engine / "10_views.sql").read_text(encoding="utf-8").split())
    rule = "".join(condition(engine, "s", "r").split())[1:-1]
    assert view.count(rule) == 1


def ended(number: int, **more: Any) -> Ended:
    values = {"attempt": 1, "job": "a", "kind": "program", "ended_at": NIGHT + timedelta(minutes=number)}
    more = {"parameters": "eu", **more}
    rest = dict.fromkeys(set(Ended._fields) - {"id", *values})
    return Ended(**{"id": number, **values, **rest, **more})


def pairs(failures: list[Ended], successes: list[Ended]) -> list[tuple[int, int]]:
    return sorted((one.id, good.id) for one, found in candidates(failures, successes) for good in found)


def test_of_the_successes_of_one_work_the_last_one_is_enough() -> None:
    failures = [ended(number, given="eu") for number in range(100)]
    successes = [ended(100 + number, given="eu", parameters=f"day {number}") for number in range(100)]
    assert pairs(failures, successes) == [(number, 199) for number in range(100)]


def test_a_success_that_may_show_what_no_later_one_shows_stays() -> None:
    failures = [ended(1, given="eu"), ended(2, given="us", parameters="us", first=1)]
    later = ended(9, given="eu", due_utc="2027-01-01")
    kept = [
        ended(8, given="eu", due_utc="2027-01-31"),
        ended(5, given="eu", due_utc="2026-12-01", kind="sequence"),
        ended(4, given="other", retry_of=2, first=1),
    ]
    dropped = ended(3, given="eu", due_utc="2026-12-01")
    found = pairs(failures, [dropped, *kept, later])
    assert found == [(1, 4), (1, 5), (1, 8), (1, 9), (2, 4)]


def test_many_failures_and_successes_of_the_same_work_make_few_pairs() -> None:
    """Each pair is compared in the transaction that counts the ends, for which all writers wait."""
    for more in ({"backfill": True}, {"kind": "sequence"}, {"visit_id": 1}, {"for_worker": 1}):

        def runs(first: int, of: dict[str, Any] = more) -> list[Ended]:
            own = {"visit_id", "for_worker"} & of.keys()
            each = ({**of, **dict.fromkeys(own, number)} for number in range(100))
            return [
                ended(first + place, given="eu", parameters=str(first + place), due_utc=f"day {place:03}", **one)
                for place, one in enumerate(each)
            ]

        found = pairs(runs(1), runs(101))
        assert {failure for failure, _ in found} == set(range(1, 101))
        assert len(found) <= 1000, more


def test_a_success_that_began_earlier_or_ended_earlier_shows_nothing() -> None:
    assert pairs([ended(5)], [ended(4, ended_at=NIGHT + timedelta(days=1)), ended(6, ended_at=NIGHT)]) == []
