"""Errors that a caller is told: each is one sentence that names the thing and the remedy."""


class Unreachable(Exception):
    """The database cannot be reached, or not used as it is; the text says which and what to do."""


class WrongSchema(Unreachable):
    """The database has no schema of jobfac, or one of another version."""


class DatabaseReplaced(Unreachable):
    """The database file was deleted or replaced under this process, which has to stop."""


class NotFound(Exception):
    """There is no such thing; the text names it."""


class Refused(Exception):
    """The job's definition or its present state does not allow this; the text says why and what would."""


def no_schema() -> WrongSchema:
    """The database is empty, or its file is not there yet."""
    return WrongSchema(
        "The database has no jobfac schema yet; run `jobfac db upgrade`, or let a DBA run `jobfac db script`."
    )


def no_run(run_id: int) -> NotFound:
    """There is no such run."""
    return NotFound(f"There is no run {run_id}; `jobfac runs list` shows what there is.")


def no_job(job_id: str) -> NotFound:
    """There is no such job."""
    return NotFound(f"There is no job '{job_id}'; `jobfac jobs list` shows what there is.")
