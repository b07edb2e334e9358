"""Models of the responses about start URLs."""

from jobfac.api.models import Shown
from jobfac.states import RunState


class NewStartUrl(Shown):
    """``url``: a POST to it starts the job; it cannot be shown again."""

    id: int
    job: str
    name: str
    url: str


class RevokedUrls(Shown):
    """The ids of the URLs that were not revoked before."""

    revoked: list[int]


class Called(Shown):
    """The run that a call has started. ``id`` null: none, for the ``reason``."""

    id: int | None
    job: str
    state: RunState | None
    reason: str | None
