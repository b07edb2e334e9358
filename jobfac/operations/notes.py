"""Write notes about runs and acknowledge failures."""

from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Refused, Way
from jobfac.operations.caller import Caller, transact, visible_run
from jobfac.states import FINAL, TO_ACKNOWLEDGE
from jobfac.store import notes
from jobfac.store.runs import reading
from jobfac.views.runs import NoteView, RunView


def add(db: Database, by: Caller, run_id: int, text: str, *, acknowledge: bool = False) -> NoteView:
    """Write a note about a run, and with ``acknowledge`` acknowledge its failure. Returns the note.

    Each call writes a note, so the caller must not repeat it.

    Raises:
        NotFound: there is no such run, or the caller may not see it.
        Refused: the note is empty or too long, or the run to acknowledge has not failed.
    """
    if not text.strip():
        raise Refused("The note is empty; write what you found.")
    if len(text) > notes.LIMIT:
        raise Refused(f"The note has {len(text):,} characters; {notes.LIMIT:,} is the most.")

    def work(conn: sa.Connection) -> NoteView:
        run = visible_run(conn, by, run_id)
        if run.state in FINAL:
            notes.lock_run(conn, run_id)
        if acknowledge:
            _check(run)
            notes.acknowledge(conn, run_id, by.name)
        return notes.add(conn, run_id, text, by.name)

    return transact(db, by, work)


def acknowledge(db: Database, by: Caller, run_ids: Sequence[int]) -> list[RunView]:
    """Acknowledge failures, all or none. Returns the runs. May be repeated: the first acknowledgement stays.

    Raises:
        NotFound: there is no such run, or the caller may not see it.
        Refused: a run has not failed.
    """

    def work(conn: sa.Connection) -> list[RunView]:
        for run_id in sorted(set(run_ids)):
            _check(visible_run(conn, by, run_id))
            notes.acknowledge(conn, run_id, by.name)
        return [reading.get(conn, run_id) for run_id in run_ids]

    return transact(db, by, work)


def _check(run: RunView) -> None:
    if run.state not in TO_ACKNOWLEDGE:
        note = Way("`jobfac note`", f"`POST /v1/runs/{run.id}/notes`")
        raise Refused(f"Run {run.id} is {run.state}, so there is no failure to acknowledge; {{way}} notes it.", note)
