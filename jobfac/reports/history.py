"""The history of each job over the period, for the terminal and for the HTML page."""

from collections.abc import Mapping, Sequence
from datetime import date

from jobfac.reports.facts import Facts, Period
from jobfac.reports.measures import change, ended, failed, mean, success_percent
from jobfac.reports.rows import JobHistoryRow, Report
from jobfac.store.history.totals import DailyTotals


def spans(when: Period, most: int) -> list[list[date]]:
    """Split the period into at most ``most`` spans of equal numbers of days; the last one may be shorter."""
    days = when.days
    step = next((size for size in (1, 2, 3, 7, 30) if len(days) <= size * most), -(-len(days) // most))
    return [days[at : at + step] for at in range(0, len(days), step)]


def by_span(by_day: Mapping[tuple[date, str], DailyTotals], parts: Sequence[Sequence[date]]) -> list[DailyTotals]:
    """Return the totals of each span of days, over all jobs in ``by_day``."""
    place = {day: number for number, span in enumerate(parts) for day in span}
    totals = [DailyTotals() for _ in parts]
    for (day, _), of_day in by_day.items():
        totals[place[day]].add(of_day)
    return totals


def job_history(facts: Facts, most: int) -> Report[JobHistoryRow]:
    """Return the history of each job over at most ``most`` spans of days, jobs with most runs first."""
    parts = spans(facts.period, most)
    before = facts.before_by_job
    days_of_job: dict[str, dict[tuple[date, str], DailyTotals]] = {}
    for key, of_day in facts.runs.items():
        days_of_job.setdefault(key[1], {})[key] = of_day
    rows: list[JobHistoryRow] = []
    for name, totals in facts.by_job.items():
        of_spans, former = by_span(days_of_job[name], parts), before.get(name, DailyTotals())
        average = mean(totals.run_ms, totals.ran)
        rows.append(
            JobHistoryRow(
                job=name,
                runs=ended(totals),
                failed=failed(totals),
                success_percent=success_percent(totals),
                average_seconds=average,
                change_percent=change(average, mean(former.run_ms, former.ran)),
                each=[ended(of_span) for of_span in of_spans],
                bad=[failed(of_span) for of_span in of_spans],
                taken=[mean(of_span.run_ms, of_span.ran) for of_span in of_spans],
            )
        )
    rows.sort(key=lambda row: (-row.runs, row.job))
    span = "a day" if len(parts[0]) == 1 else f"{len(parts[0])} days"
    note = (
        f"Over time: the runs, and their average time, each from 0 to its own greatest value, {span} at a time. "
        f"Change: of the average time, against the {len(facts.period.days)} days before."
    )
    return Report("trend", "Jobs over time", note, facts.period, JobHistoryRow, rows)
