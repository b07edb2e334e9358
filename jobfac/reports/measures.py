"""What can be said of some runs, in plain numbers: pure functions of their tallies."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from jobfac.states import FAILED
from jobfac.store.statistics import DailyTotals

BROKEN = [state.value for state in sorted(FAILED)]
"""What counts as failed."""


def percent(part: float, whole: float) -> float | None:
    """To one decimal; None of nothing."""
    return round(100 * part / whole, 1) if whole else None


def mean(milliseconds: int, number: int) -> float | None:
    """Seconds to three decimals; None of nothing."""
    return round(milliseconds / number / 1000, 3) if number else None


def seconds(milliseconds: int | None) -> float | None:
    """Seconds to three decimals."""
    return None if milliseconds is None else milliseconds / 1000


def hours(milliseconds: int) -> float:
    """Hours to two decimals."""
    return round(milliseconds / 3_600_000, 2)


def ended(tally: DailyTotals) -> int:
    """All the runs."""
    return sum(tally.states.values())


def failed(tally: DailyTotals) -> int:
    """Those of them that failed in whatever way."""
    return sum(tally.states[state] for state in BROKEN)


def success(tally: DailyTotals) -> float | None:
    """Of those that succeeded, were mixed or failed, how many succeeded, in per cent."""
    good = tally.states["succeeded"]
    return percent(good, good + tally.states["mixed"] + failed(tally))


def together(tallies: Iterable[DailyTotals]) -> DailyTotals:
    """All of them as one."""
    found = DailyTotals()
    for tally in tallies:
        found.add(tally)
    return found


def by_job(found: Mapping[tuple[date, str], DailyTotals]) -> dict[str, DailyTotals]:
    """The days of a job as one, in the order of the jobs' names."""
    jobs: defaultdict[str, DailyTotals] = defaultdict(DailyTotals)
    for (_, name), tally in found.items():
        jobs[name].add(tally)
    return dict(sorted(jobs.items()))


def change(now: float | None, then: float | None) -> float | None:
    """How much more ``now`` is, in per cent; None if there is nothing to compare."""
    return None if now is None or not then else round(100 * (now - then) / then, 1)
