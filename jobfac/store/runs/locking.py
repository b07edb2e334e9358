"""Take the named locks of many jobs or sequences at once without waiting, and leave those out whose lock is not free.

A scheduler and a worker's loop work for everybody. If they waited for a lock that an open transaction holds, such as
one that called ``start_job``, all that they do would wait with it.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.store.runs.admission import Rule, names_of, rules_of
from jobfac.store.runs.stopping import is_active_of

K = TypeVar("K", bound=Hashable)


class Free(NamedTuple, Generic[K]):
    """Those whose named locks this transaction holds, in order, and those that another transaction keeps waiting."""

    found: Sequence[K]
    locked: Collection[K]


def lock_free(conn: sa.Connection, rules: Mapping[K, Iterable[Rule]]) -> set[K]:
    """Take those of the named locks of these rules that are free. Returns the keys all of whose locks are held.

    Must be called before the transaction locks a row.
    """
    needed = {key: list(its) for key, its in rules.items()}
    replaced = {rule.job for its in needed.values() for rule in its if rule.already_running == "replace"}
    # Their active runs are stopped, and these may have started with another rule.
    stopped = rules_of(conn, is_active_of(replaced)) if replaced else []
    names = {
        key: names_of([*its, *(one for one in stopped if one.job.lower() in {rule.job.lower() for rule in its})])
        for key, its in needed.items()
    }
    held = set(locks.take_free(conn, set().union(*names.values())))
    return {key for key, its in names.items() if its <= held}


def first_free(
    read: Callable[[Collection[K]], Sequence[K]],
    limit: int,
    lock: Callable[[Sequence[K]], Collection[K]],
) -> Free[K]:
    """Return the first of those that ``read`` returns whose locks are free.

    Args:
        read: returns the first ``limit`` ones, except those in its argument. They may repeat.
        lock: takes the locks that are free, and returns those that need another one.
    """
    locked: set[K] = set()
    while True:
        found = read(locked)
        missing = set(lock(found)) - locked
        locked |= missing
        if not missing or len(found) < limit:
            return Free([one for one in found if one not in locked], locked)
