"""The client of the commands: over the database, or over the HTTP API for users without access to the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from jobfac.cli.common import database, local_caller, settings

if TYPE_CHECKING:
    from jobfac.cli.client.local import Local
    from jobfac.cli.client.remote import Remote

Backend: TypeAlias = "Local | Remote"
"""The operations and queries of the commands. Both clients have the same methods, which return the same views.

They raise ``NotFound``, ``Refused``, ``DefinitionError`` and ``Unreachable`` as the operations. The client over the API
raises ``Failure`` if a request is refused for another reason.
"""


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
