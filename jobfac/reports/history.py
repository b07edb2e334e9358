"""The history of each job over the period, the same for the terminal and for the page."""

from collections.abc import Mapping, Sequence
from datetime import date

from jobfac.reports.facts import Facts, Period
from jobfac.reports.measures import by_job, change, ended, failed, mean, success
from jobfac.reports.rows import JobHistoryRow, Report
from jobfac.store.statistics import DailyTotals


def spans(when: Period, most: int) -> list[list[date]]:
    """The days of the period, singly or so many together that there are not more than ``most`` spans."""
    days = when.days
    step = next((size for size in (1, 2, 3, 7, 30) if len(days) <= size * most), -(-len(days) // most))
    return [days[at : at + step] for at in range(0, len(days), step)]


def by_span(found: Mapping[tuple[date, str], DailyTotals], parts: Sequence[Sequence[date]]) -> list[DailyTotals]:
    """All that happened in each span."""
    place = {day: number for number, span in enumerate(parts) for day in span}
    totals = [DailyTotals() for _ in parts]
    for (day, _), tally in found.items():
        totals[place[day]].add(tally)
    return totals


def job_history(facts: Facts, most: int) -> Report[JobHistoryRow]:
    """Each job over at most ``most`` spans of days, those with most runs first."""
    parts = spans(facts.period, most)
    before = by_job(facts.before)
    of_job: dict[str, dict[tuple[date, str], DailyTotals]] = {}
    for key, tally in facts.runs.items():
        of_job.setdefault(key[1], {})[key] = tally
    rows: list[JobHistoryRow] = []
    for name, whole in by_job(facts.runs).items():
        steps, former = by_span(of_job[name], parts), before.get(name, DailyTotals())
        average = mean(whole.run_ms, whole.ran)
        rows.append(
            JobHistoryRow(
                job=name,
                runs=ended(whole),
                failed=failed(whole),
                success_percent=success(whole),
                average_seconds=average,
                change_percent=change(average, mean(former.run_ms, former.ran)),
                each=[ended(step) for step in steps],
                bad=[failed(step) for step in steps],
                taken=[mean(step.run_ms, step.ran) for step in steps],
            )
        )
    rows.sort(key=lambda row: (-row.runs, row.job))
    span = "a day" if len(parts[0]) == 1 else f"{len(parts[0])} days"
    note = (
        f"Over time: the runs, and their average time, each from 0 to its own greatest value, {span} at a time. "
        f"Change: of the average time, against the {len(facts.period.days)} days before."
    )
    return Report("trend", "Jobs over time", note, facts.period, JobHistoryRow, rows)
