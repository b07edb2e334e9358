"""Compute the rows of each report. Pure functions."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from jobfac.reports.facts import Facts
from jobfac.reports.measures import (
    BROKEN,
    add_up,
    change,
    ended,
    failed,
    hours,
    mean,
    percent,
    seconds,
    success_percent,
)
from jobfac.reports.rows import FailureRow, LateRow, Report, SlowestRow, SummaryRow, TrendRow, UsageRow, UtilisationRow
from jobfac.store.history.totals import LATE, DailyTotals, Work


def summary(facts: Facts) -> Report[SummaryRow]:
    """Return the totals of each category, and the total of all."""
    groups: defaultdict[str, dict[str, DailyTotals]] = defaultdict(dict)
    for name, totals in facts.by_job.items():
        groups[facts.jobs.get(name) or ""][name] = totals

    def row(category: str | None, jobs: int, totals: DailyTotals) -> SummaryRow:
        other = ended(totals) - totals.states["succeeded"] - failed(totals)
        return SummaryRow(
            category=category,
            jobs=jobs,
            runs=ended(totals),
            succeeded=totals.states["succeeded"],
            failed=failed(totals),
            other=other,
            success_percent=success_percent(totals),
            retries=totals.retries,
            late=totals.late,
            hours=hours(totals.run_ms),
            average_wait_seconds=mean(totals.wait_ms, totals.waited),
        )

    rows = [row(category or None, len(jobs), add_up(jobs.values())) for category, jobs in sorted(groups.items())]
    everything = row("all", sum(len(jobs) for jobs in groups.values()), add_up(facts.by_job.values()))
    note = "Other: stopped, denied, and sequences that were mixed. Wait: from queued to started, on average."
    return Report("summary", "Summary", note, facts.period, SummaryRow, rows, everything)


def failures(facts: Facts) -> Report[FailureRow]:
    """Return how often each job ended in each failure state, and the last such run."""
    rows: list[FailureRow] = []
    for name, totals in facts.by_job.items():
        for state in (*BROKEN, "denied"):
            if times := totals.states[state]:
                last = facts.latest.get((name, state))
                rows.append(
                    FailureRow(
                        job=name,
                        state=state,
                        failures=times,
                        share_percent=percent(times, ended(totals)),
                        last_at=last and last.ended_at,
                        last_run=last and last.run_id,
                        reason=last and last.reason,
                    )
                )
    rows.sort(key=lambda row: (-row.failures, row.job, row.state))
    note = "The last run and its reason are shown while the run is kept."
    return Report("failures", "Failures", note, facts.period, FailureRow, rows)


def slowest(facts: Facts) -> Report[SlowestRow]:
    """Return how long each job takes, slowest first, compared with the preceding period."""
    before = facts.before_by_job
    rows: list[SlowestRow] = []
    for name, totals in facts.by_job.items():
        if not totals.ran:
            continue
        average, former = mean(totals.run_ms, totals.ran), before.get(name, DailyTotals())
        then = mean(former.run_ms, former.ran)
        rows.append(
            SlowestRow(
                job=name,
                runs=totals.ran,
                average_seconds=average,
                before_seconds=then,
                change_percent=change(average, then),
                shortest_seconds=seconds(totals.shortest_ms),
                longest_seconds=seconds(totals.longest_ms),
                longest_run=totals.longest_run,
            )
        )
    rows.sort(key=lambda row: (-(row.average_seconds or 0), row.job))
    note = f"Before: the {len(facts.period.days)} days from {facts.period.before} on. Run: the longest."
    return Report("slowest", "Slowest jobs", note, facts.period, SlowestRow, rows)


def late(facts: Facts) -> Report[LateRow]:
    """Return the jobs whose runs begin long after they are due or requested."""
    rows: list[LateRow] = [
        LateRow(
            job=name,
            runs=totals.ran,
            late=totals.late,
            late_percent=percent(totals.late, totals.ran),
            average_wait_seconds=mean(totals.wait_ms, totals.waited),
            latest_seconds=seconds(totals.latest_ms),
            latest_run=totals.latest_run,
        )
        for name, totals in facts.by_job.items()
        if totals.late
    ]
    rows.sort(key=lambda row: (-row.late, -(row.latest_seconds or 0), row.job))
    note = (
        f"Late: begun more than {LATE // 1000} s after it was due or requested, for any reason. "
        "Wait: from queued to started, on average. Run: the latest."
    )
    return Report("late", "Late runs", note, facts.period, LateRow, rows)


def usage(facts: Facts) -> Report[UsageRow]:
    """What jobs use, those with the most CPU time first."""
    before = facts.before_by_job
    rows: list[UsageRow] = []
    for name, totals in facts.by_job.items():
        if not totals.cpu_ms and totals.peak_memory is None:
            continue
        average, former = mean(totals.cpu_ms, totals.ran), before.get(name, DailyTotals())
        then = mean(former.cpu_ms, former.ran) or None
        rows.append(
            UsageRow(
                job=name,
                runs=totals.ran,
                cpu_hours=hours(totals.cpu_ms),
                average_cpu_seconds=average,
                before_cpu_seconds=then,
                change_percent=change(average, then),
                peak_memory=totals.peak_memory,
            )
        )
    rows.sort(key=lambda row: (-row.cpu_hours, -(row.average_cpu_seconds or 0), row.job))
    note = "CPU time of the last attempts. Peak memory: of the largest process, or of the cgroup of a job with limits."
    return Report("usage", "CPU and memory", note, facts.period, UsageRow, rows)


def trend(facts: Facts) -> Report[TrendRow]:
    """Return the totals of each job and day."""
    rows = [
        TrendRow(
            job=name,
            day=day,
            runs=ended(totals),
            failed=failed(totals),
            success_percent=success_percent(totals),
            average_seconds=mean(totals.run_ms, totals.ran),
            longest_seconds=seconds(totals.longest_ms),
            late=totals.late,
        )
        for (day, name), totals in sorted(facts.runs.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    return Report("trend", "Jobs by day", "Days without a run are left out.", facts.period, TrendRow, rows)


def utilisation(facts: Facts) -> Report[UtilisationRow]:
    """Return how busy the slots of each worker were."""

    def row(name: str, work: Work) -> UtilisationRow:
        return UtilisationRow(
            worker=name,
            attempts=work.attempts,
            busy_hours=hours(work.busy_ms),
            slot_hours=hours(work.slot_ms),
            busy_percent=percent(work.busy_ms, work.slot_ms),
        )

    workers: defaultdict[str, Work] = defaultdict(Work)
    everything = Work()
    for (_, name), work in facts.work.items():
        workers[name].add(work)
        everything.add(work)
    rows = [row(name, work) for name, work in workers.items() if work.busy_ms or work.slot_ms]
    rows.sort(key=lambda row: (-(row.busy_percent or 0), row.worker))
    note = "Hours of executions as a share of the hours of the worker's slots. Covers all jobs, even with a filter."
    return Report("utilisation", "Workers", note, facts.period, UtilisationRow, rows, row("all", everything))


REPORTS: dict[str, Callable[[Facts], Report[Any]]] = {
    "summary": summary, "failures": failures, "slowest": slowest, "late": late, "usage": usage, "trend": trend,
    "utilisation": utilisation,
}  # fmt: skip
"""All reports, by the name that `jobfac report` accepts."""
