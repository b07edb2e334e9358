"""Jobs whose schedules start nothing at first: their values refer to a success that they have not had yet."""

import json
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import current_time
from jobfac.definitions.parameters import needs_previous
from jobfac.store import parameters


def unbegun(conn: sa.Connection, changed: Mapping[str, d.AnyJob]) -> tuple[str, ...]:
    """Return a sentence for each of these jobs whose due times will be refused until somebody has started it."""
    found = []
    for job_id, one in changed.items():
        why = next(_references(one), None)
        if why is not None and parameters.previous_success(conn, job_id, one, current_time(conn)) is None:
            found.append(
                f"{job_id} has not succeeded before, so its schedules start nothing: {why} refers to "
                "${previous.success...}; start it once with a value"
            )
    return tuple(found)


def _references(job: d.AnyJob) -> Iterator[str]:
    """Yield the parts of the active schedules that need the last success."""
    for name, rule in zip(job.schedule_names(), job.schedules, strict=True):
        if not (job.enabled and rule.enabled):
            continue
        texts = [rule.arguments, rule.payload, rule.payloads, rule.parameters]
        if "${previous." in json.dumps(texts).replace("$${", ""):
            yield f"the schedule '{name}'"
        if needs_previous(job.parameters, rule.parameters):
            yield "the default of a parameter"
