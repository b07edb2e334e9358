"""The client of the commands: over the database, or over the HTTP API for users without access to the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobfac.cli.client.protocol import Backend
from jobfac.cli.common import database, local_caller, settings

__all__ = ["Backend", "backend"]


@contextmanager
def backend() -> Iterator[Backend]:
    """Open the API if ``JOBFAC_API_URL`` is set, otherwise the database."""
    loaded = settings()
    if loaded.api_url:
        from jobfac.cli.client.remote import Remote

        with Remote(loaded.api_url, loaded.api_key) as remote:
            yield remote
    else:
        from jobfac.cli.client.local import Local

        with database() as db:
            yield Local(db, local_caller())
