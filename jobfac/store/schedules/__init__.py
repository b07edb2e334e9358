"""Schedules in the database: synchronised with the definitions, and turned into runs when they are due.

There is no leader. Any number of schedulers process different due schedules at the same time. One transaction writes a
schedule's runs and its next due time, under a lock on the schedule's row.
"""

from jobfac.store.schedules.arriving import Arrived, ArrivedFile, WatchedSchedule, start_arrived, watched
from jobfac.store.schedules.blackouts import hold_back
from jobfac.store.schedules.departing import Gone, note_gone
from jobfac.store.schedules.following import WAITING, insert_followers
from jobfac.store.schedules.inserting import Inserted, Miss, Refusal, insert_due
from jobfac.store.schedules.load import read_load
from jobfac.store.schedules.pausing import failure_lock, failure_locks, pause_failing
from jobfac.store.schedules.rewinding import is_behind, rewind
from jobfac.store.schedules.steering import get, list_schedules, no_schedule, pause, paused, preview, resume
from jobfac.store.schedules.syncing import Prepared, apply, next_names, put, remove
from jobfac.store.upstream import follow_clock

__all__ = [
    "WAITING", "Arrived", "ArrivedFile", "Gone", "Inserted", "Miss", "Prepared", "Refusal", "WatchedSchedule", "apply",
    "failure_lock", "failure_locks", "follow_clock", "get", "hold_back", "insert_due", "insert_followers", "is_behind",
    "list_schedules", "next_names", "no_schedule", "note_gone", "pause", "pause_failing", "paused", "preview", "put",
    "read_load", "remove", "resume", "rewind", "start_arrived", "watched",
]  # fmt: skip
