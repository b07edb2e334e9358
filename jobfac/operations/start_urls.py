"""URLs that start a job: create and revoke them, and start by one."""

import hashlib
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.definitions.triggers.call import PER_MINUTE, Call
from jobfac.errors import LIST_URLS, NotFound, Refused
from jobfac.operations import starting
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.store.runs import StartRequest
from jobfac.store.triggers import start_urls
from jobfac.store.triggers.start_urls import NewUrl, StartUrl
from jobfac.views.runs import RunView

KEY_LENGTH = 200
"""The maximum length of a start's key."""


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
    """

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
    delivery: str | None = None,
) -> RunView:  # fmt: skip
    """Start the job of a URL. Returns the run; of a job with ``each_worker`` the first one.

    May be repeated by the caller with a ``delivery``: the same delivery by the same URL gives the same run.

    Raises:
        TooManyStarts: the URL has started too many runs in this minute.
        NotFound, Refused, DefinitionError: as ``starting.start``; NotFound also if the URL was revoked just now.
    """
    most = PER_MINUTE if call is None else call.most_per_minute
    request = StartRequest(
        job=url.job,
        by=by.name,
        payload=payload,
        parameters=parameters,
        key=None if delivery is None else _key(url, delivery),
    )

    if url.starts >= most and not (request.key and db.query(start_urls.has_started, url.job, request.key)):
        # Without a transaction that writes: the caller may send thousands of requests more.
        raise TooManyStarts(url, most)

    def counted(conn: sa.Connection) -> None:
        if not start_urls.count(conn, url.id, most):
            raise TooManyStarts(url, most)

    return starting.start(db, by, request, if_new=counted)[0]


def _key(url: StartUrl, delivery: str) -> str:
    """Return the start key of a delivery. It includes the URL's id, so callers cannot take each other's keys."""
    key = f"url {url.id} {delivery}"
    return key if len(key) <= KEY_LENGTH else f"url {url.id} {hashlib.sha256(delivery.encode()).hexdigest()}"
