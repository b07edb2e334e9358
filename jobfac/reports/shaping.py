"""The reports, shaped from the facts: pure functions, each gives typed rows."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from jobfac.reports.facts import Facts
from jobfac.reports.measures import (
    BROKEN,
    by_job,
    change,
    ended,
    failed,
    hours,
    mean,
    percent,
    seconds,
    success,
    together,
)
from jobfac.reports.rows import FailureRow, LateRow, Report, SlowestRow, SummaryRow, TrendRow, UsageRow, UtilisationRow
from jobfac.store.statistics import LATE, DailyTotals, Work


def summary(facts: Facts) -> Report[SummaryRow]:
    """The jobs of each category together, and all of them."""
    groups: defaultdict[str, dict[str, DailyTotals]] = defaultdict(dict)
    for name, tally in by_job(facts.runs).items():
        groups[facts.jobs.get(name) or ""][name] = tally

    def row(category: str | None, jobs: int, tally: DailyTotals) -> SummaryRow:
        other = ended(tally) - tally.states["succeeded"] - failed(tally)
        return SummaryRow(
            category=category,
            jobs=jobs,
            runs=ended(tally),
            succeeded=tally.states["succeeded"],
            failed=failed(tally),
            other=other,
            success_percent=success(tally),
            retries=tally.retries,
            late=tally.late,
            hours=hours(tally.run_ms),
            average_wait_seconds=mean(tally.wait_ms, tally.waited),
        )

    rows = [row(category or None, len(jobs), together(jobs.values())) for category, jobs in sorted(groups.items())]
    everything = row("all", sum(len(jobs) for jobs in groups.values()), together(facts.runs.values()))
    note = "Other: stopped, denied, and sequences that were mixed. Wait: from queued to started, on average."
    return Report("summary", "Summary", note, facts.period, SummaryRow, rows, everything)


def failures(facts: Facts) -> Report[FailureRow]:
    """How often a job failed in which way, and what the last of these failures was."""
    rows: list[FailureRow] = []
    for name, tally in by_job(facts.runs).items():
        for state in (*BROKEN, "denied"):
            if times := tally.states[state]:
                last = facts.latest.get((name, state))
                rows.append(
                    FailureRow(
                        job=name,
                        state=state,
                        failures=times,
                        share_percent=percent(times, ended(tally)),
                        last_at=last and last.ended_at,
                        last_run=last and last.run_id,
                        reason=last and last.reason,
                    )
                )
    rows.sort(key=lambda row: (-row.failures, row.job, row.state))
    note = "The last run and its reason are known while the run is kept."
    return Report("failures", "Failures", note, facts.period, FailureRow, rows)


def slowest(facts: Facts) -> Report[SlowestRow]:
    """How long jobs take, the slowest first, and against the period before."""
    before = by_job(facts.before)
    rows: list[SlowestRow] = []
    for name, tally in by_job(facts.runs).items():
        if not tally.ran:
            continue
        average, former = mean(tally.run_ms, tally.ran), before.get(name, DailyTotals())
        then = mean(former.run_ms, former.ran)
        rows.append(
            SlowestRow(
                job=name,
                runs=tally.ran,
                average_seconds=average,
                before_seconds=then,
                change_percent=change(average, then),
                shortest_seconds=seconds(tally.shortest_ms),
                longest_seconds=seconds(tally.longest_ms),
                longest_run=tally.longest_run,
            )
        )
    rows.sort(key=lambda row: (-(row.average_seconds or 0), row.job))
    note = f"Before: the {len(facts.period.days)} days from {facts.period.before} on. Run: the longest."
    return Report("slowest", "Slowest jobs", note, facts.period, SlowestRow, rows)


def late(facts: Facts) -> Report[LateRow]:
    """Which jobs begin long after they are due, or were asked for."""
    rows: list[LateRow] = [
        LateRow(
            job=name,
            runs=tally.ran,
            late=tally.late,
            late_percent=percent(tally.late, tally.ran),
            average_wait_seconds=mean(tally.wait_ms, tally.waited),
            latest_seconds=seconds(tally.latest_ms),
            latest_run=tally.latest_run,
        )
        for name, tally in by_job(facts.runs).items()
        if tally.late
    ]
    rows.sort(key=lambda row: (-row.late, -(row.latest_seconds or 0), row.job))
    note = (
        f"Late: begun more than {LATE // 1000} s after it was due or asked for, whatever held it up. "
        "Wait: from queued to started, on average. Run: the latest."
    )
    return Report("late", "Late runs", note, facts.period, LateRow, rows)


def usage(facts: Facts) -> Report[UsageRow]:
    """What jobs use, those with the most CPU time first."""
    before = by_job(facts.before)
    rows: list[UsageRow] = []
    for name, tally in by_job(facts.runs).items():
        if not tally.cpu_ms and tally.peak_memory is None:
            continue
        average, former = mean(tally.cpu_ms, tally.ran), before.get(name, DailyTotals())
        then = mean(former.cpu_ms, former.ran) or None
        rows.append(
            UsageRow(
                job=name,
                runs=tally.ran,
                cpu_hours=hours(tally.cpu_ms),
                average_cpu_seconds=average,
                before_cpu_seconds=then,
                change_percent=change(average, then),
                peak_memory=tally.peak_memory,
            )
        )
    rows.sort(key=lambda row: (-row.cpu_hours, -(row.average_cpu_seconds or 0), row.job))
    note = "CPU time of the last attempts. Peak memory: of the largest process, or of the cgroup of a job with limits."
    return Report("usage", "CPU and memory", note, facts.period, UsageRow, rows)


def trend(facts: Facts) -> Report[TrendRow]:
    """Each job day by day."""
    rows = [
        TrendRow(
            job=name,
            day=day,
            runs=ended(tally),
            failed=failed(tally),
            success_percent=success(tally),
            average_seconds=mean(tally.run_ms, tally.ran),
            longest_seconds=seconds(tally.longest_ms),
            late=tally.late,
        )
        for (day, name), tally in sorted(facts.runs.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    return Report("trend", "Jobs by day", "Days without a run are left out.", facts.period, TrendRow, rows)


def utilisation(facts: Facts) -> Report[UtilisationRow]:
    """How much of the time of its slots each worker was busy."""

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
    note = "Hours of executions, of the hours that its slots were there. All jobs, whatever was asked for."
    return Report("utilisation", "Workers", note, facts.period, UtilisationRow, rows, row("all", everything))


REPORTS: dict[str, Callable[[Facts], Report[Any]]] = {
    "summary": summary, "failures": failures, "slowest": slowest, "late": late, "usage": usage, "trend": trend,
    "utilisation": utilisation,
}  # fmt: skip
"""Every report, by the name that `jobfac report` knows it by."""
