"""The reports, shaped from the facts: pure functions, each gives rows of plain values that any program can read."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from jobfac.reports.facts import Facts, Period
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
from jobfac.store.statistics import LATE, DailyTotals, Work

Row = dict[str, Any]


class Kind(Enum):
    """What a column holds, which says how it is shown."""

    TEXT = "text"
    GROUP = "group"  # a category; None: jobs that have none
    COUNT = "count"
    PERCENT = "percent"
    CHANGE = "change"  # per cent more or less than in the period before
    SECONDS = "seconds"
    HOURS = "hours"
    DAY = "day"  # ISO 8601
    MOMENT = "moment"  # RFC 3339
    RUN = "run"  # a run's id
    COURSE = "course"  # values over time


@dataclass(frozen=True)
class Report:
    """``columns`` by key of a row: its title and its kind; a narrow place does without the ``spare`` ones. ``total``,
    where there is one, has the same keys."""

    name: str
    title: str
    note: str
    period: Period
    columns: Mapping[str, tuple[str, Kind]]
    rows: list[Row]
    total: Row | None = None
    spare: frozenset[str] = frozenset()


def summary(facts: Facts) -> Report:
    """The jobs of each category together, and all of them."""
    groups: defaultdict[str, dict[str, DailyTotals]] = defaultdict(dict)
    for name, tally in by_job(facts.runs).items():
        groups[facts.jobs.get(name) or ""][name] = tally
    columns = {
        "category": ("category", Kind.GROUP),
        "jobs": ("jobs", Kind.COUNT),
        "runs": ("runs", Kind.COUNT),
        "succeeded": ("succeeded", Kind.COUNT),
        "failed": ("failed", Kind.COUNT),
        "other": ("other", Kind.COUNT),
        "success_percent": ("success", Kind.PERCENT),
        "retries": ("retries", Kind.COUNT),
        "late": ("late", Kind.COUNT),
        "hours": ("hours", Kind.HOURS),
        "average_wait_seconds": ("wait", Kind.SECONDS),
    }

    def row(category: str | None, jobs: int, tally: DailyTotals) -> Row:
        other = ended(tally) - tally.states["succeeded"] - failed(tally)
        return {
            "category": category,
            "jobs": jobs,
            "runs": ended(tally),
            "succeeded": tally.states["succeeded"],
            "failed": failed(tally),
            "other": other,
            "success_percent": success(tally),
            "retries": tally.retries,
            "late": tally.late,
            "hours": hours(tally.run_ms),
            "average_wait_seconds": mean(tally.wait_ms, tally.waited),
        }

    rows = [row(category or None, len(jobs), together(jobs.values())) for category, jobs in sorted(groups.items())]
    everything = row("all", sum(len(jobs) for jobs in groups.values()), together(facts.runs.values()))
    spare = frozenset({"jobs", "succeeded", "average_wait_seconds"})
    note = "Other: stopped, denied, and sequences that were mixed. Wait: from queued to started, on average."
    return Report("summary", "Summary", note, facts.period, columns, rows, everything, spare)


def failures(facts: Facts) -> Report:
    """How often a job failed in which way, and what the last of these failures was."""
    columns = {
        "job": ("job", Kind.TEXT),
        "state": ("ended", Kind.TEXT),
        "failures": ("times", Kind.COUNT),
        "share_percent": ("of runs", Kind.PERCENT),
        "last_at": ("last", Kind.MOMENT),
        "last_run": ("run", Kind.RUN),
        "reason": ("reason", Kind.TEXT),
    }
    rows: list[Row] = []
    for name, tally in by_job(facts.runs).items():
        for state in (*BROKEN, "denied"):
            if times := tally.states[state]:
                last = facts.latest.get((name, state))
                rows.append(
                    {
                        "job": name,
                        "state": state,
                        "failures": times,
                        "share_percent": percent(times, ended(tally)),
                        "last_at": last and last.ended_at.isoformat(timespec="milliseconds"),
                        "last_run": last and last.run_id,
                        "reason": last and last.reason,
                    }
                )
    rows.sort(key=lambda row: (-row["failures"], row["job"], row["state"]))
    note = "The last run and its reason are known while the run is kept."
    return Report("failures", "Failures", note, facts.period, columns, rows)


def slowest(facts: Facts) -> Report:
    """How long jobs take, the slowest first, and against the period before."""
    columns = {
        "job": ("job", Kind.TEXT),
        "runs": ("runs", Kind.COUNT),
        "average_seconds": ("average", Kind.SECONDS),
        "before_seconds": ("before", Kind.SECONDS),
        "change_percent": ("change", Kind.CHANGE),
        "shortest_seconds": ("shortest", Kind.SECONDS),
        "longest_seconds": ("longest", Kind.SECONDS),
        "longest_run": ("run", Kind.RUN),
    }
    before = by_job(facts.before)
    rows: list[Row] = []
    for name, tally in by_job(facts.runs).items():
        if not tally.ran:
            continue
        average, former = mean(tally.run_ms, tally.ran), before.get(name, DailyTotals())
        then = mean(former.run_ms, former.ran)
        rows.append(
            {
                "job": name,
                "runs": tally.ran,
                "average_seconds": average,
                "before_seconds": then,
                "change_percent": change(average, then),
                "shortest_seconds": seconds(tally.shortest_ms),
                "longest_seconds": seconds(tally.longest_ms),
                "longest_run": tally.longest_run,
            }
        )
    rows.sort(key=lambda row: (-row["average_seconds"], row["job"]))
    note = f"Before: the {len(facts.period.days)} days from {facts.period.before} on. Run: the longest."
    spare = frozenset({"before_seconds", "shortest_seconds"})
    return Report("slowest", "Slowest jobs", note, facts.period, columns, rows, spare=spare)


def late(facts: Facts) -> Report:
    """Which jobs begin long after they are due, or were asked for."""
    columns = {
        "job": ("job", Kind.TEXT),
        "runs": ("runs", Kind.COUNT),
        "late": ("late", Kind.COUNT),
        "late_percent": ("of runs", Kind.PERCENT),
        "average_wait_seconds": ("wait", Kind.SECONDS),
        "latest_seconds": ("latest", Kind.SECONDS),
        "latest_run": ("run", Kind.RUN),
    }
    rows: list[Row] = [
        {
            "job": name,
            "runs": tally.ran,
            "late": tally.late,
            "late_percent": percent(tally.late, tally.ran),
            "average_wait_seconds": mean(tally.wait_ms, tally.waited),
            "latest_seconds": seconds(tally.latest_ms),
            "latest_run": tally.latest_run,
        }
        for name, tally in by_job(facts.runs).items()
        if tally.late
    ]
    rows.sort(key=lambda row: (-row["late"], -row["latest_seconds"], row["job"]))
    note = (
        f"Late: begun more than {LATE // 1000} s after it was due or asked for, whatever held it up. "
        "Wait: from queued to started, on average. Run: the latest."
    )
    return Report("late", "Late runs", note, facts.period, columns, rows)


def trend(facts: Facts) -> Report:
    """Each job day by day."""
    columns = {
        "job": ("job", Kind.TEXT),
        "day": ("day", Kind.DAY),
        "runs": ("runs", Kind.COUNT),
        "failed": ("failed", Kind.COUNT),
        "success_percent": ("success", Kind.PERCENT),
        "average_seconds": ("average", Kind.SECONDS),
        "longest_seconds": ("longest", Kind.SECONDS),
        "late": ("late", Kind.COUNT),
    }
    rows = [
        {
            "job": name,
            "day": day.isoformat(),
            "runs": ended(tally),
            "failed": failed(tally),
            "success_percent": success(tally),
            "average_seconds": mean(tally.run_ms, tally.ran),
            "longest_seconds": seconds(tally.longest_ms),
            "late": tally.late,
        }
        for (day, name), tally in sorted(facts.runs.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    return Report("trend", "Jobs by day", "Days without a run are left out.", facts.period, columns, rows)


def utilisation(facts: Facts) -> Report:
    """How much of the time of its slots each worker was busy."""
    columns = {
        "worker": ("worker", Kind.TEXT),
        "attempts": ("executions", Kind.COUNT),
        "busy_hours": ("busy", Kind.HOURS),
        "slot_hours": ("of", Kind.HOURS),
        "busy_percent": ("busy", Kind.PERCENT),
    }

    def row(name: str, work: Work) -> Row:
        return {
            "worker": name,
            "attempts": work.attempts,
            "busy_hours": hours(work.busy_ms),
            "slot_hours": hours(work.slot_ms),
            "busy_percent": percent(work.busy_ms, work.slot_ms),
        }

    workers: defaultdict[str, Work] = defaultdict(Work)
    everything = Work()
    for (_, name), work in facts.work.items():
        workers[name].add(work)
        everything.add(work)
    rows = [row(name, work) for name, work in workers.items() if work.busy_ms or work.slot_ms]
    rows.sort(key=lambda row: (-(row["busy_percent"] or 0), row["worker"]))
    note = "Hours of executions, of the hours that its slots were there. All jobs, whatever was asked for."
    return Report("utilisation", "Workers", note, facts.period, columns, rows, row("all", everything))


REPORTS: dict[str, Callable[[Facts], Report]] = {
    "summary": summary, "failures": failures, "slowest": slowest, "late": late, "trend": trend,
    "utilisation": utilisation,
}  # fmt: skip
"""Every report, by the name that `jobfac report` knows it by."""
