"""The versions of a job: history, difference, rollback, and the check of a new one."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.definitions.plan import differences
from jobfac.errors import Forbidden, NotFound, Refused, Way
from jobfac.operations.caller import Caller, Limits, transact, visible_job
from jobfac.store import audit, jobs, schedules
from jobfac.store.history import job_history
from jobfac.views.jobs import ChangeView, ListedVersionView, VersionView


def history(conn: sa.Connection, by: Limits, job_id: str) -> list[VersionView]:
    """Return the versions of a job, newest first.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
    """
    visible_job(conn, by, job_id)
    return jobs.versions(conn, job_id)


def page(conn: sa.Connection, by: Limits, job_id: str, limit: int, below: int | None) -> list[ListedVersionView]:
    """Return up to ``limit`` versions of a job, newest first, without large definitions. ``below``: only older ones.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
    """
    visible_job(conn, by, job_id)
    return job_history.listed(conn, job_id, limit, below)


def one(conn: sa.Connection, by: Limits, job_id: str, version: int) -> VersionView:
    """Return a version of a job.

    Raises:
        NotFound: there is no such job or version, or the caller may not see the job.
    """
    visible_job(conn, by, job_id)
    return _version(conn, job_id, version)


def _version(conn: sa.Connection, job_id: str, version: int) -> VersionView:
    found = jobs.versions(conn, job_id, only=version)
    wanted = next((one for one in found if one.version == version), None)
    if wanted is None:
        raise no_version(job_id, version)
    return wanted


def changes_since(conn: sa.Connection, job_id: str, version: int) -> list[ChangeView]:
    """Return what is different between a version of a job and its current version. Empty if the job is deleted."""
    found = {one.version: one for one in jobs.versions(conn, job_id, only=version)}
    current = next((one for one in found.values() if one.current), None)
    if current is None or version not in found:
        return []
    return difference(found[version], current)


def difference(before: VersionView, after: VersionView) -> list[ChangeView]:
    """Return the values that differ between two versions."""
    return [ChangeView(one.path, one.before, one.after) for one in differences(before.definition, after.definition)]


def rollback(db: Database, by: Caller, job_id: str, version: int) -> jobs.Stored:
    """Make an earlier version of a job the current one again, as a new version. Returns the job.

    Whether the job is enabled, and which of its schedules are paused, stays as it is. If one is paused, so are those
    that the job did not have. May be repeated: a second call makes no new version.

    Raises:
        NotFound: there is no such job or version, or the caller may not see the job.
        Refused: the version no longer fits the other jobs, this version of jobfac cannot read it, or runs of the job
            wait for a hold of the category that it would leave.
        Forbidden: the version has a category that the caller may not touch.
    """

    def work(conn: sa.Connection) -> jobs.Stored:
        jobs.lock(conn, [job_id])
        before = visible_job(conn, by, job_id)
        wanted = _version(conn, job_id, version)
        definition = _checked(conn, by, wanted, before.enabled)
        if not by.sees(definition.category):
            raise Forbidden(f"The key '{by.name}' may only define jobs of {', '.join(by.categories or ())}.")
        kept = set(schedules.next_names(conn, job_id, definition).values())  # it also locks the schedules
        is_paused = any(one.paused for one in schedules.list_schedules(conn, job_id))
        schedules.put(conn, job_id, definition, by.name)
        after = visible_job(conn, by, job_id)
        if after.version != before.version:
            if is_paused:  # one that is new may be the one that somebody has paused, under another name
                for name in set(definition.schedule_names()) - kept:
                    schedules.pause(conn, job_id, name, by.name)
            audit.note(conn, by.name, "rollback", job_id, f"version {before.version}", f"version {version}")
        return after

    return transact(db, by, work)


def _checked(conn: sa.Connection, by: Caller, wanted: VersionView, enabled: bool) -> d.AnyJob:
    """Return the definition of a version, checked against the other jobs as they are now."""
    try:
        return checked(by, jobs.load_all(conn), wanted.job, {**wanted.definition, "enabled": enabled})
    except d.DefinitionError as error:
        raise Refused(f"Version {wanted.version} of job '{wanted.job}' no longer fits: {error}") from None


def checked(by: Caller, others: Sequence[jobs.Stored], job_id: str, body: Mapping[str, Any]) -> d.AnyJob:
    """Return the definition of a job, checked against the other jobs.

    Jobs that a limited key cannot see do not exist for its sequences, but these must close no circle through them, nor
    take the place of a program to which they give arguments.

    Raises:
        DefinitionError: it cannot be used.
    """
    known = {job.id: job.body for job in others}
    seen = {job.id: job.body for job in others if by.sees(job.category)}
    definition = d.from_data({"jobs": {job_id: body}}, known=seen).jobs[job_id]
    if len(seen) < len(known):
        try:
            d.from_data({"jobs": {job_id: body}}, known=known)
        except d.DefinitionError:
            why = "it would start itself again, wait for itself, or not get what they give it"
            message = f"job '{job_id}' does not fit jobs that this key may not see: {why}"
            raise d.DefinitionError([d.Problem(message)]) from None
    return definition


def no_version(job_id: str, version: int) -> NotFound:
    """Return the error for a version that does not exist."""
    history = Way(f"`jobfac jobs history {job_id}`", f"`GET /v1/jobs/{job_id}/versions`")
    return NotFound(f"Job '{job_id}' has no version {version}; {{way}} shows its versions.", history)
