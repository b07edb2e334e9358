"""The rule of a run, and what it decides. Pure, but for the conditions on rows that say the same in SQL."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, RunState

BATCH = 500
"""The maximum number of rows that one transaction changes. SQL Server escalates to a table lock at 5,000 locks."""

IS_ACTIVE = sa.text(f"state IN ({sql_literals(ACTIVE)})")
IS_BLOCKED = sa.text(f"state = '{RunState.BLOCKED}'")
IS_BETWEEN_ATTEMPTS = sa.and_(sa.text(f"state = '{RunState.SCHEDULED}'"), run.c.attempt > 0)
UNDER_WAY = sa.or_(run.c.state != RunState.SCHEDULED, run.c.attempt > 0)
"""Condition on an active run: it is under way. A delayed start is not under way; a run between two attempts is."""

GIVES_WAY = run.c.already_running != "queue"
"""Condition on an active run: other starts of its job may be denied because of it, or stop it.

Not a run that queues by its own rule, as those that catch up: they wait for each other for hours, and meanwhile the
other starts of a job with ``deny`` or ``replace`` queue behind the one that runs."""


def decide(
    policy: str, *, is_denied: bool, has_others_of_job: bool, others_of_key: int, limit: int | None, retrying: bool
) -> RunState:
    """Decide the state of a run that is ready for the queue: ``queued``, ``blocked`` or ``denied``.

    Args:
        policy: the run's ``already_running``.
        is_denied: with ``deny``, other runs of the job are under way that do not queue by their own rule.
        has_others_of_job: other runs of the job are queued, running or stopping; for a run that queues and has not
            executed yet, also between two attempts.
        others_of_key: other runs with the same concurrency key that are queued, running or stopping.
        limit: the maximum number of such runs with the key; None without a key.
        retrying: the run has executed before, so it was already admitted and cannot be denied.
    """
    if policy == "deny" and is_denied and not retrying:
        return RunState.DENIED
    if policy != "start" and has_others_of_job:
        return RunState.BLOCKED
    if limit is not None and others_of_key >= limit:
        return RunState.BLOCKED
    return RunState.QUEUED


class Rule(NamedTuple):
    """The properties that decide about a run's admission. They never change for a run."""

    job: str
    already_running: str
    concurrency_key: str | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Rule":
        """Return the rule of a run that is not inserted yet, from the values of its columns."""
        return cls(values["job"], values["already_running"], values["concurrency_key"])

    @property
    def has_limits(self) -> bool:
        """Whether the run's admission depends on other runs. Most runs have no limits and skip all checks."""
        return self.already_running != "start" or self.concurrency_key is not None

    @property
    def names(self) -> set[str]:
        """The named locks that a decision about the run needs; empty: the run depends on no other run.

        Two keys that differ in case or in trailing blanks have the same lock. Most databases treat the keys as equal,
        but never treat the names of locks as equal.
        """
        names = set()
        if self.already_running != "start":
            names.add(f"jobfac:job:{self.job}")
        if self.concurrency_key is not None:
            names.add(f"jobfac:key:{self.concurrency_key.lower().rstrip(' ')}")
        return names


RULE = (run.c.job, run.c.already_running, run.c.concurrency_key)
"""The columns of a ``Rule``."""


class Candidate(NamedTuple):
    """A run that is ready for the queue, with the columns that decide its admission. ``id`` 0: not inserted yet."""

    id: int
    notify: str | None
    job: str
    attempt: int
    already_running: str
    concurrency_key: str | None
    concurrency_limit: int | None

    @property
    def rule(self) -> Rule:
        """The run's rule."""
        return Rule(self.job, self.already_running, self.concurrency_key)


CANDIDATE = tuple(run.c[name] for name in Candidate._fields)
"""The columns of a ``Candidate``."""


def names_of(rules: Iterable[Rule]) -> set[str]:
    """Return the named locks of these rules."""
    return set().union(*(rule.names for rule in rules))
