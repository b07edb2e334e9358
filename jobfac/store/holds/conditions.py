"""Conditions on holds, for statements about runs. The holds that count are a few rows in a filtered index.

All of them pass over the row of a hold that another transaction is just placing or releasing: a person who has left
such a transaction open must not stop every claim.
"""

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.tables import job, run, start_hold

IS_OPEN = "start_hold.freed = 0"
"""Condition of the filtered index: the hold is active, or has ended and what it held has not been freed yet."""


def is_active(hold: sa.sql.selectable.NamedFromClause = start_hold) -> sa.ColumnElement[bool]:
    """Condition on a hold: it holds now."""
    return sa.and_(
        sa.text(f"{hold.name}.freed = 0"),
        hold.c.released_at.is_(None),
        sa.or_(hold.c.until.is_(None), hold.c.until > utcnow()),
    )


_any = start_hold.alias("any_hold")
ANY = sa.exists(sa.select(_any.c.id).with_hint(_any, PASS, "mssql").where(is_active(_any)))
"""Condition: there is an active hold."""

_all = start_hold.alias("all_hold")
EVERYTHING = sa.exists(
    sa.select(_all.c.id)
    .with_hint(_all, PASS, "mssql")
    .where(is_active(_all), _all.c.pool.is_(None), _all.c.category.is_(None), _all.c.job.is_(None))
)
"""Condition: everything is held."""

_of_job = start_hold.alias("job_hold")
_of_category = start_hold.alias("category_hold")
_member = job.alias("member")
IS_JOB_HELD = sa.or_(
    sa.exists(
        sa.select(_of_job.c.id).with_hint(_of_job, PASS, "mssql").where(is_active(_of_job), _of_job.c.job == run.c.job)
    ),
    sa.exists(
        sa.select(_of_category.c.id)
        .select_from(_of_category.join(_member, _member.c.category == _of_category.c.category))
        .with_hint(_of_category, PASS, "mssql")
        .where(is_active(_of_category), _member.c.id == run.c.job)
    ),
)
"""Condition on a run: its job or its category is held."""
