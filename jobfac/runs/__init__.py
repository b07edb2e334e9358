"""Runs: started, listed, stopped and finished here. This package is the sole writer of ``run.state``, together with
the claim and the expiry in ``leases``.

Every function takes a ``Connection`` first; who opens the transaction decides what is atomic.
"""

from jobfac.runs.events import events_of, record
from jobfac.runs.finish import Finished, Outcome, end, finish, give_back, note_program, report_progress
from jobfac.runs.gates import release_blocked
from jobfac.runs.news import snapshots
from jobfac.runs.promoting import IS_DUE, promote_due
from jobfac.runs.reading import NotFound, attempts, find, get, no_job, no_run, present
from jobfac.runs.retry import retry_delay
from jobfac.runs.starting import Refused, Start, retry, start, start_each, start_many
from jobfac.runs.stopping import Stopped, request_stop

__all__ = [
    "IS_DUE",
    "Finished",
    "NotFound",
    "Outcome",
    "Refused",
    "Start",
    "Stopped",
    "attempts",
    "end",
    "events_of",
    "find",
    "finish",
    "get",
    "give_back",
    "no_job",
    "no_run",
    "note_program",
    "present",
    "promote_due",
    "record",
    "release_blocked",
    "report_progress",
    "request_stop",
    "retry",
    "retry_delay",
    "snapshots",
    "start",
    "start_each",
    "start_many",
]
