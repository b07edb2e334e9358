"""Errors that callers see, and the one table of their exit codes and HTTP statuses.

Each error is one sentence that names the thing and the remedy. Its class has a ``Kind``, a row of the table: the exit
code of the command line, the HTTP status and the problem type of the API.
"""

from enum import Enum
from typing import ClassVar, NamedTuple

DONE, UNSUCCESSFUL, USAGE, NOT_FOUND, REFUSED, UNREACHABLE = range(6)
"""Exit codes: done; the run did not succeed; wrong usage or invalid definition; not found; refused; no database."""


class Kind(Enum):
    """A kind of error. Where several kinds have one status, the first is the one that the status stands for."""

    #               exit code, status, problem type, title
    MALFORMED = (USAGE, 400, "malformed", "The request cannot be read")
    UNAUTHORIZED = (REFUSED, 401, "unauthorized", "A valid key is needed")
    FORBIDDEN = (REFUSED, 403, "forbidden", "That is not allowed")
    MISSING = (NOT_FOUND, 404, "not-found", "There is no such thing")
    METHOD_NOT_ALLOWED = (USAGE, 405, "method-not-allowed", "This method is not allowed here")
    TIMEOUT = (UNREACHABLE, 408, "timeout", "The request did not come in time")
    CONFLICT = (REFUSED, 409, "conflict", "The present state does not allow it")
    PRECONDITION_FAILED = (REFUSED, 412, "precondition-failed", "It was changed meanwhile")
    TOO_LARGE = (USAGE, 413, "too-large", "The body is too large")
    NOT_JSON = (USAGE, 415, "not-json", "The body must be JSON")
    WRONG_HOST = (USAGE, 421, "wrong-host", "This server does not answer for that host")
    INVALID = (USAGE, 422, "invalid", "The request is not valid")
    TOO_MANY_FAILURES = (REFUSED, 429, "too-many-failures", "Too many requests or failed logins")
    BUG = (UNREACHABLE, 500, "bug", "Something unexpected went wrong")
    MISCONFIGURED = (USAGE, 500, "misconfigured", "A setting cannot be used")
    FAILED = (UNSUCCESSFUL, 500, "unsuccessful", "It did not succeed")
    UNAVAILABLE = (UNREACHABLE, 503, "unavailable", "It cannot be served right now")

    def __init__(self, exit_code: int, status: int, problem: str, title: str) -> None:
        self.exit_code = exit_code
        self.status = status
        self.problem = problem
        self.title = title

    @staticmethod
    def of_status(status: int) -> "Kind | None":
        """The kind that an HTTP status stands for, None if jobfac does not use it."""
        return next((kind for kind in Kind if kind.status == status), None)


class Way(NamedTuple):
    """A remedy in the words of each edge: the command, or an option of it, and what a client of HTTP sends instead."""

    command: str
    http: str


LIST_RUNS = Way("`jobfac runs list`", "`GET /v1/runs`")
LIST_JOBS = Way("`jobfac jobs list`", "`GET /v1/jobs`")
LIST_WORKERS = Way("`jobfac workers list`", "`GET /v1/workers`")
LIST_SCHEDULES = Way("`jobfac schedule list`", "`GET /v1/schedules`")
LIST_HOLDS = Way("`jobfac holds`", "`GET /v1/holds`")
LIST_KEYS = Way("`jobfac keys list`", "`GET /v1/keys`")
LIST_URLS = Way("`jobfac jobs url JOB --list`", "`GET /v1/jobs/{job}/urls`")
MAKE_URL = Way("`jobfac jobs url JOB`", "`POST /v1/jobs/{job}/urls`")
FROM_FAILED = Way("--from-failed", "from_failed")


class JobfacError(Exception):
    """The base of every error that callers see; ``str()`` is the sentence.

    Attributes:
        way: the remedy, where it has other words over HTTP. It stands for ``{way}`` in the sentence.
        over_http: the sentence for a client of HTTP.
        fact: the sentence without the remedy.
    """

    kind: ClassVar[Kind] = Kind.FAILED

    def __init__(self, sentence: str = "", way: Way | None = None) -> None:
        self._sentence = sentence
        self.way = way
        super().__init__(sentence if way is None else sentence.replace("{way}", way.command))

    @property
    def over_http(self) -> str:
        """The sentence with the remedy that a client of HTTP has."""
        return str(self) if self.way is None else self._sentence.replace("{way}", self.way.http)

    @property
    def fact(self) -> str:
        """The sentence without a remedy that differs between the edges."""
        return str(self) if self.way is None else self._sentence.partition(";")[0] + "."

    def with_more(self, text: str) -> "JobfacError":
        """The same error with a further sentence."""
        return type(self)(f"{self._sentence} {text}", self.way)

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this error."""
        return self.kind.exit_code


class Unreachable(JobfacError):
    """The database cannot be reached, or not used as it is; the text says which and what to do."""

    kind = Kind.UNAVAILABLE


LOCKED = (
    "Another transaction of the database, such as one that a DBA left open or that changes many definitions, holds a "
    "lock that this needs"
)


class Locked(Unreachable):
    """Another transaction has held a lock for too long. The text may name jobs that a caller must not see.

    Attributes:
        is_named: it is a named lock, as that of a job, and not that of a row.
    """

    is_named = False


IN_DOUBT = "An answer was lost, so what you asked for may have been done; look before you repeat it."


class InDoubt(Unreachable):
    """The database or the API went away before it answered, and stayed away, so nobody knows whether it did it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an operation. The text says what was done and how to go on."""


def so_far(number: int, count: int, error: BaseException) -> str:
    """Return the beginning of a sentence: how many of ``count`` runs were started before ``error``."""
    is_doubtful = isinstance(error, InDoubt | KeyboardInterrupt)
    return f"{number} of {count} runs were started{' for certain' if is_doubtful else ''}; "


class WrongSchema(Unreachable):
    """The database has no schema of jobfac, or one of another version."""


class DatabaseDamaged(Unreachable):
    """The database file is damaged, or is no database; what is in memory cannot be stored."""


class DatabaseReplaced(Unreachable):
    """The database file was deleted or replaced under this process, which has to stop."""


class NotReady(JobfacError):
    """What a role needs of its machine is not there yet: an address, or the certificate that belongs to a renewed key.

    Its exit code is not that of a wrong setting, after which supervisors do not start a role again.
    """

    kind = Kind.CONFLICT


class NotFound(JobfacError):
    """There is no such thing; the text names it."""

    kind = Kind.MISSING


class Refused(JobfacError):
    """The job's definition or its present state does not allow this; the text says why and what would."""

    kind = Kind.CONFLICT


class Forbidden(JobfacError):
    """The caller may not do this; the text says what the caller may do."""

    kind = Kind.FORBIDDEN


class Invalid(JobfacError):
    """A value that a person gave cannot be used; the text says which, and what to give."""

    kind = Kind.INVALID


class Outdated(JobfacError):
    """The caller's condition no longer holds, because something was changed; the text says what there is now."""

    kind = Kind.PRECONDITION_FAILED


def no_schema(missing: str | None = None) -> WrongSchema:
    """The database is empty; ``missing``: the file that is not there, or not any more."""
    if missing is not None:
        return WrongSchema(
            f"There is no database file {missing}; choose the folder or set JOBFAC_DATABASE_URL, or bring it back if "
            "it was moved. For a new, empty one run `jobfac db upgrade`."
        )
    return WrongSchema(
        "The database has no jobfac schema yet; run `jobfac db upgrade`, or let a DBA run `jobfac db script`."
    )


def incomplete_schema(missing: object) -> WrongSchema:
    """The schema has the right version, but somebody has removed a part of it; ``missing``: what the engine says."""
    return WrongSchema(
        f"A part of the database's schema is missing ({missing}); restore it from a backup, or create it as "
        "`jobfac db script` does."
    )


def no_run(run_id: int) -> NotFound:
    """The error for a run that does not exist."""
    return NotFound(f"There is no run {run_id}; {{way}} shows what there is.", LIST_RUNS)


def denied(run_id: int, job: str, reason: str | None, *, has_key: bool = False) -> str:
    """Return the sentence about a start that was denied. ``has_key``: it had a start key, which stays with this run."""
    again = "; its key starts no other run: give another one, or retry the run" if has_key else ""
    return f"Run {run_id} of job '{job}' was denied: {reason}{again}."


def no_job(job_id: str) -> NotFound:
    """The error for a job that does not exist."""
    return NotFound(f"There is no job '{job_id}'; {{way}} shows what there is.", LIST_JOBS)


def unreadable_job(job_id: str, why: Exception) -> Refused:
    """The error for a job whose stored definition this version of jobfac cannot read."""
    return Refused(f"Job '{job_id}' cannot be read by this version of jobfac: {why}; apply it again, or update jobfac.")


def gone_worker(worker_id: int, name: str, died: bool) -> NotFound:
    """The error for a worker that has left or died."""
    went = "has died" if died else "has left"
    return NotFound(f"Worker {worker_id} ('{name}') {went} and claims no more runs; `jobfac worker` starts a new one.")


def no_worker(worker_id: int) -> NotFound:
    """The error for a worker that does not exist."""
    return NotFound(f"There is no live worker {worker_id}; {{way}} shows the fleet.", LIST_WORKERS)
