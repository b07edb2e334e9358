"""URLs that start a job: create and revoke them, and start by one."""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from jobfac.control_characters import check_name
from jobfac.database.engine import Database
from jobfac.definitions.triggers.call import PER_MINUTE, Call
from jobfac.errors import LIST_URLS, Invalid, NotFound, Refused
from jobfac.operations import starting
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.store.runs import StartRequest
from jobfac.store.triggers import start_urls
from jobfac.store.triggers.start_urls import Delivery, NewUrl, StartUrl
from jobfac.views.runs import RunView

NO_DELIVERY = Delivery()
"""A request that cannot be recognised if it is repeated."""


class TooManyStarts(Refused):
    """A URL has started as many runs in this minute as its job allows. ``seconds``: how long to wait."""

    def __init__(self, url: StartUrl, most: int) -> None:
        self.seconds = int(url.wait or start_urls.WINDOW) + 1
        super().__init__(
            f"URL {url.id} of job '{url.job}' allows {most:,} starts in a minute (call.most_per_minute); wait "
            f"{self.seconds} s."
        )


def create(db: Database, by: Caller, job: str, name: str) -> NewUrl:
    """Create a URL that starts the job. Returns its token, which cannot be shown again.

    Each call creates a URL, so the caller must not repeat it.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Refused: the job may not be started on demand.
        Invalid: the name has control characters.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise Invalid(f"The name of a URL {error}.") from None

    def work(conn: sa.Connection) -> NewUrl:
        stored = visible_job(conn, by, job)
        if not stored.definition.on_demand:
            raise Refused(f"Job '{job}' may not be started on demand: its definition says on_demand: false.")
        return start_urls.create(conn, stored.id, name, by.name, by.categories)

    return transact(db, by, work)


def address(base: str, url: NewUrl) -> str:
    """Return the whole URL. ``base``: where the API is reached, such as https://jobs.example.org."""
    return f"{base.rstrip('/')}/v1/call/{url.token}"


def revoke(db: Database, by: Caller, job: str, url_id: int | None = None) -> list[int]:
    """Revoke a URL of a job immediately; without an id all of them. Returns the ids of those that were revoked now.

    A second call with an id finds no URL.

    Raises:
        NotFound: there is no such job, or no such URL of it that is not revoked.
    """

    def work(conn: sa.Connection) -> list[int]:
        stored = visible_job(conn, by, job)
        found = start_urls.revoke(conn, stored.id, by.name, url_id)
        if url_id is not None and not found:
            raise NotFound(f"Job '{job}' has no active URL {url_id}; {{way}} shows its URLs.", LIST_URLS)
        return found

    return transact(db, by, work)


def start(
    db: Database, by: Caller, url: StartUrl, call: Call | None, parameters: dict[str, Any], payload: str | None,
    delivery: Delivery = NO_DELIVERY,
) -> RunView:  # fmt: skip
    """Start the job of a URL. Returns the run; of a job with ``each_worker`` the first one.

    May be repeated by the caller with a ``delivery``: the same delivery by the same URL gives the same run.

    Raises:
        TooManyStarts: the URL has started too many runs in this minute.
        NotFound, Refused, DefinitionError: as ``starting.start``; NotFound also if the URL was revoked just now.
    """
    most = PER_MINUTE if call is None else call.most_per_minute
    key = start_urls.key_of(url.id, delivery)
    if key is not None and delivery.body is not None:
        key = db.query(start_urls.repeated, url.job, url.id, delivery, key) or key
    request = StartRequest(
        job=url.job, by=by.name, payload=payload, parameters=parameters, key=key, is_known=delivery.is_signed
    )
    if url.starts >= most and not (request.key and db.query(start_urls.has_started, url.job, request.key)):
        # Without a transaction that writes: the caller may send thousands of requests more.
        raise TooManyStarts(url, most)

    def counted(conn: sa.Connection) -> None:
        if not start_urls.count(conn, url.id, most):
            raise TooManyStarts(url, most)
        first = start_urls.overtaken(conn, url.job, url.id, delivery, request.key or "")
        if first is not None:
            raise _Repeated(first)

    try:
        return starting.start(db, by, request, if_new=counted)[0]
    except _Repeated as found:
        return starting.start(db, by, replace(request, key=found.key), if_new=counted)[0]


class _Repeated(Exception):
    """Another request with the same body has started a run meanwhile, with this ``key``."""

    def __init__(self, key: str) -> None:
        self.key = key
