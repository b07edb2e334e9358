"""The message that every channel sends, and the error that every channel raises."""

from typing import NamedTuple

from jobfac.errors import JobfacError
from jobfac.views.notifications import Body


class DeliveryError(JobfacError):
    """As far as is known, a message did not arrive. The text gives the reason and contains no secret."""


class Message(NamedTuple):
    """One notification.

    ``id`` stays the same when the same notification is sent again. ``output`` is the end of the program's output.
    ``by_start``: a start has named the recipient, not a definition.
    """

    id: str
    event: str
    body: Body
    output: str = ""
    by_start: bool = False
