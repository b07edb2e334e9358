"""What counts of the runs that a sequence run continues: the steps that it does not repeat, as they ended there."""

from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.states import StepResult
from jobfac.store.runs.request import FIRST
from jobfac.store.sequences import visits
from jobfac.store.sequences.decide import Visit
from jobfac.store.sequences.stepping import ANCESTORS
from jobfac.store.sequences.visits import VisitRow
from jobfac.views.serialization import read_json


class Visited(NamedTuple):
    """Visits of steps, oldest first, and their rows, in the same order."""

    rows: list[VisitRow]
    visits: list[Visit]


def all_that_count(conn: sa.Connection, run_id: int) -> Visited:
    """Return the visits of a sequence run, after those that count of the runs that it continues from a later step.

    A run that begins with a step continues the run that it retries as that stood before this step. If that began with
    the same step, it repeats all of it.
    """
    found = _of(conn, run_id)
    earlier, first = _begin(conn, run_id)
    for _ in range(ANCESTORS):
        if earlier is None or first is None:
            break
        before, its_first = _begin(conn, earlier)
        if its_first != first:
            kept = _before(_of(conn, earlier), first)
            found = Visited([*kept.rows, *found.rows], [*kept.visits, *found.visits])
        earlier, first = before, its_first
    return found


def _of(conn: sa.Connection, run_id: int) -> Visited:
    rows = visits.rows_of(conn, run_id)
    return Visited(rows, list(visits.read(conn, rows)))


def _begin(conn: sa.Connection, run_id: int) -> tuple[int | None, str | None]:
    """Return the run that a run retries, and the step with which it began; None: there is none, the first one."""
    row = conn.execute(sa.select(run.c.retry_of, run.c.overrides).where(run.c.id == run_id)).first()
    if row is None:
        return None, None
    return row.retry_of, read_json(row.overrides).get(FIRST) if row.overrides else None


def _before(former: Visited, first: str) -> Visited:
    """Return the visits before the last one of the step ``first``: what came after it belongs to what is repeated."""
    places = [place for place, visit in enumerate(former.visits) if visit.step == first]
    end = places[-1] if places else len(former.visits)
    kept = [place for place in range(end) if _is_known(former.visits[place])]
    return Visited([former.rows[place] for place in kept], [former.visits[place] for place in kept])


def _is_known(visit: Visit) -> bool:
    """Whether it is known how a visit ended. A step with ``at_once`` is judged by its runs, which may be purged."""
    return visit.result != StepResult.AT_ONCE or bool(visit.ended)
