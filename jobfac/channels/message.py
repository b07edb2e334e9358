"""The message that every channel sends, and the error that every channel raises."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jobfac.errors import JobfacError


class DeliveryError(JobfacError):
    """As far as is known, a message did not arrive. The text gives the reason and contains no secret."""


class Message(NamedTuple):
    """One notification.

    ``id`` stays the same when the same notification is sent again. ``body`` is the run as it was, as a JSON object,
    with ``event`` and ``detail``. ``output`` is the end of the program's output.
    """

    id: str
    event: str
    body: Mapping[str, Any]
    output: str = ""
