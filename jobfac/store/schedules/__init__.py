"""Schedules in the database: kept in step with the definitions, and turned into runs when they are due.

There is no leader: any number of schedulers take different due schedules at the same time. A schedule's runs and its
next due time are written in one transaction, under a lock on its row.
"""

from jobfac.store.schedules.blackouts import hold_back
from jobfac.store.schedules.inserting import Inserted, Miss, Refusal, insert_due
from jobfac.store.schedules.steering import get, list_schedules, no_schedule, pause, preview, resume
from jobfac.store.schedules.syncing import Prepared, apply, put, remove, sync

__all__ = [
    "Inserted",
    "Miss",
    "Prepared",
    "Refusal",
    "apply",
    "get",
    "hold_back",
    "insert_due",
    "list_schedules",
    "no_schedule",
    "pause",
    "preview",
    "put",
    "remove",
    "resume",
    "sync",
]
