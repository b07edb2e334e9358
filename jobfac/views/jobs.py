"""The view of a job."""

from typing import Any, NamedTuple

from jobfac.states import JobKind


class JobView(NamedTuple):
    """The current version of a job. ``definition`` omits default values."""

    id: str
    kind: JobKind
    version: int
    enabled: bool
    category: str | None
    queue: str
    definition: dict[str, Any]
