"""Admission: the already-running policy and the concurrency limits decide which runs may enter the queue.

Decisions are derived from the existing runs, never from a flag, so a crash leaves nothing to clean up. All decisions
about one job or one concurrency key are made under its named lock, so two concurrent starts see each other.

The columns of a run's rule (``Rule``) never change. So a transaction reads them without a lock, takes all named locks
that it may need with ``lock``, and only then locks rows (see ``database.locks``).
"""

from jobfac.store.runs.admission.locking import lock, lock_free, lock_late, rules_of
from jobfac.store.runs.admission.moving import admit, change_state, goes_behind, move, on_entry
from jobfac.store.runs.admission.releasing import release_blocked, release_jobs
from jobfac.store.runs.admission.rules import BATCH, CANDIDATE, GIVES_WAY, RULE, UNDER_WAY, Candidate, Rule

__all__ = [
    "BATCH",
    "CANDIDATE",
    "GIVES_WAY",
    "RULE",
    "UNDER_WAY",
    "Candidate",
    "Rule",
    "admit",
    "change_state",
    "goes_behind",
    "lock",
    "lock_free",
    "lock_late",
    "move",
    "on_entry",
    "release_blocked",
    "release_jobs",
    "rules_of",
]
