"""Where the commands find jobfac: in the database, or behind an API for people without access to the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobfac.cli.client.protocol import Backend
from jobfac.cli.common import database, local_caller, settings

__all__ = ["Backend", "backend"]


@contextmanager
def backend() -> Iterator[Backend]:
    """The API if ``JOBFAC_API_URL`` is set, else the database."""
    found = settings()
    if found.api_url:
        from jobfac.cli.client.remote import Remote

        with Remote(found.api_url, found.api_key) as remote:
            yield remote
    else:
        from jobfac.cli.client.local import Local

        with database() as db:
            yield Local(db, local_caller())
