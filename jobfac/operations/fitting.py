"""Check a definition against the other jobs, of which a caller may not see all."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobfac import definitions as d
from jobfac.operations.caller import Caller
from jobfac.store import jobs


def checked(by: Caller, others: Sequence[jobs.Stored], job_id: str, body: Mapping[str, Any]) -> d.AnyJob:
    """Return the definition of a job, checked against the other jobs.

    Jobs that a limited key cannot see do not exist for its sequences, but these must close no circle through them.

    Raises:
        DefinitionError: it cannot be used.
    """
    known = {job.id: job.body for job in others}
    seen = {job.id: job.body for job in others if by.sees(job.category)}
    definition = d.from_data({"jobs": {job_id: body}}, known=seen).jobs[job_id]
    if len(seen) < len(known):
        try:
            d.from_data({"jobs": {job_id: body}}, known=known)
        except d.DefinitionError:
            why = "does not fit jobs that this key may not see: it would start itself again, or wait for itself"
            raise d.DefinitionError([d.Problem(f"job '{job_id}' {why}")]) from None
    return definition
