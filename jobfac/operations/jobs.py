"""Define, delete, enable and disable jobs."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import current_time
from jobfac.database.engine import Database
from jobfac.definitions.values import read_id
from jobfac.errors import Forbidden, Outdated
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.operations.versions import checked
from jobfac.store import jobs, schedules
from jobfac.store.jobs import category_defaults, waiting
from jobfac.store.schedules import beginnings, renames
from jobfac.views.results.plans import AppliedView, PlanView

Reader = Callable[[Mapping[str, Mapping[str, Any]]], d.Definitions]
"""Reads definitions and checks them against the known ones. ``definitions.reader`` creates a reader for files."""

_Pairs = tuple[tuple[str, str], ...]


class Kept(NamedTuple):
    """Operating state that stays although the definitions do not ask for it.

    ``disabled``: jobs that stay disabled. ``paused``: schedules that stay paused, as (job, schedule). ``dropped``:
    those that are paused and that the definitions no longer have. ``lost``: sentences about what renamed jobs lose,
    about jobs that lack a first success, and about runs that wait.
    """

    disabled: tuple[str, ...]
    paused: _Pairs
    dropped: _Pairs = ()
    lost: tuple[str, ...] = ()


class Applied(NamedTuple):
    """The changes that applying definitions makes: the plans for jobs and for defaults of categories."""

    jobs: d.Plan
    defaults: d.Plan
    wanted: d.Definitions
    kept: Kept

    def view(self) -> AppliedView:
        """Return what clients are shown."""
        warnings = [str(warning) for warning in self.wanted.warnings]
        warnings += [
            f"schedule '{name}' of {job} is paused and the definition no longer has it; the schedules that it has fire"
            for job, name in self.kept.dropped
        ]
        warnings += self.kept.lost
        losses = d.losses(self.jobs) + [f"{one} (defaults)" for one in d.losses(self.defaults)]
        paused = [list(pair) for pair in self.kept.paused]
        return AppliedView(
            _plan_view(self.jobs), _plan_view(self.defaults), list(self.kept.disabled), paused, losses, warnings
        )


def _plan_view(one: d.Plan) -> PlanView:
    change = {name: _changes(found) for name, found in one.change.items()}
    return PlanView(list(one.add), change, list(one.remove), list(one.same))


def _changes(found: Iterable[d.Difference]) -> list[dict[str, Any]]:
    return [{"path": one.path, "before": one.before, "after": one.after} for one in found]


class Written(NamedTuple):
    """The current version of a job. ``created``: the job is new."""

    stored: jobs.Stored
    created: bool


def plan(db: Database, by: Caller, read: Reader, *, prune: bool = False) -> Applied:
    """Return what ``apply`` would change. Changes nothing, so it may be repeated.

    Whether a job is enabled, and which schedules are paused, is operating state: it stays as it is, except that a
    definition may say ``enabled``.

    Raises:
        DefinitionError: the definitions cannot be used.
    """
    return db.query(_plan, read, prune, retry_for=by.retry_for)


def apply(db: Database, by: Caller, read: Reader, *, prune: bool = False) -> Applied:
    """Apply definitions completely or not at all. ``prune`` also removes the jobs that are not among them.

    May be repeated: a second call finds nothing left to change.

    Raises:
        DefinitionError: the definitions cannot be used; nothing was changed.
        Refused: runs of a job that would be removed or leave its category wait for a hold of that; nothing was changed.
    """

    # Computed before the transaction, because on SQLite the transaction blocks every other writer, even heartbeats.
    seen, now, planned = db.query(lambda conn: (jobs.state(conn), current_time(conn), _plan(conn, read, prune)))
    touched = [*planned.jobs.add, *planned.jobs.change]
    bodies = {job_id: d.canonical(planned.wanted.jobs[job_id]) for job_id in touched}
    prepared = schedules.Prepared(now, [planned.wanted.jobs[job_id] for job_id in touched])

    def work(conn: sa.Connection) -> Applied:
        jobs.lock(conn, touched)
        if jobs.state(conn) == seen:
            category_defaults.apply(conn, planned.defaults, planned.wanted.defaults, by.name)
            schedules.apply(conn, planned.jobs, planned.wanted.jobs, by.name, bodies, prepared)
            return _now_paused(conn, planned)
        # Another caller changed definitions meanwhile. The new plan may change jobs that are not locked yet.
        jobs.lock(conn, list(planned.wanted.jobs))
        anew = _plan(conn, read, prune)
        category_defaults.apply(conn, anew.defaults, anew.wanted.defaults, by.name)
        schedules.apply(conn, anew.jobs, anew.wanted.jobs, by.name)
        return _now_paused(conn, anew)

    return transact(db, by, work)


def _plan(conn: sa.Connection, read: Reader, prune: bool) -> Applied:
    stored = {job.id: job for job in jobs.load_all(conn)}
    bodies = {job_id: one.body for job_id, one in stored.items()}
    wanted = read({} if prune else bodies)
    wanted, disabled = _with_state(wanted, stored)
    before = {job_id: _comparable(bodies[job_id], one.enabled) for job_id, one in stored.items()}
    after = {job_id: _comparable(d.canonical(one), one.enabled) for job_id, one in wanted.jobs.items()}
    defaults = category_defaults.load(conn)
    wanted_defaults = {name: d.canonical(entry) for name, entry in wanted.defaults.items()}
    changes = d.plan(before, after, prune)
    removed = {job_id: stored[job_id] for job_id in changes.remove}
    lost = renames.lost(conn, removed, {job_id: wanted.jobs[job_id] for job_id in changes.add})
    unbegun = beginnings.unbegun(conn, {job_id: wanted.jobs[job_id] for job_id in (*changes.add, *changes.change)})
    said = (*lost, *unbegun, *waiting.keeping(conn, changes), *_still_needed(conn, changes.remove))
    kept = Kept(disabled, *_paused(conn, wanted, changes.change), said)
    return Applied(changes, d.plan(defaults, wanted_defaults, prune), wanted, kept)


def _still_needed(conn: sa.Connection, removed: Collection[str]) -> list[str]:
    """Return a sentence for each sequence under way that has yet to start, or may start again, a removed job."""
    said = []
    for sequence, version in waiting.sequences_under_way(conn) if removed else ():
        found = jobs.find_version(conn, sequence, version)
        steps = found.steps if isinstance(found, d.Sequence) else ()
        for job in sorted({job for step in steps for job in step.jobs} & set(removed)):
            why = "which fails if it comes after the removal; apply when the run has ended"
            said.append(f"a run of {sequence} that is under way has {job} in a step, {why}")
    return list(dict.fromkeys(said))


def _with_state(wanted: d.Definitions, stored: Mapping[str, jobs.Stored]) -> tuple[d.Definitions, tuple[str, ...]]:
    """Return the definitions with the ``enabled`` of jobs that do not say it, and which of these stay disabled."""
    silent = [
        job_id for job_id, one in wanted.jobs.items() if job_id in stored and "enabled" not in one.model_fields_set
    ]
    off = tuple(job_id for job_id in silent if not stored[job_id].enabled)
    kept = {job_id: wanted.jobs[job_id].model_copy(update={"enabled": False}) for job_id in off}
    return replace(wanted, jobs={**wanted.jobs, **kept}), off


def _now_paused(conn: sa.Connection, applied: Applied) -> Applied:
    """Name the paused schedules as they are named after the change."""
    return applied._replace(kept=applied.kept._replace(paused=_paused(conn, applied.wanted, ())[0]))


def _paused(conn: sa.Connection, wanted: d.Definitions, changed: Collection[str]) -> tuple[_Pairs, _Pairs]:
    """Return the paused schedules that stay, by the names that they get, and those that go, by their present names.

    ``changed``: the jobs whose stored definitions are not the wanted ones yet.
    """
    found = [(job_id, name) for job_id, name in schedules.paused(conn) if job_id in wanted.jobs]
    doubtful = {job_id for job_id, _ in found if job_id in changed}
    names = {job_id: schedules.next_names(conn, job_id, wanted.jobs[job_id]) for job_id in doubtful}
    after = [(job_id, name, names[job_id].get(name) if job_id in names else name) for job_id, name in found]
    stays = tuple((job_id, new) for job_id, _, new in after if new is not None)
    return stays, tuple((job_id, name) for job_id, name, new in after if new is None)


def _comparable(body: Mapping[str, Any], enabled: bool) -> dict[str, Any]:
    return {**body} | ({} if enabled else {"enabled": False})


def put(
    db: Database,
    by: Caller,
    job_id: str,
    body: Mapping[str, Any],
    *,
    if_match: str | None = None,
    if_absent: bool = False,
) -> Written:
    """Create or change one job.

    ``body`` is the content of a definition file under the job's id. Without ``enabled``, the job keeps its value.
    May be repeated: the same body makes no new version.

    Args:
        if_match: ETags, one of which must be the job's, or ``*`` for any.
        if_absent: create the job only if it does not exist.

    Raises:
        DefinitionError: the definition cannot be used.
        Forbidden: the job has, had or would get a category that the caller may not touch.
        Outdated: ``if_match`` or ``if_absent`` does not hold.
        Refused: runs of the job wait for a hold of the category that it would leave.
    """
    try:
        read_id(job_id)
    except ValueError as error:
        raise d.DefinitionError([d.Problem(f"its id {error}")]) from None

    # Read before the transaction, too, because a large definition takes long; see ``apply``.
    seen, planned = db.query(lambda conn: (jobs.state(conn), _put(conn, by, job_id, body)), retry_for=by.retry_for)

    def work(conn: sa.Connection) -> Written:
        jobs.lock(conn, [job_id])
        now = planned if jobs.state(conn) == seen else _put(conn, by, job_id, body)
        # A new job would take over the runs and versions of a deleted one with its id.
        former = jobs.last_body(conn, job_id) if now.old is None and by.categories is not None else None
        taken = now.taken or (former is not None and not by.sees(former.get("category")))
        if not by.sees(now.definition.category):
            raise Forbidden(f"The key '{by.name}' may only define jobs of {', '.join(by.categories or ())}.")
        # Checked after the definition: a condition counts only for a request that is valid without it.
        _match(if_match, None if taken else now.old, job_id, if_absent)
        if taken:  # checked last, so that what creates no job tells no more than of an id that does not exist
            raise Forbidden(f"The key '{by.name}' may not define a job with the id '{job_id}'; choose another id.")
        schedules.put(conn, job_id, now.definition, by.name)
        return Written(visible_job(conn, by, job_id), now.old is None)

    return transact(db, by, work)


class _Put(NamedTuple):
    """A definition to put. ``old``: the job with its id; ``taken``: the caller may not see a job with that id."""

    definition: d.AnyJob
    old: jobs.Stored | None
    taken: bool


def _put(conn: sa.Connection, by: Caller, job_id: str, body: Mapping[str, Any]) -> _Put:
    stored = jobs.load_all(conn)
    old = next((job for job in stored if job.id == job_id), None)
    hidden = {job.id.lower() for job in stored if not by.sees(job.category)}
    taken = job_id.lower() in hidden
    # A job that is taken is refused in the end; until then it does not exist.
    others = [job for job in stored if by.sees(job.category)] if taken else stored
    return _Put(checked(by, others, job_id, _with_enabled(body, None if taken else old)), old, taken)


def _with_enabled(body: Mapping[str, Any], old: jobs.Stored | None) -> dict[str, Any]:
    return dict(body) if old is None else {"enabled": old.enabled, **body}


def delete(db: Database, by: Caller, job_id: str, *, if_match: str | None = None) -> None:
    """Delete a job and its schedules. Its history stays, and its waiting and running runs continue.

    A second call finds no job.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Refused: a sequence runs it, another job starts after it, or its runs wait for a hold of its category.
        Outdated: ``if_match`` does not hold.
    """

    def work(conn: sa.Connection) -> None:
        jobs.lock(conn, [job_id])
        _match(if_match, visible_job(conn, by, job_id), job_id)
        schedules.remove(conn, job_id, by.name, by.sees)

    transact(db, by, work)


def enable(db: Database, by: Caller, job_id: str) -> jobs.Stored:
    """Allow starts of a job again. Returns the job. May be repeated.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
    """
    return _switch(db, by, job_id, True)


def disable(db: Database, by: Caller, job_id: str) -> jobs.Stored:
    """Refuse all starts of a job. Its active runs continue. Returns the job. May be repeated.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
    """
    return _switch(db, by, job_id, False)


def _switch(db: Database, by: Caller, job_id: str, enabled: bool) -> jobs.Stored:
    def work(conn: sa.Connection) -> jobs.Stored:
        visible_job(conn, by, job_id)
        jobs.enable(conn, job_id, enabled, by.name)
        return visible_job(conn, by, job_id)

    return transact(db, by, work)


def etag(stored: jobs.Stored) -> str:
    """Return the job's ETag: its version, and whether it is disabled. Disabling a job creates no new version."""
    return f'"{stored.version}"' if stored.enabled else f'"{stored.version}-disabled"'


def _match(wanted: str | None, stored: jobs.Stored | None, job_id: str, if_absent: bool = False) -> None:
    """Check that one ETag of a list is the job's, or that there is no such job. ``*`` matches any existing job."""
    if if_absent and stored is not None:
        raise Outdated(f"Job '{job_id}' already exists with version {stored.version}.")
    if wanted is None:
        return
    # Proxies that compress an answer mark its tag: nginx as W/"1", Apache as "1-gzip" or "1-br".
    tags = [re.sub(r'-(gzip|br|zstd)"$', '"', tag.strip().removeprefix("W/")) for tag in wanted.split(",")]
    if stored is None or not ("*" in tags or etag(stored) in tags):
        present = "it does not exist" if stored is None else f"its ETag is {etag(stored)}"
        raise Outdated(f"Job '{job_id}' is not at {wanted}: {present}.")
