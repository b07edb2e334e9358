"""No list wraps on a terminal of 80 columns, however long the names are."""

import re

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification
from tests.support.factory import Factory

LONG = "an-extraordinarily-long-name-of-a-job-that-somebody-has-made-up-" + "x" * 60

LISTS: dict[tuple[str, ...], int] = {
    ("jobs", "list"): 2,
    ("runs", "list"): 2,
    ("workers", "list"): 1,
    ("schedule", "list"): 2,
    ("keys", "list"): 1,
    ("notify", "list"): 1,
    ("schedule", "preview", LONG, "--count", "4", "--explain"): 4,
    ("schedule", "backfill", LONG, "--from", "2026-01-01", "--to", "2026-01-02", "--dry-run"): 8,
    ("stop", "--job", LONG, "--all", "--dry-run"): 1,
}
"""Commands with the number of lines that they list, besides the heading."""


@pytest.fixture
def narrow(sqlite_factory: Factory) -> Factory:
    """A terminal of 80 columns before a factory with long names."""
    factory = sqlite_factory
    program = {"command": ["python3", "-c", "print('a very long command line indeed')" * 3], "category": "c" * 100}
    rule = {
        "cron": "30 6,18 * * MON-FRI",
        "timezone": "America/Argentina/ComodRivadavia",
        "blackout": ["SAT 22:00 - SUN 06:00"],
    }
    factory.apply({LONG: {**program, "schedules": [rule, {**rule, "name": "n" * 100}]}, "b": program})
    factory.start("b", "--in", "1h")
    factory.start(LONG, "--in", "1h")
    factory.run("keys", "create", "--role", "viewer", "--name", "k" * 100, "--category", "d" * 100)
    factory.worker("w" * 150, "--pool", "p" * 100)
    db = Database(factory.url)
    row = {"job": LONG, "event": "failed", "dedupe": "d", "recipient": '{"email": ["%s@example.org"]}' % ("e" * 60)}
    with db.begin() as conn:
        times = {"due_at": utcnow(), "created_at": utcnow()}
        conn.execute(notification.insert().values(**row, body="{}", state="dead", tries=9, error="x" * 500, **times))
        conn.execute(sa.text("UPDATE run SET reason = :reason"), {"reason": "because " * 60})
    db.close()
    factory.environment |= {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}
    return factory


def lines_of(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_no_list_wraps(narrow: Factory) -> None:
    for words, number in LISTS.items():
        lines = lines_of(narrow.run(*words).stdout)
        assert len(lines) == number + 1, "\n".join(lines)
        assert max(map(len, lines)) <= 80, "\n".join(lines)


def test_reports_settings_and_a_run_stay_within_the_terminal(narrow: Factory) -> None:
    for words in (("config",), ("runs", "show", "1"), ("report", "all"), ("jobs", "--help"), ("help",)):
        lines = lines_of(narrow.run(*words).stdout)
        table = [line for line in lines if not line.startswith(("reason", "queue"))]
        assert max(map(len, table)) <= 80, "\n".join(table)


def test_a_short_time_has_its_offset_and_a_rule_is_in_words(narrow: Factory) -> None:
    shown = narrow.run("schedule", "list").stdout
    assert "Mon-Fri 06:30" in shown
    assert re.search(r"\d\d:\d\d[+-]\d\d:\d\d", shown)
    del narrow.environment["FORCE_COLOR"]
    piped = narrow.run("schedule", "list").stdout
    assert "Mon-Fri 06:30, 18:30 America/Argentina/ComodRivadavia, not SAT 22:00 - SUN 06:00" in piped
    assert LONG in piped


def test_the_heat_map_has_a_line_a_day(narrow: Factory) -> None:
    lines = lines_of(narrow.run("schedule", "load", "--days", "3").stdout)
    assert max(map(len, lines)) <= 80
    assert sum(bool(re.match(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d ", line)) for line in lines) in (3, 4)
    assert "!! too few" in lines[-1]
