"""What a renamed job loses: for jobfac it is removed, and another one is added that does the same."""

import json
from collections.abc import Collection, Iterator, Mapping

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE
from jobfac.store import jobs
from jobfac.store.holds import reading
from jobfac.store.schedules.steering import paused as paused_schedules

SAME = ("command", "shell", "sql", "arguments", "parameters", "environment", "directory")
"""The keys of a job that say what it does."""


def lost(conn: sa.Connection, removed: Mapping[str, jobs.Stored], added: Mapping[str, d.AnyJob]) -> tuple[str, ...]:
    """Return a sentence for each thing that keeps a removed job from starting, but not the added one.

    These are a stop by hand, a run that has not ended, and that it has started for a file.
    """
    pairs = list(_pairs(removed, added))
    if not pairs:
        return ()
    paused = {job_id for job_id, _ in paused_schedules(conn)}
    held = {one.job.lower(): one.id for one in reading.active(conn) if one.job is not None}
    active = _active(conn, [old for old, _ in pairs])
    found = []
    for old, new in pairs:
        begin = f"{new} does what '{old}' did, which is removed"
        if not removed[old].enabled and added[new].enabled:
            found.append(f"{begin} and disabled: {new} is enabled")
        if old in paused:
            found.append(f"{begin} and has paused schedules: those of {new} fire")
        if old.lower() in held:
            found.append(f"{begin}: hold {held[old.lower()]} of job {old} does not hold {new}")
        if added[new].already_running != "start" and old in active:
            found.append(f"{begin}: runs of {old} that have not ended keep no run of {new} from starting")
        if paths := sorted(_paths(removed[old].definition) & _paths(added[new])):
            found.append(
                f"{begin}: each file that lies there ({', '.join(paths)}) starts {new}, also if {old} has had it"
            )
    return tuple(found)


def _active(conn: sa.Connection, job_ids: Collection[str]) -> set[str]:
    """Return those of these jobs that have runs which have not ended."""
    is_active = sa.text(f"run.state IN ({sql_literals(ACTIVE)})")
    query = sa.select(run.c.job).distinct().with_hint(run, PASS, "mssql").where(is_active)
    return set(conn.execute(query.where(lists.among(run.c.job, job_ids))).scalars())


def _pairs(removed: Mapping[str, jobs.Stored], added: Mapping[str, d.AnyJob]) -> Iterator[tuple[str, str]]:
    """Yield the ids of removed and of added jobs that do the same: of several, the first goes with the first."""
    renamed = removed.keys() | added.keys()
    same: dict[str, list[str]] = {}
    for job_id, one in added.items() if removed else ():
        same.setdefault(_work(one, renamed), []).append(job_id)
    for old, stored in removed.items() if same else ():
        if stored.unreadable is None and (found := same.get(_work(stored.definition, renamed))):
            yield old, found.pop(0)


def _work(job: d.AnyJob, renamed: Collection[str]) -> str:
    """Return what makes two jobs the same. Jobs that a sequence or a schedule names may be renamed, too."""
    body = d.canonical(job)
    when = [rule for rule in body.get("schedules", ()) if "after" not in rule]
    steps = [
        {**step, "jobs": [name for name in step.get("jobs", ()) if name not in renamed]}
        for step in body.get("steps", ())
    ]
    return json.dumps([*(body.get(key) for key in SAME), when, steps], sort_keys=True)


def _paths(job: d.AnyJob) -> set[str]:
    return {rule.file for rule in job.schedules if rule.file is not None and rule.enabled}
