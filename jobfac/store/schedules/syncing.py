"""Keep the rows of schedules in step with the definitions. All callers store definitions through this module."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import LOCKED_BY_KEY, current_time, utcnow
from jobfac.database.dialects.rows import by_primary_key, delete, joined, members, rows_table
from jobfac.database.tables import run, schedule
from jobfac.database.types import BigId
from jobfac.definitions import Schedule, checks
from jobfac.definitions.triggers import After
from jobfac.definitions.triggers.checks import followers as followers_of
from jobfac.errors import Refused
from jobfac.recurrence import next_due
from jobfac.store import jobs, upstream
from jobfac.store.schedules.decision import TICK, fire_time, read, write

T = TypeVar("T")

BATCH = 500
"""The maximum number of rows that one statement changes."""


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
        self._values = {} if now is None else {id(rule): self._written(rule, self._due[id(rule)]) for rule in rules}

    def _written(self, rule: Schedule, due: datetime | None) -> str:
        return members({"definition": self.text(rule), "next_due_at": due, "fire_at": due})

    def values(self, rule: Schedule, due: datetime | None) -> str:
        """Return text and due times of a rule without jitter, as a statement's parameter has them."""
        known = self._values.get(id(rule))
        return known if known is not None and due == self._due[id(rule)] else self._written(rule, due)

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
    changes = _Changes()
    for job_id in plan.remove:
        _sync(conn, job_id, None, prepared or Prepared(), changes)
    # At once: a database that ignores case would give them to a new job whose id differs in case only.
    _delete(conn, changes.gone)
    changes.gone = []
    for job_id in [*plan.add, *plan.change]:
        _sync(conn, job_id, wanted[job_id], prepared or Prepared(), changes)
    _write(conn, changes)


def put(conn: sa.Connection, job_id: str, definition: d.AnyJob, by: str) -> int:
    """Store one definition and its schedules. Returns the current version."""
    version = jobs.put(conn, job_id, definition, by)
    sync(conn, job_id, definition)
    return version


def remove(conn: sa.Connection, job_id: str, by: str, sees: Callable[[str | None], bool] = lambda _: True) -> bool:
    """Delete a job and its schedules. Returns False if there was no such job.

    ``sees``: whether a refusal may name the jobs of a category.

    Raises:
        Refused: a sequence runs it, another job starts after it, or its runs wait for a hold of its category.
    """
    stored = jobs.load_all(conn)
    known = {one.id: one.body for one in stored}
    seen = {one.id for one in stored if sees(one.category)}
    users = sorted(user for user, inside in checks.children({}, known).items() if job_id in inside)
    if users:
        named = next((f"the sequence '{one}'" for one in users if one in seen), "a sequence of others")
        raise Refused(f"Job '{job_id}' is used by {named}; change that first.")
    if followers := sorted(followers_of({}, known).get(job_id, frozenset()) - {job_id}):
        named = next((f"Job '{one}'" for one in followers if one in seen), "A job of others")
        raise Refused(f"{named} starts after the job '{job_id}'; change that first.")
    found = jobs.remove(conn, job_id, by)
    sync(conn, job_id, None)
    return found


def sync(conn: sa.Connection, job_id: str, definition: d.AnyJob | None) -> None:
    """Make the rows of a job's schedules match its definition. ``definition`` None: remove all schedules.

    An unchanged schedule keeps its row, even if its position changed. A changed schedule is next due later than the due
    times of all its earlier runs, and it stays paused if it was paused.
    """
    changes = _Changes()
    _sync(conn, job_id, definition, Prepared(), changes)
    _write(conn, changes)


@dataclass
class _Changes:
    """Changes of many jobs' schedules, which are written together.

    Attributes:
        gone: ids to delete.
        changed, new: values of rows to update and to insert, as ``members`` writes them.
        single: rows to insert one by one, because their time to fire, or what they wait for, depends on the id.
        waiting: changed schedules that wait for other jobs, or did, each with what it waits for now.
    """

    gone: list[int] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    single: list[tuple[Schedule, dict[str, Any]]] = field(default_factory=list)
    waiting: list[tuple[int, After | None]] = field(default_factory=list)


def _sync(conn: sa.Connection, job_id: str, definition: d.AnyJob | None, prepared: Prepared, changes: _Changes) -> None:
    """Do the same as ``sync``, but add most changes to ``changes``. Those that free a name are made at once."""
    found = conn.execute(_ROWS, {"p_job": job_id}).mappings().all()
    if definition is None:
        changes.gone += [row["id"] for row in found]
        return
    wanted = dict(zip(definition.schedule_names(), definition.schedules, strict=True))
    texts = {name: prepared.text(rule) for name, rule in wanted.items()}
    pairs = _matched({row["name"]: row["definition"] for row in found}, texts)
    rows = {row["name"]: row for row in found}
    kept = set(pairs.values())
    _delete(conn, [row["id"] for name, row in rows.items() if name not in kept])
    renamed = {new: rows[old] for new, old in pairs.items() if old is not None and new != old}
    for row in renamed.values():  # temporary names first, because names are unique
        conn.execute(schedule.update().where(schedule.c.id == row.id).values(name=f"#{row.id}"))
    for new, row in renamed.items():
        conn.execute(schedule.update().where(schedule.c.id == row.id).values(name=new))
    for new, old in pairs.items():
        pool = pool_of(definition, wanted[new])
        if old is not None and (rows[old]["definition"] != texts[new] or rows[old]["pool"] != pool):
            changes.changed.append(_changed(rows[old], wanted[new], pool, prepared))
            if not wanted[new].is_calendar or not read(rows[old]["definition"]).is_calendar:
                changes.waiting.append((rows[old]["id"], wanted[new].after if wanted[new].enabled else None))
    fresh = {name: wanted[name] for name, old in pairs.items() if old is None}
    if not fresh:
        return
    now = current_time(conn)
    for name, rule in fresh.items():
        due = prepared.first_due(rule, now)
        if rule.jitter or not rule.is_calendar:
            values = _row(job_id, name, prepared.text(rule), due)
            changes.single.append((rule, {**values, "pool": pool_of(definition, rule)}))
        else:
            keys = members({"job": job_id, "name": name, "paused": False})
            changes.new.append(f"{keys}, {prepared.values(rule, due)}")


_ROWS = (
    sa.select(
        schedule.c.id,
        schedule.c.name,
        schedule.c.definition,
        schedule.c.next_due_at,
        schedule.c.last_due_at,
        schedule.c.pool,
        utcnow().label("now"),
    )
    .with_hint(schedule, LOCKED_BY_KEY, "mssql")
    .where(schedule.c.job == sa.bindparam("p_job"))
)


def _matched(stored: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return for each wanted name the stored name that it continues, or None for a new schedule.

    Both arguments map names to the texts of rules. The order of precedence is: the same name with the same rule, then
    the same rule under another name, then the same name with another rule, then schedules without a name in their
    order. The second one lets an unnamed schedule keep its row when another schedule is inserted before it, and the
    last one when it was moved and changed at once: a paused one must not fire because of that.
    """
    pairs: dict[str, str | None] = {name: name for name, text in wanted.items() if stored.get(name) == text}
    free: dict[str, list[str]] = {}  # stored names by their rules, first ones last
    for old in reversed([name for name in stored if name not in pairs]):
        free.setdefault(stored[old], []).append(old)
    for name, text in wanted.items():
        if name not in pairs and (same := free.get(text)):
            pairs[name] = same.pop()
    used = set(pairs.values())
    for name in wanted:
        if name not in pairs:
            pairs[name] = name if name in stored and name not in used else None
    used = set(pairs.values())
    left = sorted((name for name in stored if name not in used and name.isdecimal()), key=int)
    new = (name for name, old in pairs.items() if old is None and name.isdecimal())
    return pairs | dict(zip(new, left, strict=False))


def next_names(conn: sa.Connection, job_id: str, definition: d.AnyJob) -> dict[str, str]:
    """Return which name of the definition each stored schedule of the job continues under; others are dropped."""
    rows = conn.execute(_ROWS, {"p_job": job_id}).mappings().all()
    texts = {name: write(rule) for name, rule in zip(definition.schedule_names(), definition.schedules, strict=True)}
    pairs = _matched({row["name"]: row["definition"] for row in rows}, texts)
    return {old: new for new, old in pairs.items() if old is not None}


def _row(job_id: str, name: str, text: str, due: datetime | None) -> dict[str, Any]:
    values = {"job": job_id, "name": name, "definition": text, "paused": False}
    return {**values, "next_due_at": due, "fire_at": due}


def pool_of(definition: d.AnyJob, rule: Schedule) -> str | None:
    """Return the pool whose workers watch for the files of a schedule; None: nobody does."""
    if rule.file is None or not rule.enabled:
        return None
    return rule.pool or (definition.pool if isinstance(definition, d.Job) else "default")


def _changed(row: Mapping[Any, Any], rule: Schedule, pool: str | None, prepared: Prepared) -> str:
    """Return the new values of a changed schedule. A pending due time stays due if the new rule has it too."""
    pending = row["next_due_at"]
    after = row["now"] if pending is None else min(row["now"], pending - TICK)
    if row["last_due_at"] is not None:
        after = max(after, row["last_due_at"])
    due = prepared.first_due(rule, after) if after == row["now"] else _first_due(rule, after)
    if due is None or not rule.jitter:
        return f"{members({'id': row['id'], 'pool': pool})}, {prepared.values(rule, due)}"
    fire_at = fire_time(rule, row["id"], due)
    values = {"id": row["id"], "definition": prepared.text(rule), "next_due_at": due, "fire_at": fire_at}
    return members(values)


def _write(conn: sa.Connection, changes: _Changes) -> None:
    engine = conn.dialect.name
    _delete(conn, changes.gone)
    for some in _batches(changes.changed):
        conn.execute(_update(engine), joined(some))
    ids = _new_ids(conn) if changes.new or changes.single else None
    for some in _batches(changes.new):
        rows = some if ids is None else [f"{members({'id': next(ids)})}, {row}" for row in some]
        conn.execute(_insert(engine), joined(rows))
    insert = schedule.insert().values(updated_at=utcnow()).returning(schedule.c.id)
    for schedule_id, after in changes.waiting:
        upstream.sync(conn, schedule_id, after)
    for rule, row in changes.single:
        schedule_id = conn.execute(insert, row if ids is None else {**row, "id": next(ids)}).scalar_one()
        if not rule.is_calendar:
            upstream.sync(conn, schedule_id, rule.after if rule.enabled else None)
        if (due := row["next_due_at"]) is not None:  # the jitter depends on the id
            fire_at = fire_time(rule, schedule_id, due)
            conn.execute(schedule.update().where(schedule.c.id == schedule_id).values(fire_at=fire_at))


_LAST_IDS = sa.select(
    sa.select(sa.func.max(schedule.c.id)).scalar_subquery(),
    sa.select(sa.func.max(run.c.schedule_id)).where(sa.text("schedule_id IS NOT NULL")).scalar_subquery(),
)


def _new_ids(conn: sa.Connection) -> Iterator[int] | None:
    """Return ids for new schedules; None: the database gives them, and none of them twice.

    SQLite gives the id of a deleted schedule again. The runs of that one would count as runs of the new one, so a
    backfill would find a run for each of its due times.
    """
    if conn.dialect.name != "sqlite":
        return None
    return count(1 + max(last or 0 for last in conn.execute(_LAST_IDS).one()))


def _delete(conn: sa.Connection, schedule_ids: Sequence[int]) -> None:
    for some in _batches(schedule_ids):
        upstream.forget(conn, some)
        delete(conn, schedule, [{"id": one} for one in some])


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))


_CHANGING = {name: schedule.c[name].type for name in ("definition", "next_due_at", "fire_at", "pool")}


@functools.cache
def _update(engine: str) -> sa.Update:
    input_rows = rows_table(engine, id=BigId, **_CHANGING)
    change = schedule.update().where(schedule.c.id == input_rows.c.id)
    return by_primary_key(
        change.values(updated_at=utcnow(), **{name: input_rows.c[name] for name in _CHANGING}), schedule
    )


@functools.cache
def _insert(engine: str) -> sa.Insert:
    names = ["job", "name", "definition", "paused", "next_due_at", "fire_at"]
    names += ["id"] if engine == "sqlite" else []
    input_rows = rows_table(engine, **{name: schedule.c[name].type for name in names})
    values = sa.select(*(input_rows.c[name] for name in names), utcnow())
    return schedule.insert().from_select([*names, "updated_at"], values)


def _first_due(rule: Schedule, after: datetime) -> datetime | None:
    return next_due(rule, after) if rule.enabled and rule.is_calendar else None
