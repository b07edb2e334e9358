"""The table of the steps that sequences visited."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Instant, Long, Name, Word, identity, index, one_of
from jobfac.states import StepResult, StepStart

WAKES = "wake_at IS NOT NULL AND result IS NULL"
"""Visits that wait for a time: the condition of their filtered index, exactly as written there."""

LOOKED_FOR = "pool IS NOT NULL AND result IS NULL"
"""Visits whose file workers look for: the condition of their filtered index, word for word."""

ASKED = "look_at IS NOT NULL AND result IS NULL"
"""Visits whose address a scheduler asks: the condition of their filtered index, word for word."""

visit = sa.Table(
    "visit",  # one row per time that a sequence came to a step; the step's jobs have its id as their visit_id
    metadata,
    identity(),
    sa.Column("run_id", BigId, nullable=False),  # the sequence's run
    sa.Column("step", Name, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # 1 for the first visit of this step
    sa.Column("entered_at", Instant, nullable=False),
    sa.Column("start", Word, nullable=False),
    sa.Column("proceed", Word, nullable=False),
    sa.Column("refused", Long),  # JSON: by job, why it could not be started, or the id of the run that counts instead
    sa.Column("result", Word),  # NULL: not decided yet
    sa.Column("decided_at", Instant),
    sa.Column("goes_to", Word),  # step, end or end_failed
    sa.Column("next_step", Name),
    sa.Column("reason", sa.Unicode(1000)),
    sa.Column("children", sa.Integer),  # with for_each: how many runs it will have in all
    sa.Column("at_most", sa.Integer),  # with for_each: how many of them at a time
    sa.Column("for_each", Long),  # JSON array: the parameters of each of them
    sa.Column("waits_for", Word),  # a person, a time, a file or an address; NULL: its runs
    sa.Column("wake_at", Instant),  # when the waiting ends without a decision; NULL: never
    sa.Column("decision", Word),
    sa.Column("decided_by", Name),
    sa.Column("awaits", Long),  # JSON object: the file or the address that it waits for, and how often to look
    sa.Column("pool", Name),  # the pool whose workers look for the file
    sa.Column("look_at", Instant),  # when a scheduler asks the address next
    sa.Column("parameters", Long),  # JSON: what the person gave who approved
    one_of("start", StepStart, "start"),
    one_of("result", StepResult, "result"),
    index("ix_visit_run", "run_id", "id"),
    index("ix_visit_wake", "wake_at", where=WAKES),
    index("ix_visit_pool", "pool", where=LOOKED_FOR),
    index("ix_visit_look", "look_at", where=ASKED),
    index("ix_visit_step", "run_id", "step", "number", unique=True),
    sqlite_autoincrement=True,
)
