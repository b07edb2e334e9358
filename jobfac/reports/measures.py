"""Measures of runs, computed from their totals. Pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from jobfac.states import FAILED
from jobfac.store.history.totals import DailyTotals

BROKEN = [state.value for state in sorted(FAILED)]
"""States that count as failed."""


def percent(part: float, whole: float) -> float | None:
    """Return the percentage with one decimal, or None if ``whole`` is 0."""
    return round(100 * part / whole, 1) if whole else None


def mean(milliseconds: int, number: int) -> float | None:
    """Return the mean in seconds with three decimals, or None if ``number`` is 0."""
    return round(milliseconds / number / 1000, 3) if number else None


def seconds(milliseconds: int | None) -> float | None:
    """Convert milliseconds to seconds."""
    return None if milliseconds is None else milliseconds / 1000


def hours(milliseconds: int) -> float:
    """Convert milliseconds to hours with two decimals."""
    return round(milliseconds / 3_600_000, 2)


def ended(totals: DailyTotals) -> int:
    """Return the number of runs, in any final state."""
    return sum(totals.states.values())


def failed(totals: DailyTotals) -> int:
    """Return the number of failed runs."""
    return sum(totals.states[state] for state in BROKEN)


def success_percent(totals: DailyTotals) -> float | None:
    """Return the percentage of succeeded runs among those that succeeded, were mixed or failed."""
    succeeded = totals.states["succeeded"]
    return percent(succeeded, succeeded + totals.states["mixed"] + failed(totals))


def add_up(parts: Iterable[DailyTotals]) -> DailyTotals:
    """Return the sum of several totals."""
    totals = DailyTotals()
    for part in parts:
        totals.add(part)
    return totals


def by_job(by_day: Mapping[tuple[date, str], DailyTotals]) -> dict[str, DailyTotals]:
    """Return the totals of each job over all days, ordered by job."""
    jobs: defaultdict[str, DailyTotals] = defaultdict(DailyTotals)
    for (_, name), of_day in by_day.items():
        jobs[name].add(of_day)
    return dict(sorted(jobs.items()))


def change(now: float | None, then: float | None) -> float | None:
    """Return the change from ``then`` to ``now`` in per cent, or None if it cannot be computed."""
    return None if now is None or not then else round(100 * (now - then) / then, 1)
