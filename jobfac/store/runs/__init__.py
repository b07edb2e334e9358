"""Start, list, stop and finish runs. Only this package and the claim in ``store.workers`` write ``run.state``.

Every function takes a ``Connection`` as its first argument. The code that opens the transaction decides what is atomic.
"""

from jobfac.recurrence.retry import retry_delay
from jobfac.store.runs.admission import Rule, lock, lock_free, release_blocked
from jobfac.store.runs.drafting import new_row
from jobfac.store.runs.events import events_of, record
from jobfac.store.runs.finish import Finished, Outcome, end, finish, requeue, rules_of
from jobfac.store.runs.pinning import end_unserved, queue_of_worker
from jobfac.store.runs.promotion import IS_DUE, follow_clock, promote_due
from jobfac.store.runs.reading import attempts, first_step, get
from jobfac.store.runs.reporting import note_program, report_progress
from jobfac.store.runs.request import StartRequest
from jobfac.store.runs.starting import retry, rules_of_jobs, start, start_each, start_many, start_numbered, start_once
from jobfac.store.runs.stopping import Stopped, lock_room, request_stop, request_stops, rules_to_stop
from jobfac.store.runs.subscribers import snapshots

__all__ = [
    "IS_DUE", "Finished", "Outcome", "Rule", "StartRequest", "Stopped", "attempts", "end", "end_unserved",
    "events_of", "finish", "first_step", "follow_clock", "get", "lock", "lock_free", "lock_room", "new_row",
    "note_program", "promote_due",
    "queue_of_worker", "record", "release_blocked", "report_progress", "request_stop", "request_stops", "requeue",
    "retry", "retry_delay", "rules_of", "rules_of_jobs", "rules_to_stop", "snapshots", "start", "start_each",
    "start_many", "start_numbered", "start_once",
]  # fmt: skip
