"""The schedules' rows follow the definitions. Whoever stores a definition does it through here."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.tables import schedule
from jobfac.definitions import Schedule, checks
from jobfac.errors import Refused
from jobfac.recurrence import next_due
from jobfac.store import jobs
from jobfac.store.schedules.decision import TICK, fire_time, write


def apply(conn: sa.Connection, plan: d.Plan, wanted: Mapping[str, d.AnyJob], by: str) -> None:
    """Carry out a plan, as ``store.apply`` does, schedules included."""
    jobs.apply(conn, plan, wanted, by)
    for job_id in plan.remove:
        sync(conn, job_id, None)
    for job_id in [*plan.add, *plan.change]:
        sync(conn, job_id, wanted[job_id])


def put(conn: sa.Connection, job_id: str, definition: d.AnyJob, by: str) -> int:
    """Store one definition and its schedules; returns the version in force."""
    version = jobs.put(conn, job_id, definition, by)
    sync(conn, job_id, definition)
    return version


def remove(conn: sa.Connection, job_id: str, by: str) -> bool:
    """Delete a job and its schedules. False: there was none.

    Raises:
        Refused: a sequence runs it.
    """
    known = {one.id: d.canonical(one.definition) for one in jobs.load_all(conn)}
    users = sorted(user for user, inside in checks.children({}, known).items() if job_id in inside)
    if users:
        raise Refused(f"Job '{job_id}' is used by the sequence '{users[0]}'; change that first.")
    found = jobs.remove(conn, job_id, by)
    sync(conn, job_id, None)
    return found


def sync(conn: sa.Connection, job_id: str, definition: d.AnyJob | None) -> None:
    """Make the rows of a job's schedules what its definition says; None: it has none any more.

    A schedule that did not change is left alone, be it that it only has another position. One that did is due next
    at a time later than every time it was due before, and stays paused if it was.
    """
    found = conn.execute(_ROWS, {"p_job": job_id}).mappings().all()
    wanted = {} if definition is None else dict(zip(definition.schedule_names(), definition.schedules, strict=True))
    pairs = _matched({row["name"]: row["definition"] for row in found}, {n: write(rule) for n, rule in wanted.items()})
    rows = {row["name"]: row for row in found}
    gone = [row["id"] for name, row in rows.items() if name not in pairs.values()]
    if gone:
        conn.execute(schedule.delete().where(schedule.c.id.in_(gone)))
    renamed = {new: rows[old] for new, old in pairs.items() if old is not None and new != old}
    for row in renamed.values():  # out of each other's way first: names are unique
        conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(name=f"#{row['id']}"))
    for new, row in renamed.items():
        conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(name=new))
    for new, old in pairs.items():
        if old is None:
            _insert(conn, job_id, new, wanted[new])
        elif rows[old]["definition"] != write(wanted[new]):
            _change(conn, rows[old], wanted[new])


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
    """For each wanted name the stored name that it continues, None: it is new. Both by name, with the rule's text.

    The same name and rule first; then the same rule under another name, so that a schedule without a name of its own
    keeps its row when another comes before it; then the same name with another rule.
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


def _insert(conn: sa.Connection, job_id: str, name: str, rule: Schedule) -> None:
    due = _first_due(rule, conn.execute(sa.select(utcnow())).scalar_one())
    values = {"job": job_id, "name": name, "definition": write(rule), "paused": False, "next_due_at": due}
    insert = schedule.insert().values({**values, "fire_at": due, "updated_at": utcnow()})
    schedule_id = conn.execute(insert.returning(schedule.c.id)).scalar_one()
    if rule.jitter and due is not None:
        fire_at = fire_time(rule, schedule_id, due)
        conn.execute(schedule.update().where(schedule.c.id == schedule_id).values(fire_at=fire_at))


def _change(conn: sa.Connection, row: Mapping[Any, Any], rule: Schedule) -> None:
    """A time that is due and was not run yet stays due, if the new rule has it too."""
    pending = row["next_due_at"]
    after = row["now"] if pending is None else min(row["now"], pending - TICK)
    if row["last_due_at"] is not None:
        after = max(after, row["last_due_at"])
    due = _first_due(rule, after)
    fire_at = None if due is None else fire_time(rule, row["id"], due)
    values = {"definition": write(rule), "next_due_at": due, "fire_at": fire_at, "updated_at": utcnow()}
    conn.execute(schedule.update().where(schedule.c.id == row["id"]).values(values))


def _first_due(rule: Schedule, after: datetime) -> datetime | None:
    return next_due(rule, after) if rule.enabled else None
