"""What a person gives who approves a step: checked as the parameters of a start are, and kept with the visit."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.definitions.parameters import Values, needs_previous, read_parameters
from jobfac.definitions.steps import Approve
from jobfac.store import jobs, parameters


def read(conn: sa.Connection, run_id: int, wanted: Approve, given: Mapping[str, Any]) -> Values:
    """Return all values for which the step asks: those given, else the defaults, else None.

    Raises:
        DefinitionError: with one sentence for each mistake.
    """
    found = conn.execute(sa.select(*parameters.COLUMNS, run.c.job_version).where(run.c.id == run_id)).one()
    row = parameters.row_of(found)
    definition = jobs.load_version(conn, row.job, found.job_version) if wanted.parameters else None
    needs = needs_previous(wanted.parameters, given)
    before = parameters.time_of(row, definition)
    previous = parameters.previous_success(conn, row.job, definition, before) if needs else None
    context = parameters.context_of(row, definition, previous=previous)
    return read_parameters(row.job, wanted.parameters, given, context)


def written(values: Values) -> str | None:
    """Return the values as they are stored; None: there are none."""
    return json.dumps(values, ensure_ascii=False) if values else None


def command(run_id: int, step: str, wanted: Approve) -> str:
    """Return the command that approves the step, with what it asks for and has no default."""
    needed = [f" --set {name}=..." for name, one in wanted.parameters.items() if one.required]
    return f"jobfac approve {run_id} {step}{''.join(needed)}"
