"""What is stored of an execution while its program runs."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from jobfac.database.tables import attempt, run
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.states import HELD


def note_program(conn: sa.Connection, run_id: int, number: int, pid: int | None, paths: Mapping[str, str]) -> None:
    """Store which process executes a run and which files receive its streams, while the run is still executing."""
    conn.execute(
        attempt.update()
        .where(attempt.c.run_id == run_id, attempt.c.number == number)
        .values(pid=pid, stdout_path=cut(paths.get("stdout")), stderr_path=cut(paths.get("stderr")))
    )


def cut(text: str | None) -> str | None:
    """Return a text as long as the columns of reasons, messages and paths take it."""
    return None if text is None else truncate_utf16(text, 1000)


def report_progress(
    conn: sa.Connection,
    run_id: int,
    attempt_number: int,
    progress: float | None,
    message: str | None,
    created_at: datetime | None = None,
) -> None:
    """Store the progress of an execution. Does not change a later attempt of the run.

    ``created_at``: that of the run. A restored database may have given its id to another run. None: not known.
    """
    mine = run.c.id == run_id, run.c.attempt == attempt_number, sa.text(f"state IN ({sql_literals(HELD)})")
    change = run.update().where(*mine).values(progress=progress, message=message)
    conn.execute(change if created_at is None else change.where(run.c.created_at == created_at))
