"""What is sent, whichever way it goes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jobfac.errors import JobfacError


class DeliveryError(JobfacError):
    """A message did not arrive, as far as is known; the text says why, and names no secret."""


class Message(NamedTuple):
    """One notification. ``id`` is the same each time the same notification is sent; ``body``: the run as it was, as a
    JSON object, with ``event`` and ``detail``; ``output``: the end of what its program wrote."""

    id: str
    event: str
    body: Mapping[str, Any]
    output: str = ""
