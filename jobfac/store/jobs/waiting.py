"""What waits of jobs that are changed or removed: these runs keep their version, and start."""

import re
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, WAITING, JobKind

OF_THE_JOB = frozenset({
    "name", "description", "category", "enabled", "on_demand", "replace_arguments", "retention", "expect",
    "pause_after", "call", "schedules",
})  # fmt: skip
"""The keys of a definition that change nothing about runs that have been started."""


def keeping(conn: sa.Connection, plan: d.Plan) -> tuple[str, ...]:
    """Return a sentence for each job with runs that wait and do not follow the plan."""
    changed = [job for job, changes in plan.change.items() if any(_is_of_runs(one.path) for one in changes)]
    number = numbers(conn, [*changed, *plan.remove])
    found = [
        f"runs of {job} that wait keep their version ({number[job]:,}); stop and retry them if they need the new one"
        for job in changed
        if job in number
    ]
    found += [
        f"runs of {job} that wait will start although the job is removed ({number[job]:,}); stop them if they must not"
        for job in plan.remove
        if job in number
    ]
    return tuple(found)


def sequences_under_way(conn: sa.Connection) -> list[tuple[str, int]]:
    """Return the sequences that have active runs, each with the version of its definition that these have."""
    query = sa.select(run.c.job, run.c.job_version).distinct().with_hint(run, PASS, "mssql")
    query = query.where(sa.text(f"run.state IN ({sql_literals(ACTIVE)})"), run.c.kind == JobKind.SEQUENCE)
    return [(str(row.job), int(row.job_version)) for row in conn.execute(query.order_by(run.c.job, run.c.job_version))]


def _is_of_runs(path: str) -> bool:
    return re.split(r"[.\[]", path, maxsplit=1)[0] not in OF_THE_JOB


def numbers(conn: sa.Connection, job_ids: Sequence[str]) -> Mapping[str, int]:
    """Return the numbers of waiting runs of those of these jobs that have any."""
    if not job_ids:
        return {}
    # Both: the first condition is that of the index by job, the second one chooses among its rows.
    waiting = [sa.text(f"run.state IN ({sql_literals(states)})") for states in (ACTIVE, WAITING)]
    query = sa.select(run.c.job, sa.func.count()).with_hint(run, PASS, "mssql").where(*waiting)
    rows = conn.execute(query.where(lists.among(run.c.job, job_ids)).group_by(run.c.job))
    return {str(job): int(number) for job, number in rows}
