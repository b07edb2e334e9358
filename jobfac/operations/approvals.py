"""Approve or reject a step of a sequence that waits for a person."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.types import NAME_LENGTH, truncate_utf16
from jobfac.errors import Forbidden
from jobfac.operations.caller import Caller, transact, visible_run
from jobfac.states import Role
from jobfac.store import audit, sequences
from jobfac.store.sequences.approvals import Approval

AUDITED = 2000
"""Characters of a reason and values that the audit has at most. A page of it is read at once; the step has them all."""


def as_typed(name: str) -> str:
    """Return what all spellings of a name have in common that directories take for the same person.

    A proxy may send a name as the person typed it. Directories ignore case, accents, repeated blanks, characters that
    are not shown, and the width of characters.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    shown = "".join(one for one in plain if unicodedata.category(one) not in ("Mn", "Cf"))
    return " ".join(shown.split())


def is_same(name: str, stored: str) -> bool:
    """Whether the stored name may be that of a person. Only the beginning of a long name is stored."""
    typed, before = as_typed(name), as_typed(truncate_utf16(stored, NAME_LENGTH))  # without half of a character
    is_cut = len(stored.encode("utf-16-le", "surrogatepass")) // 2 >= NAME_LENGTH - 1  # not within a character
    return typed == before or (is_cut and typed.startswith(before))


def approve(
    db: Database,
    by: Caller,
    run_id: int,
    step: str,
    *,
    approved: bool = True,
    reason: str | None = None,
    given: Mapping[str, Any] | None = None,
    number: int | None = None,
) -> Approval:
    """Decide about the step of a sequence run that waits for a person, and let the sequence go on.

    May be repeated: the same decision by the same caller changes nothing more. A sequence may come back to the step
    meanwhile, so who repeats a decision, or has looked at a page before, says which visit is meant.

    Args:
        given: values for which the step asks, by name.
        number: which visit of the step; None: the latest.

    Raises:
        NotFound: there is no such run or step, or the caller may not see it.
        Refused: the step does not wait for an approval, or it was decided before.
        Invalid, DefinitionError: the step does not take these values.
        Forbidden: the caller's role is too low, or the step says not_by_starter and the caller started the run or
            a sequence around it.
    """

    def work(conn: sa.Connection) -> Approval:
        visible_run(conn, by, run_id)
        waiting = sequences.waiting_for(conn, run_id, step, number)
        if not by.role.allows(Role(waiting.wanted.by)):
            raise Forbidden(f"Step '{step}' of run {run_id} needs the role {waiting.wanted.by} to approve it.")
        if waiting.wanted.not_by_starter and any(is_same(by.name, one) for one in waiting.started_by):
            raise Forbidden(f"Step '{step}' of run {run_id} must be approved by somebody other than its starter.")
        done = sequences.approve(conn, waiting, by.name, approved=approved, reason=reason, given=given)
        if done.is_new:
            after = truncate_utf16(": ".join(filter(None, (reason, done.parameters))), AUDITED) or None
            audit.note(conn, by.name, str(done.decision), f"run {run_id}, step {step}", after=after)
        return done

    return transact(db, by, work)
