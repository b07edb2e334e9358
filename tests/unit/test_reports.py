"""The rows of each report, and the HTML page."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from jobfac.cli.commands.monitoring.report import report
from jobfac.cli.common import USAGE, Failure
from jobfac.reports import REPORTS, Facts, Kind, Period, charts, job_history, page
from jobfac.reports.facts import Latest
from jobfac.reports.form import duration, shown
from jobfac.reports.history import spans
from jobfac.store.history.totals import DailyTotals, EndedRun, Work, of_run, shares

NOW = datetime(2027, 3, 10, 15, 0, tzinfo=UTC)
MONTH = Period(date(2027, 3, 1), date(2027, 3, 10), NOW)


def totals(succeeded: int = 0, failed: int = 0, seconds: float = 10.0, late: int = 0, **states: int) -> DailyTotals:
    found = DailyTotals(ran=succeeded + failed, run_ms=round(1000 * seconds) * (succeeded + failed), late=late)
    found.states |= {"succeeded": succeeded, "failed": failed, **states}
    found.longest_ms, found.longest_run, found.latest_ms, found.latest_run = round(2000 * seconds), 7, 90_000, 8
    return found


def facts(
    runs: dict[tuple[int, str], DailyTotals], before: dict[tuple[int, str], DailyTotals] | None = None, **more: Any
) -> Facts:
    """Return facts about days of March 2027. ``before`` are days of February."""
    return Facts(
        period=MONTH,
        jobs={"a": "etl", "b": None, "c": "etl"},
        runs={(date(2027, 3, day), job): its for (day, job), its in runs.items()},
        before={(date(2027, 2, day), job): its for (day, job), its in (before or {}).items()},
        **{"work": {}, "latest": {}, **more},
    )


def test_lateness_and_waiting_time_are_those_of_the_first_start() -> None:
    row = EndedRun(
        id=5, job="a", state="succeeded", attempt=1, failures=0, started_at=NOW + timedelta(seconds=20),
        ended_at=NOW + timedelta(seconds=25), cpu_seconds=1.5, peak_memory=7,
        created_at=NOW, ready_at=None, due_at=NOW - timedelta(seconds=50), queued_at=NOW, origin='{"due_utc": ""}',
    )  # fmt: skip
    found = of_run(row)
    assert (found.latest_ms, found.late, found.wait_ms, found.run_ms, found.longest_run) == (
        70_000,
        1,
        20_000,
        5_000,
        5,
    )
    assert (found.cpu_ms, found.peak_memory) == (1500, 7)
    assert of_run(row._replace(origin='{"backfill": true}')).late == 0, "its time had passed when it was asked for"
    row = row._replace(attempt=2, failures=1, ready_at=NOW + timedelta(seconds=15))
    found = of_run(row)
    assert (found.latest_ms, found.late, found.attempts, found.retries) == (70_000, 1, 2, 1)
    row = row._replace(due_at=None)  # the retry has overwritten when it was ready
    assert of_run(row).late == 0
    assert of_run(row._replace(started_at=datetime(1970, 1, 1, tzinfo=UTC))).run_ms == 0, "the clock was not set yet"
    row = row._replace(started_at=None)
    found = of_run(row)
    assert (found.ran, found.longest_ms, found.latest_ms) == (0, None, None)


def test_a_time_span_is_divided_among_its_days() -> None:
    begin = datetime(2027, 3, 1, 23, 59, 50, tzinfo=UTC)
    assert list(shares(begin, begin + timedelta(days=1, seconds=15))) == [
        (date(2027, 3, 1), 10_000),
        (date(2027, 3, 2), 86_400_000),
        (date(2027, 3, 3), 5_000),
    ]
    assert list(shares(begin, begin - timedelta(seconds=5))) == [(date(2027, 3, 1), 0)]
    assert list(shares(begin, begin - timedelta(days=1))) == [(date(2027, 2, 28), 0)], "the day of the end"
    assert list(shares(datetime(1970, 1, 1, tzinfo=UTC), begin)) == [(date(2027, 3, 1), 0)], "the clock was not set yet"
    assert len(list(shares(begin - timedelta(days=3650), begin))) == 3651


def test_the_summary_is_by_category_and_adds_up() -> None:
    found = REPORTS["summary"](
        facts({(1, "a"): totals(8, 2), (2, "c"): totals(10, late=1), (2, "b"): totals(0, stopped=3)})
    )
    assert [(row.category, row.jobs, row.runs, row.failed, row.other) for row in found.rows] == [
        (None, 1, 3, 0, 3),
        ("etl", 2, 20, 2, 0),
    ]
    assert [row.success_percent for row in found.rows] == [None, 90.0]
    assert found.total is not None
    assert [getattr(found.total, name) for name in ("jobs", "runs", "succeeded", "failed", "other", "late")] == [
        3,
        23,
        18,
        2,
        3,
        1,
    ]


def test_failures_name_the_last_run_that_is_still_stored() -> None:
    latest = {("a", "failed"): Latest(77, NOW, "exit code 3")}
    found = REPORTS["failures"](
        facts({(1, "a"): totals(6, 2, lost=2), (2, "a"): totals(0, 1), (2, "b"): totals(5)}, latest=latest)
    )
    assert [(row.job, row.state, row.failures, row.share_percent) for row in found.rows] == [
        ("a", "failed", 3, 27.3),
        ("a", "lost", 2, 18.2),
    ]
    assert [(row.last_run, row.reason) for row in found.rows] == [(77, "exit code 3"), (None, None)]


def test_slowest_compares_with_the_period_before() -> None:
    now = {
        (1, "a"): totals(1, seconds=10),
        (2, "a"): totals(3, seconds=20),
        (1, "b"): totals(1, seconds=40),
        (3, "c"): totals(),
    }
    found = REPORTS["slowest"](facts(now, {(20, "a"): totals(5, seconds=10)}))
    assert [(row.job, row.average_seconds, row.before_seconds, row.change_percent) for row in found.rows] == [
        ("b", 40.0, None, None),
        ("a", 17.5, 10.0, 75.0),
    ]
    assert (found.rows[1].longest_seconds, found.rows[1].longest_run) == (40.0, 7)


def test_usage_is_cpu_time_and_the_largest_peak() -> None:
    def used(cpu_ms: int, peak: int | None, runs: int = 2) -> DailyTotals:
        found = totals(runs)
        found.cpu_ms, found.peak_memory = cpu_ms, peak
        return found

    now = {
        (1, "a"): used(3_600_000, 5 << 20),
        (2, "a"): used(0, 9 << 20),
        (2, "b"): used(0, None),
        (3, "c"): used(9, 1),
    }
    found = REPORTS["usage"](facts(now, {(20, "a"): used(1_800_000, None)}))
    assert [tuple(row) for row in found.rows] == [
        ("a", 4, 1.0, 900.0, 900.0, 0.0, 9 << 20),
        ("c", 2, 0.0, 0.004, None, None, 1),
    ]
    assert shown(9 << 20, Kind.MEMORY) == "9 MiB"


THREE_DAYS = {(2, "a"): totals(4, late=1), (1, "a"): totals(4), (1, "b"): totals(1)}


def test_late_lists_only_jobs_with_late_runs() -> None:
    found = REPORTS["late"](facts(THREE_DAYS))
    assert [(row.job, row.late, row.late_percent, row.latest_seconds) for row in found.rows] == [("a", 1, 12.5, 90.0)]


def test_trend_is_ordered_by_job_and_day() -> None:
    found = REPORTS["trend"](facts(THREE_DAYS))
    assert [(row.job, row.day.isoformat()) for row in found.rows] == [
        ("a", "2027-03-01"),
        ("a", "2027-03-02"),
        ("b", "2027-03-01"),
    ]


def test_utilisation_is_the_share_of_each_workers_slots() -> None:
    work = {(date(2027, 3, 1), "w1"): Work(3, 1_800_000, 7_200_000), (date(2027, 3, 2), "w2"): Work(1, 60_000, 0)}
    found = REPORTS["utilisation"](facts(THREE_DAYS, work=work))
    assert [(row.worker, row.busy_percent) for row in found.rows] == [("w1", 25.0), ("w2", None)]
    assert found.total is not None
    assert (found.total.attempts, found.total.busy_hours) == (4, 0.52)


def test_a_history_has_a_value_for_each_span() -> None:
    found = job_history(facts({(1, "a"): totals(2, 1), (10, "a"): totals(4)}), most=5)
    (row,) = found.rows
    assert (row.each, row.bad) == ([3, 0, 0, 0, 4], [1, 0, 0, 0, 0])
    assert row.taken == [10.0, None, None, None, 10.0]
    assert shown(row.each, Kind.SERIES) == "▇   █"


@pytest.mark.parametrize(
    ("days", "most", "sizes"), [(1, 92, 1), (92, 92, 92), (93, 92, 47), (365, 92, 53), (9000, 92, 92)]
)
def test_a_long_period_is_drawn_in_spans(days: int, most: int, sizes: int) -> None:
    period = replace(MONTH, since=MONTH.until - timedelta(days=days - 1))
    parts = spans(period, most)
    assert (len(parts), sum(map(len, parts)), parts[0][0], parts[-1][-1]) == (sizes, days, period.since, period.until)


def test_durations_have_units() -> None:
    seconds = (0.04, 12, 59.96, 185, 7500)
    assert [duration(one) for one in seconds] == ["0.0s", "12.0s", "1m00s", "3m05s", "2h05m"]


def test_changes_have_a_sign() -> None:
    assert [shown(one, Kind.CHANGE) for one in (29.6, -5.0, 0.4, None)] == ["+30 %", "−5 %", "0 %", ""]


def test_counts_have_thousands_separators() -> None:
    assert shown(1234567, Kind.COUNT) == "1,234,567"


@pytest.mark.parametrize(
    ("most", "expected"), [(0, [0, 1]), (3, [0, 1, 2, 3]), (647, [0, 200, 400, 600, 800]), (40, [0, 10, 20, 30, 40])]
)
def test_scales_are_round_and_include_the_greatest_value(most: float, expected: list[float]) -> None:
    assert charts.ticks(most) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "slow"}, "'slow' is not a report"),
        ({"name": "all", "as_csv": True}, "--csv prints one report"),
        ({"as_json": True, "as_csv": True}, "exclude each other"),
        ({"since": "soon"}, "--since must be a time"),
        ({"since": "2027-02-01", "until": "2027-01-01"}, "must not be later"),
    ],
)
def test_invalid_options_are_refused_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence) as refused:
        report(**options)
    assert refused.value.code == USAGE


class Tags(HTMLParser):
    """Checks that every tag is closed, and collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_loads_nothing_contains_no_script_and_escapes_all_text() -> None:
    evil = '<script>alert("1")</script>&'
    latest = {(evil, "failed"): Latest(1, NOW, evil)}
    work = {(date(2027, 3, 1), evil): Work(1, 1000, 2000)}
    known = facts({(1, evil): totals(3, 1, late=1), (2, "a"): totals(1)}, work=work, latest=latest)
    text = page(replace(known, filter_text=f"category {evil}", jobs={evil: evil, "a": None}))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert all(address.startswith("#") for address in tags.addresses)
    assert re.findall(r"url\(([^)]*)\)", text) == ["#hatched"]
    assert "@import" not in text
    assert evil not in text
    assert text.count("&lt;script&gt;") > 5


def test_each_section_of_an_empty_period_says_that_it_is_empty() -> None:
    text = page(facts({}))
    for sentence in (
        "No run ended in this period.",
        "No run failed",
        "Every run began on time.",
        "No worker ran",
    ):
        assert sentence in text
