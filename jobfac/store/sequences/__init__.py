"""Sequences: jobs that run in steps, with conditions, branches and loops.

A sequence run is queued, stopped and listed like any other run, but no worker holds it while it runs. Any worker or
scheduler begins it (``begin``). The transaction that finishes a run of one of its jobs also advances it
(``advance_after``). The module ``decide`` chooses the next step without a database.
"""

from jobfac.store.sequences.advance import advance_after, deregister, expire
from jobfac.store.sequences.approvals import approve, waiting_for
from jobfac.store.sequences.checking import skipped_approvals
from jobfac.store.sequences.history import step_history
from jobfac.store.sequences.locking import lock, lock_free_ends, lock_free_rows, lock_rules
from jobfac.store.sequences.looking import WaitingVisit, found, looked_for, note, take_due
from jobfac.store.sequences.steering import retry, stop
from jobfac.store.sequences.sweeping import begin, follow_clock, go_on, sweep, wake

__all__ = [
    "WaitingVisit", "advance_after", "approve", "begin", "deregister", "expire", "follow_clock", "found", "go_on",
    "lock", "lock_free_ends", "lock_free_rows", "lock_rules",
    "looked_for", "note", "retry", "skipped_approvals", "step_history", "stop", "sweep",
    "take_due", "waiting_for", "wake",
]  # fmt: skip
