"""What is shown of a job."""

from typing import Any, NamedTuple

from jobfac.states import JobKind


class JobView(NamedTuple):
    """A job as it is in force. ``definition`` leaves defaults out."""

    id: str
    kind: JobKind
    version: int
    enabled: bool
    category: str | None
    queue: str
    definition: dict[str, Any]
