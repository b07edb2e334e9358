"""Job definitions in the database. They are versioned, and a plan is applied completely or not at all."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database import locks
from jobfac.database.dialects import LOCKED_BY_KEY, lists, utcnow
from jobfac.database.tables import category, job, job_version, queue
from jobfac.database.types import flag, truncate_utf16
from jobfac.errors import unreadable_job
from jobfac.states import JobKind
from jobfac.store import audit, expectations
from jobfac.store.holds import leaving
from jobfac.store.jobs import category_defaults
from jobfac.store.triggers import start_urls
from jobfac.views.jobs import JobView, VersionView
from jobfac.views.serialization import from_row
from jobfac.views.waiting import fits

SEQUENCE_QUEUE = "@sequences"
"""The queue of sequence runs. Any worker or scheduler begins them; they take no slot."""

QUEUE_LENGTH = 400
"""The maximum length of a queue's name, in characters."""


class Stored(NamedTuple):
    """The current version of a job.

    Attributes:
        text: its definition as it is stored.
        parsed: its definition, or why this version of jobfac cannot read it: a newer one may have stored it.
        defaults: the defaults of its category.
    """

    id: str
    version: int
    kind: JobKind
    enabled: bool
    category: str | None
    queue: str
    text: str
    parsed: d.AnyJob | d.DefinitionError
    defaults: d.Defaults

    @property
    def definition(self) -> d.AnyJob:
        """Its definition.

        Raises:
            Refused: this version of jobfac cannot read it.
        """
        if isinstance(self.parsed, d.DefinitionError):
            raise unreadable_job(self.id, self.parsed)
        return self.parsed

    @property
    def unreadable(self) -> str | None:
        """Why this version of jobfac cannot read the definition; None: it can."""
        return str(self.parsed) if isinstance(self.parsed, d.DefinitionError) else None

    @property
    def body(self) -> dict[str, Any]:
        """The canonical form of the definition; if it cannot be read, as it is stored."""
        return d.stored_body(self.text) if isinstance(self.parsed, d.DefinitionError) else d.canonical(self.parsed)


_CURRENT = (
    sa.select(
        job.c.id,
        job.c.version,
        job.c.kind,
        job.c.enabled,
        job.c.category,
        job.c.queue,
        job_version.c.definition,
        category.c.definition.label("defaults"),
    )
    .join(job_version, (job_version.c.job == job.c.id) & (job_version.c.version == job.c.version))
    .outerjoin(category, category.c.name == job.c.category)
)
_ONE = _CURRENT.where(job.c.id == sa.bindparam("p_job"))


def view(stored: Stored) -> JobView:
    """Return the view of the job, with its canonical definition."""
    shown = from_row(JobView, {**stored._asdict(), "definition": stored.body})
    return shown._replace(unreadable=stored.unreadable)


def load(conn: sa.Connection, job_id: str, any_zone: bool = False) -> Stored | None:
    """Return the current version of the job, or None if there is no such job. ``any_zone``: as ``load_many``."""
    return next((_stored(row, any_zone) for row in conn.execute(_ONE, {"p_job": job_id})), None)


def load_many(
    conn: sa.Connection, job_ids: Collection[str], any_zone: bool = False
) -> dict[str, Stored | d.DefinitionError]:
    """Return the jobs that exist, by id; an error for one that cannot be read here. ``any_zone``: to start it, which
    needs no zone of a schedule."""
    found = (_stored(row, any_zone) for row in conn.execute(_CURRENT.where(lists.among(job.c.id, job_ids))))
    return {one.id: one.parsed if isinstance(one.parsed, d.DefinitionError) else one for one in found}


def state(conn: sa.Connection) -> tuple[Any, ...]:
    """Return a value that stays equal as long as no job and no category default changes."""
    rows = conn.execute(sa.select(job.c.id, job.c.version, job.c.enabled).order_by(job.c.id)).all()
    defaults = conn.execute(sa.select(category.c.name, category.c.definition).order_by(category.c.name)).all()
    return (*map(tuple, rows), *map(tuple, defaults))


def load_all(conn: sa.Connection) -> list[Stored]:
    """Return the current version of every job, ordered by id."""
    return [_stored(row) for row in conn.execute(_CURRENT.order_by(job.c.id))]


def load_version(conn: sa.Connection, job_id: str, version: int) -> d.AnyJob:
    """Return one version of a definition. A run records which version it uses, and needs no schedule's zone."""
    query = sa.select(job_version.c.definition).where(job_version.c.job == job_id, job_version.c.version == version)
    return _parsed(job_id, conn.execute(query).scalar_one(), True, True)


def version_body(conn: sa.Connection, job_id: str, version: int) -> dict[str, Any]:
    """Return one version of a definition as it is stored, whether this version of jobfac can read it or not."""
    query = sa.select(job_version.c.definition).where(job_version.c.job == job_id, job_version.c.version == version)
    return d.stored_body(conn.execute(query).scalar_one())


def find_version(conn: sa.Connection, job_id: str, version: int) -> d.AnyJob | d.DefinitionError:
    """Do the same as ``load_version``, but return the error of a definition that this version of jobfac cannot read."""
    try:
        return load_version(conn, job_id, version)
    except d.DefinitionError as error:
        return error


def versions(conn: sa.Connection, job_id: str, only: int | None = None) -> list[VersionView]:
    """Return the versions of a job, newest first. ``only``: just this one and the current one."""
    query = (
        sa.select(job_version, flag(job.c.version == job_version.c.version).label("current"))
        .join(job, job.c.id == job_version.c.job)
        .where(job_version.c.job == job_id)
        .order_by(job_version.c.version.desc())
    )
    if only is not None:
        query = query.where(sa.or_(job_version.c.version == only, job_version.c.version == job.c.version))
    found = conn.execute(query).mappings()
    decoded = (
        {**row, "current": bool(row["current"]), "definition": d.stored_body(row["definition"])} for row in found
    )
    return [from_row(VersionView, row) for row in decoded]


def defined_at(conn: sa.Connection, job_id: str) -> datetime | None:
    """Return when the first version of a job was stored."""
    return conn.execute(sa.select(sa.func.min(job_version.c.created_at)).where(job_version.c.job == job_id)).scalar()


def last_body(conn: sa.Connection, job_id: str) -> dict[str, Any] | None:
    """Return the canonical form of the last version of a job, which may have been deleted; None: there was none."""
    query = sa.select(job_version.c.definition).where(sa.func.lower(job_version.c.job) == job_id.lower())
    last = query.order_by(job_version.c.created_at.desc(), job_version.c.version.desc()).limit(1)
    text = conn.execute(last).scalar()
    return None if text is None else dict(json.loads(text))


def _stored(row: Any, any_zone: bool = False) -> Stored:
    job_id, version, kind, enabled, in_category, waits_in, text, defaults = row
    found = job_id, version, JobKind(kind), enabled, in_category, waits_in, text
    try:
        return Stored(*found, _parsed(job_id, text, enabled, any_zone), category_defaults.parsed(defaults))
    except d.DefinitionError as error:
        return Stored(*found, error, d.Defaults())


@lru_cache(maxsize=2000)
def _parsed(job_id: str, text: str, enabled: bool, any_zone: bool = False) -> d.AnyJob:
    return d.from_stored(job_id, text, enabled, any_zone)


class Queue(NamedTuple):
    """A queue: its name, its pool, the labels that a worker must have, and how many slots each of its runs takes."""

    name: str
    pool: str
    labels: dict[str, str]
    slots: int = 1


def queue_of(definition: d.AnyJob) -> Queue:
    """Return the queue in which a job's runs wait. All runs of a queue take the same number of slots."""
    if isinstance(definition, d.Sequence):
        return Queue(SEQUENCE_QUEUE, SEQUENCE_QUEUE, {})
    labels = dict(sorted(definition.labels.items()))
    name = definition.pool
    if labels:
        escaped = {key: value.replace("\\", "\\\\").replace(",", "\\,") for key, value in labels.items()}
        name += "[" + ",".join(f"{key}={value}" for key, value in escaped.items()) + "]"
    if definition.slots > 1:
        name += f"*{definition.slots}"
    if name != truncate_utf16(name, QUEUE_LENGTH):
        name = truncate_utf16(name, QUEUE_LENGTH - 72) + "... " + hashlib.sha256(name.encode()).hexdigest()
    return Queue(name, definition.pool, labels, definition.slots)


def lock(conn: sa.Connection, job_ids: Collection[str]) -> None:
    """Let no other caller change definitions, or enable or disable these jobs, until the transaction ends.

    Called before anything is read that decides about the change: what another caller stores between the reading and
    the writing would be overwritten.
    """
    locks.take(conn, {locks.DEFINITIONS})
    if job_ids:  # a job is enabled and disabled without the named lock
        rows = sa.select(job.c.id).with_hint(job, LOCKED_BY_KEY, "mssql").where(lists.among(job.c.id, job_ids))
        conn.execute(rows.order_by(job.c.id)).all()


def apply(
    conn: sa.Connection,
    plan: d.Plan,
    wanted: Mapping[str, d.AnyJob],
    by: str,
    bodies: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Apply a plan: store new versions of added and changed jobs, and delete removed jobs. Every step is audited.

    ``bodies``: canonical forms of definitions by job id, if they are already computed.
    """
    locks.take(conn, {locks.DEFINITIONS})
    for job_id in plan.remove:
        remove(conn, job_id, by)
    for job_id in [*plan.add, *plan.change]:
        put(conn, job_id, wanted[job_id], by, (bodies or {}).get(job_id))


def put(
    conn: sa.Connection, job_id: str, definition: d.AnyJob, by: str, canonical: Mapping[str, Any] | None = None
) -> int:
    """Store a definition as a new version if it differs from the current one. Returns the current version.

    ``enabled`` is not part of the version: disabling and enabling a job creates no new version.

    Raises:
        Refused: runs of it wait for a hold of its category, which it would leave.
    """
    # The named lock serialises concurrent calls even if there is no row yet that they could lock.
    locks.take(conn, {locks.DEFINITIONS})
    wanted = d.canonical(definition) if canonical is None else canonical
    body = json.dumps(wanted, ensure_ascii=False)
    row = conn.execute(_CURRENT.where(job.c.id == job_id)).mappings().first()
    before = None if row is None else row["definition"]
    known = {} if before is None else d.stored_body(before)
    changed = before is None or known != wanted
    version = 0 if row is None else int(row["version"])
    if changed:
        last = sa.select(sa.func.max(job_version.c.version)).where(job_version.c.job == job_id)
        version = (conn.execute(last).scalar() or 0) + 1  # a deleted job that returns continues its numbering
        conn.execute(
            job_version.insert().values(created_at=utcnow()),
            {"job": job_id, "version": version, "definition": body, "created_by": by},
        )
    waits_in = _known(conn, queue_of(definition))
    values = {
        "kind": definition.kind,
        "version": version,
        "enabled": definition.enabled,
        "category": definition.category,
        "queue": waits_in,
        "updated_by": by,
    }
    if row is None:
        conn.execute(job.insert().values({**values, "id": job_id, "updated_at": utcnow()}))
    else:
        leaving.check_change(conn, job_id, row["category"], definition.category)
        conn.execute(job.update().values({**values, "updated_at": utcnow()}).where(job.c.id == job_id))
    if definition.expect is not None or "expect" in known:
        expectations.sync(conn, job_id, definition.expect)
    if changed:
        audit.note(conn, by, "apply", job_id, before, body)
    if row is not None and row["enabled"] != definition.enabled:
        audit.note(conn, by, "enable" if definition.enabled else "disable", job_id)
    return version


def remove(conn: sa.Connection, job_id: str, by: str) -> bool:
    """Delete a job. Its versions stay for the runs that recorded them. Returns False if there was no such job.

    Raises:
        Refused: runs of it wait for a hold of its category.
    """
    stored = load(conn, job_id)
    if stored is None:
        return False
    leaving.check_deletion(conn, stored.id, stored.category)
    if not conn.execute(job.delete().where(job.c.id == job_id)).rowcount:
        return False
    expectations.sync(conn, job_id, None)
    start_urls.revoke(conn, job_id, by)
    audit.note(conn, by, "delete", job_id, stored.text)
    return True


def enable(conn: sa.Connection, job_id: str, enabled: bool, by: str) -> bool:
    """Allow or forbid starts of a job. Its active runs continue. Returns False if there is no such job."""
    change = job.update().values(enabled=enabled, updated_at=utcnow(), updated_by=by)
    if conn.execute(change.where(job.c.id == job_id, job.c.enabled == (not enabled))).rowcount:
        audit.note(conn, by, "enable" if enabled else "disable", job_id)
        return True
    return conn.execute(sa.select(job.c.id).where(job.c.id == job_id)).first() is not None


def known_queues(conn: sa.Connection) -> list[Queue]:
    """Return every queue that was ever used."""
    rows = conn.execute(sa.select(queue.c.name, queue.c.pool, queue.c.labels, queue.c.slots))
    return [Queue(row.name, row.pool, json.loads(row.labels), row.slots or 1) for row in rows]


def serves(pools: Collection[str], labels: Mapping[str, str], slots: int, one: Queue) -> bool:
    """Whether a worker with these pools, labels and slots may claim from a queue. Case does not count."""
    return fits(pools, labels, one.pool, one.labels) and one.slots <= slots


def matching_queues(
    conn: sa.Connection, pools: Collection[str], labels: Mapping[str, str], slots: int
) -> dict[str, int]:
    """Return the queues from which such a worker may claim, each with the slots that its runs take."""
    return {one.name: one.slots for one in known_queues(conn) if serves(pools, labels, slots, one)}


def _known(conn: sa.Connection, one: Queue) -> str:
    """Store a queue if it is new. Returns its name as stored: most databases ignore case, this program does not."""
    found = conn.execute(sa.select(queue.c.name).where(queue.c.name == one.name)).scalar()
    if found is not None:
        return str(found)
    slots = one.slots if one.slots > 1 else None
    values = {"name": one.name, "pool": one.pool, "labels": json.dumps(one.labels), "slots": slots}
    conn.execute(queue.insert(), values)
    return one.name


def ids(conn: sa.Connection) -> Sequence[str]:
    """Return the ids of all current jobs, in order."""
    return conn.execute(sa.select(job.c.id).order_by(job.c.id)).scalars().all()
