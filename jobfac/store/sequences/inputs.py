"""What a person gives who approves a step: checked as the parameters of a start are, and kept with the visit."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.definitions.parameters import Values, needs_previous, read_parameters
from jobfac.definitions.steps import Approve
from jobfac.store import parameters


def read(conn: sa.Connection, run_id: int, wanted: Approve, given: Mapping[str, Any]) -> Values:
    """Return all values for which the step asks: those given, else the defaults, else None.

    Raises:
        DefinitionError: with one sentence for each mistake.
    """
    row = parameters.row_of(conn.execute(sa.select(*parameters.COLUMNS).where(run.c.id == run_id)).one())
    previous = parameters.previous_success(conn, row.job) if needs_previous(wanted.parameters, given) else None
    return read_parameters(row.job, wanted.parameters, given, parameters.context_of(row, previous=previous))


def written(values: Values) -> str | None:
    """Return the values as they are stored; None: there are none."""
    return json.dumps(values, ensure_ascii=False) if values else None


def command(run_id: int, step: str, wanted: Approve) -> str:
    """Return the command that approves the step, with what it asks for and has no default."""
    needed = [f" --set {name}=..." for name, one in wanted.parameters.items() if one.required]
    return f"jobfac approve {run_id} {step}{''.join(needed)}"
