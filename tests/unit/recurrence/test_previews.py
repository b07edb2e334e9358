"""Due times of forty schedules in twelve months: the files, their independent sources and jobfac agree."""

import json
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest

from jobfac.definitions.schedule import Schedule
from jobfac.recurrence import due_times, explain, times
from jobfac.recurrence.times import Moment
from tests.unit.recurrence.previews import PREVIEWS, Preview, expected, path, written, year_of

CASES = [pytest.param(zone, preview, id=preview.name) for zone, found in PREVIEWS.items() for preview in found]


def test_there_are_forty_in_six_zones() -> None:
    assert len(CASES) == 40
    assert len(PREVIEWS) == 6
    for zone, previews in PREVIEWS.items():
        assert list(json.loads(path(zone).read_text())) == [preview.name for preview in previews]


@pytest.mark.parametrize(("zone", "preview"), CASES)
def test_the_due_times_of_a_year_agree(zone: str, preview: Preview) -> None:
    lines = json.loads(path(zone).read_text())[preview.name]
    schedule = Schedule.model_validate({**preview.schedule, "timezone": zone})
    after, until = year_of(zone)
    assert written(due_times(schedule, after, until), zone) == lines
    assert expected(preview, zone) == lines
    for only_due in (False, True):
        candidates = explain(schedule, after, 20_000, only_due=only_due)
        explained = takewhile(lambda candidate: candidate.due_at <= until, candidates)
        assert written((candidate.due_at for candidate in explained if candidate.fires), zone) == lines


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Moment]:
    """The moments that the rules have made so far."""
    found: list[Moment] = []

    def make(*values: Any) -> Moment:
        found.append(Moment(*values))
        return found[-1]

    monkeypatch.setattr(times, "Moment", make)
    return found


@pytest.mark.parametrize("more", [{}, {"blackout": ["00:00 - 23:59"]}, {"starts": "2030-01-01"}], ids=str)
def test_a_preview_of_every_second_reads_no_whole_days(more: dict[str, Any], made: list[Moment]) -> None:
    found = list(
        explain(Schedule.model_validate({"every": "1s", **more}), datetime(2027, 1, 5, 13, 37, tzinfo=UTC), 100)
    )
    assert len(found) == 100
    assert len(made) < 1000


def test_times_over_midnight_on_holidays_are_not_read_second_by_second(made: list[Moment]) -> None:
    holidays = [f"{datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=number):%m/%d}" for number in range(364)]
    rule = {
        "times": {"every": "1s", "between": ["22:00 - 21:59"], "count_from": "span"},
        "calendar": {"dates": holidays},
        "blackout": "01/02 00:00 - 01/01 00:00",
    }
    found = explain(Schedule.model_validate(rule), datetime(2026, 11, 26, tzinfo=UTC), 10**9, only_due=True)
    assert next(one.due_at for one in found if one.fires) == datetime(2027, 1, 1, tzinfo=UTC)
    assert len(made) < 5 * 86_400
