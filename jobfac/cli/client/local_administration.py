"""Administration over the database. Modules that other commands do not need are imported where they are used."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jobfac.cli.client.values import MadeReport, ReportRequest
from jobfac.cli.common import settings
from jobfac.database.engine import Database
from jobfac.operations.caller import Caller

if TYPE_CHECKING:
    from jobfac.doctor import Finding
    from jobfac.reports import Facts
    from jobfac.states import Delivery
    from jobfac.store.api_keys import Created, Role
    from jobfac.views.keys import KeyView, StartUrlView
    from jobfac.views.notifications import NotificationView
    from jobfac.views.results.plans import AppliedView


class LocalAdministration:
    """What administrators do, over the database."""

    def __init__(self, db: Database, by: Caller) -> None:
        self._db = db
        self._by = by

    def keys(self) -> "list[KeyView]":
        """Return all API keys, without their secrets."""
        from jobfac.store import api_keys

        return self._db.query(api_keys.list_keys)

    def create_key(
        self, name: str, role: "Role", categories: Sequence[str] | None, lifetime: float | None
    ) -> "Created":
        """Create a key. ``lifetime``: seconds; None: it never expires."""
        from jobfac.operations import keys

        return keys.create(self._db, self._by, name, role, categories=categories, lifetime=lifetime)

    def revoke_key(self, key_id: int) -> None:
        """Revoke a key immediately."""
        from jobfac.operations import keys

        keys.revoke(self._db, self._by, key_id)

    def start_urls(self, job: str) -> "list[StartUrlView]":
        """Return the start URLs of a job, without their tokens."""
        from jobfac.operations.caller import visible_job
        from jobfac.store.triggers import start_urls

        return self._db.query(lambda conn: start_urls.of_job(conn, visible_job(conn, self._by, job).id))

    def create_start_url(self, job: str, name: str) -> dict[str, Any]:
        """Create a start URL. Returns its ``id``, ``job``, ``name`` and ``url``."""
        from jobfac.operations import start_urls

        loaded = settings()
        scheme = "https" if loaded.api_tls_certificate else "http"
        base = loaded.public_url or f"{scheme}://{loaded.api_host}:{loaded.api_port}"
        made = start_urls.create(self._db, self._by, job, name)
        return {"id": made.id, "job": made.job, "name": made.name, "url": start_urls.address(base, made)}

    def revoke_start_url(self, job: str, url_id: int | None) -> list[int]:
        """Revoke a start URL; None: all of the job. Returns the ids of those that were revoked now."""
        from jobfac.operations import start_urls

        return start_urls.revoke(self._db, self._by, job, url_id)

    def notifications(self, state: "Delivery | None", limit: int) -> "list[NotificationView]":
        """Return notifications, newest first."""
        from jobfac.channels import shown
        from jobfac.store import outbox

        return self._db.query(outbox.find, shown, state, limit)

    def requeue(self, ids: Sequence[int] | None) -> list[int]:
        """Requeue dead notifications; None: all. Returns the ids of those that were dead."""
        from jobfac.operations import notifications

        return notifications.requeue(self._db, self._by, ids)

    def reports(self, names: Sequence[str], wanted: ReportRequest, spans: int | None) -> list[MadeReport]:
        """Make reports. ``spans``: `trend` has one row for each job, with this number of spans of days."""
        from jobfac.reports import REPORTS, job_history

        data = self._facts(wanted)
        as_history = spans is not None
        made = [
            job_history(data, spans or 1) if as_history and name == "trend" else REPORTS[name](data) for name in names
        ]
        return [MadeReport(one, data.filter_text) for one in made]

    def report_page(self, wanted: ReportRequest) -> str:
        """Make all reports as an HTML page."""
        from jobfac.reports import page

        return page(self._facts(wanted))

    def _facts(self, wanted: ReportRequest) -> "Facts":
        from jobfac.reports import facts, period

        self._db.check_schema()

        def read(conn: sa.Connection) -> "Facts":
            return facts(conn, period(conn, wanted.since, wanted.until), wanted.job, wanted.category)

        return self._db.query(read)

    def kept_by_purge(self) -> str | None:
        """Return how long a purge keeps what, in words, if the settings of this process decide it."""
        from jobfac.store.retention import Keep

        self._db.check_schema()
        keep = Keep.of(settings())
        ages = {"runs for": keep.age, "statistics for": keep.statistics, "the audit for": keep.audit}
        kept = ", ".join(f"{what} {age / 86400:,.4g} days" for what, age in ages.items())
        return kept if keep.count is None else f"{keep.count} runs of each job, {kept}"

    def purge(self) -> int:
        """Remove what is older than its retention. Returns the number of removed runs."""
        from jobfac.operations import retention
        from jobfac.store.retention import Keep

        return retention.purge(self._db, self._by, Keep.of(settings())).removed

    def doctor(self) -> "list[Finding]":
        """Check the database and the factory."""
        from jobfac.doctor import examine_database

        return examine_database(self._db)

    def apply(self, files: Sequence[Path], prune: bool, dry_run: bool) -> "AppliedView":
        """Apply files of definitions, or return what that would change.

        Raises:
            DefinitionError, Failure: the definitions cannot be used.
        """
        from jobfac import definitions as d
        from jobfac.operations import jobs

        act = jobs.plan if dry_run else jobs.apply
        return act(self._db, self._by, d.reader(*files), prune=prune).view()
