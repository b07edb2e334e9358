"""Keep the rows of schedules in step with the definitions. All callers store definitions through this module."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.tables import schedule
from jobfac.definitions import Schedule, checks
from jobfac.definitions.triggers.checks import followers as followers_of
from jobfac.errors import Refused
from jobfac.recurrence import next_due
from jobfac.store import jobs, upstream
from jobfac.store.schedules.decision import TICK, fire_time, write


class Prepared:
    """Results of slow computations on definitions, computed before the transaction that stores the definitions.

    On SQLite that transaction blocks every other writer.
    """

    def __init__(self, now: datetime | None = None, wanted: Iterable[d.AnyJob] = ()) -> None:
        """Compute the stored texts and first due times of ``wanted``. ``now`` is the database's time.

        Keeps references to the definitions, because the results are stored by the identity of each rule.
        """
        self._kept = list(wanted)
        rules = [rule for one in self._kept for rule in one.schedules]
        self._texts = {id(rule): write(rule) for rule in rules}
        self._due = {} if now is None else {id(rule): _first_due(rule, now) for rule in rules}

    def text(self, rule: Schedule) -> str:
        """Return the rule in its stored form."""
        return self._texts.get(id(rule)) or write(rule)

    def first_due(self, rule: Schedule, now: datetime) -> datetime | None:
        """Return the first due time of the rule after ``now``."""
        known = self._due.get(id(rule), now)
        return known if known is None or known > now else _first_due(rule, now)


def apply(
    conn: sa.Connection,
    plan: d.Plan,
    wanted: Mapping[str, d.AnyJob],
    by: str,
    bodies: Mapping[str, Mapping[str, Any]] | None = None,
    prepared: Prepared | None = None,
) -> None:
    """Apply a plan, as ``jobs.apply`` does, and synchronise the schedules."""
    jobs.apply(conn, plan, wanted, by, bodies)
    prepared = prepared or Prepared()
    for job_id in plan.remove:
        sync(conn, job_id, None)
    new = [row for job_id in [*plan.add, *plan.change] for row in _sync(conn, job_id, wanted[job_id], prepared)]
    _insert_all(conn, new)


def put(conn: sa.Connection, job_id: str, definition: d.AnyJob, by: str) -> int:
    """Store one definition and its schedules. Returns the current version."""
    version = jobs.put(conn, job_id, definition, by)
    sync(conn, job_id, definition)
    return version


def remove(conn: sa.Connection, job_id: str, by: str) -> bool:
    """Delete a job and its schedules. Returns False if there was no such job.

    Raises:
        Refused: a sequence runs it, or another job starts after it.
    """
    known = {one.id: d.canonical(one.definition) for one in jobs.load_all(conn)}
    users = sorted(user for user, inside in checks.children({}, known).items() if job_id in inside)
    if users:
        raise Refused(f"Job '{job_id}' is used by the sequence '{users[0]}'; change that first.")
    if followers := sorted(followers_of({}, known).get(job_id, frozenset()) - {job_id}):
        raise Refused(f"Job '{followers[0]}' starts after the job '{job_id}'; change that first.")
    found = jobs.remove(conn, job_id, by)
    sync(conn, job_id, None)
    return found


def sync(conn: sa.Connection, job_id: str, definition: d.AnyJob | None) -> None:
    """Make the rows of a job's schedules match its definition. ``definition`` None: remove all schedules.

    An unchanged schedule keeps its row, even if its position changed. A changed schedule is next due later than the due
    times of all its earlier runs, and it stays paused if it was paused.
    """
    _insert_all(conn, _sync(conn, job_id, definition, Prepared()))


def _sync(
    conn: sa.Connection, job_id: str, definition: d.AnyJob | None, prepared: Prepared
) -> list[tuple[Schedule, dict[str, Any]]]:
    """Do the same as ``sync``, but return the new rows with their rules instead of inserting them."""
    found = conn.execute(_ROWS, {"p_job": job_id}).mappings().all()
    wanted = {} if definition is None else dict(zip(definition.schedule_names(), definition.schedules, strict=True))
    texts = {name: prepared.text(rule) for name, rule in wanted.items()}
    pairs = _matched({row["name"]: row["definition"] for row in found}, texts)
    rows = {row["name"]: row for row in found}
    gone = [row["id"] for name, row in rows.items() if name not in pairs.values()]
    if gone:
        upstream.forget(conn, gone)
        conn.execute(schedule.delete().where(schedule.c.id.in_(gone)))
    renamed = {new: rows[old] for new, old in pairs.items() if old is not None and new != old}
    for row in renamed.values():  # temporary names first, because names are unique
        conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(name=f"#{row['id']}"))
    for new, row in renamed.items():
        conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(name=new))
    for new, old in pairs.items():
        if old is not None and rows[old]["definition"] != texts[new]:
            _change(conn, rows[old], wanted[new])
    fresh = [name for name, old in pairs.items() if old is None]
    if not fresh:
        return []
    now: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    return [(wanted[name], _row(job_id, name, wanted[name], prepared, now)) for name in fresh]


_ROWS = (
    sa.select(
        schedule.c.id,
        schedule.c.name,
        schedule.c.definition,
        schedule.c.next_due_at,
        schedule.c.last_due_at,
        utcnow().label("now"),
    )
    .with_hint(schedule, LOCKED, "mssql")
    .where(schedule.c.job == sa.bindparam("p_job"))
)


def _matched(stored: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return for each wanted name the stored name that it continues, or None for a new schedule.

    Both arguments map names to the texts of rules. The order of precedence is: the same name with the same rule, then
    the same rule under another name, then the same name with another rule. The second one lets an unnamed schedule keep
    its row when another schedule is inserted before it.
    """
    pairs: dict[str, str | None] = {name: name for name, text in wanted.items() if stored.get(name) == text}
    for name, text in wanted.items():
        if name not in pairs:
            same = (old for old in stored if stored[old] == text and old not in pairs.values())
            if (old := next(same, None)) is not None:
                pairs[name] = old
    for name in wanted:
        if name not in pairs:
            pairs[name] = name if name in stored and name not in pairs.values() else None
    return pairs


def _row(job_id: str, name: str, rule: Schedule, prepared: Prepared, now: datetime) -> dict[str, Any]:
    due = prepared.first_due(rule, now)
    values = {"job": job_id, "name": name, "definition": prepared.text(rule), "paused": False}
    return {**values, "next_due_at": due, "fire_at": due}


def _insert_all(conn: sa.Connection, new: Sequence[tuple[Schedule, dict[str, Any]]]) -> None:
    insert = schedule.insert().values(updated_at=utcnow())
    if plain := [row for rule, row in new if not rule.jitter and rule.is_calendar]:
        conn.execute(insert, plain)
    for rule, row in new:
        if not rule.jitter and rule.is_calendar:
            continue
        schedule_id = conn.execute(insert.returning(schedule.c.id), row).scalar_one()
        if not rule.is_calendar:
            upstream.sync(conn, schedule_id, rule.after if rule.enabled else None)
        if (due := row["next_due_at"]) is not None:  # the jitter depends on the id
            fire_at = fire_time(rule, schedule_id, due)
            conn.execute(schedule.update().where(schedule.c.id == schedule_id).values(fire_at=fire_at))


def _change(conn: sa.Connection, row: Mapping[Any, Any], rule: Schedule) -> None:
    """Update a changed schedule. A pending due time stays due if the new rule has it too."""
    pending = row["next_due_at"]
    after = row["now"] if pending is None else min(row["now"], pending - TICK)
    if row["last_due_at"] is not None:
        after = max(after, row["last_due_at"])
    due = _first_due(rule, after)
    fire_at = None if due is None else fire_time(rule, row["id"], due)
    values = {"definition": write(rule), "next_due_at": due, "fire_at": fire_at, "updated_at": utcnow()}
    conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(values))
    upstream.sync(conn, row["id"], rule.after if rule.enabled else None)


def _first_due(rule: Schedule, after: datetime) -> datetime | None:
    return next_due(rule, after) if rule.enabled and rule.is_calendar else None
