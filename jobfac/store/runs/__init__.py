"""Runs: started, listed, stopped and finished here. This package is the sole writer of ``run.state``, together with
the claim and the expiry in ``leases``.

Every function takes a ``Connection`` first; who opens the transaction decides what is atomic.
"""

from jobfac.store.runs.admission import release_blocked
from jobfac.store.runs.events import events_of, record
from jobfac.store.runs.finish import Finished, Outcome, end, finish, note_program, report_progress, requeue
from jobfac.store.runs.promotion import IS_DUE, promote_due
from jobfac.store.runs.reading import attempts, find, get, present
from jobfac.store.runs.retry import retry_delay
from jobfac.store.runs.starting import (
    StartRequest,
    retry,
    start,
    start_each,
    start_many,
    start_numbered,
    started_with,
)
from jobfac.store.runs.stopping import Stopped, request_stop
from jobfac.store.runs.subscribers import snapshots

__all__ = [
    "IS_DUE",
    "Finished",
    "Outcome",
    "StartRequest",
    "Stopped",
    "attempts",
    "end",
    "events_of",
    "find",
    "finish",
    "get",
    "note_program",
    "present",
    "promote_due",
    "record",
    "release_blocked",
    "report_progress",
    "request_stop",
    "requeue",
    "retry",
    "retry_delay",
    "snapshots",
    "start",
    "start_each",
    "start_many",
    "start_numbered",
    "started_with",
]
