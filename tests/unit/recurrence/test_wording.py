"""A rule is shown as a person would write it."""

import json
from typing import Any

import pytest

from jobfac.definitions import Schedule
from jobfac.recurrence.wording import in_words
from jobfac.store.schedules.decision import write

RULES: list[tuple[dict[str, Any], str]] = [
    ({"cron": "30 6 * * MON-FRI", "timezone": "Europe/Berlin"}, "Mon-Fri 06:30 Europe/Berlin"),
    ({"cron": "*/15 8-18 * * 1-5"}, "Mon-Fri every 15m 08:00-18:59 UTC"),
    ({"cron": "*/15 * * * *"}, "every 15m UTC"),
    ({"cron": "* * * * *"}, "every minute UTC"),
    ({"cron": "0 6,18 1,15 * *"}, "on the 1st, the 15th 06:00, 18:00 UTC"),
    ({"cron": "@daily"}, "daily 00:00 UTC"),
    ({"cron": "@hourly"}, "hourly at :00 UTC"),
    ({"cron": "5 */2 * * *"}, "every 2h at :05 UTC"),
    ({"cron": "*/45 * * * *"}, "cron */45 * * * * UTC"),
    ({"cron": "0 */5 * * *"}, "cron 0 */5 * * * UTC"),
    ({"times": {"at": ["06:30:15", "07:00:00"]}}, "daily 06:30:15, 07:00 UTC"),
    ({"cron": "0 6 1 jan *"}, "on the 1st of Jan 06:00 UTC"),
    ({"cron": "0 6 * 7 7"}, "Sun of Jul 06:00 UTC"),
    ({"cron": "0 0 1 * MON"}, "cron 0 0 1 * MON UTC"),
    ({"cron": "1-59/7 3 * * *"}, "cron 1-59/7 3 * * * UTC"),
    ({"every": "90m"}, "every 1h30m"),
    ({"at": "2027-01-01T06:30:00+01:00"}, "once at 2027-01-01 06:30:00+01:00"),
    ({"at": "2027-01-01T06:30:00", "timezone": "Europe/Berlin"}, "once at 2027-01-01 06:30:00 Europe/Berlin"),
    (
        {
            "dates": {"days_of_month": [1, "last"]},
            "times": {"at": ["06:30", "18:00"]},
            "timezone": "America/New_York",
            "calendar": {"holidays": "US-NY", "on_holiday": "next"},
        },
        "on the 1st, the last day 06:30, 18:00 America/New_York, on holidays (US-NY) the next working day",
    ),
    (
        {"dates": {"weekdays": ["weekday"]}, "times": {"minutes": [0, 30], "hours": [8, 9]}},
        "Mon-Fri 08, 09 at :00, :30 UTC",
    ),
    (
        {"times": {"every": "45m", "between": ["08:00-18:00"]}, "blackout": ["12/24 00:00 - 12/27 00:00"]},
        "daily every 45m, 08:00-18:00 UTC, not 12/24 00:00 - 12/27 00:00",
    ),
    (
        {"dates": {"days_of_week": ["mon", "fri"]}, "times": {"at": "06:30"}, "starts": "2027-01-01"},
        "Mon, Fri 06:30 UTC, from 2027-01-01",
    ),
]


@pytest.mark.parametrize(("rule", "words"), RULES, ids=[words for _, words in RULES])
def test_a_rule_is_in_words(rule: dict[str, Any], words: str) -> None:
    assert in_words(json.loads(write(Schedule.model_validate(rule)))) == words


def test_a_rule_of_an_unknown_form_is_shown_as_it_is() -> None:
    assert in_words({"signal": "red", "seen": ["30s"], "payload": "x"}) == "signal red, seen 30s"


def test_a_start_after_other_jobs_names_them() -> None:
    one = {"after": {"job": "extract", "on": ["failed"]}, "within": "6h"}
    both = {"after": {"all": [{"job": "a"}, {"job": "b"}]}}
    assert [in_words(json.loads(write(Schedule.model_validate(rule)))) for rule in (one, both)] == [
        "after extract (failed), within 6h",
        "after a and b",
    ]


def test_a_file_that_arrives_is_named() -> None:
    assert in_words({"file": "/in/*.csv"}) == "file /in/*.csv, stable for 10s"
    rule = {"file": "/in/*.csv", "stable": "30s", "pool": "etl"}
    assert in_words(rule) == "file /in/*.csv, stable for 30s, in pool etl"
