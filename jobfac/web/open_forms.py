"""Forms that stood open while the definition of their job changed."""

from jobfac.errors import Refused
from jobfac.operations.caller import visible_job
from jobfac.web.visit import Visit

CURRENT = "current"
"""The field with the version of the definition that the page of a form showed."""


def check(visit: Visit, job_id: str) -> None:
    """Check that the definition is the one that the form's page showed.

    The names of schedules are their places unless the definition names them, so another schedule may have this name.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Refused: there is another version.
    """
    version = str(visit.read(visible_job, visit.caller, job_id).version)
    if visit.field(CURRENT) not in ("", version):
        raise Refused(f"The definition of {job_id} has changed since this page was opened. Look again.")
