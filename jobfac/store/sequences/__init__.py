"""Sequences: jobs that run in steps, with conditions, branches and loops.

A run of a sequence is a run like any other, queued, stopped and listed like one, but no worker holds it while it runs:
any worker or scheduler begins it (``begin_queued``), and whoever finishes one of its jobs' runs advances it in the same
transaction (``settle``). Which way it goes is decided in ``decide``, without a database.
"""

from jobfac.store.sequences.advance import begin, begin_queued, expire, lock, lock_rules, settle
from jobfac.store.sequences.history import step_history
from jobfac.store.sequences.steering import retry, stop
from jobfac.store.sequences.sweeping import sweep

__all__ = ["begin", "begin_queued", "expire", "lock", "lock_rules", "retry", "settle", "step_history", "stop", "sweep"]
