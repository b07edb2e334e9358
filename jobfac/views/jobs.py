"""The views of a job, its versions and changes, and of an overdue job."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.states import JobKind


class JobView(NamedTuple):
    """The current version of a job. ``definition`` omits default values.

    ``unreadable``: why this version of jobfac cannot read the definition, which is then shown as it is stored.
    """

    id: str
    kind: JobKind
    version: int
    enabled: bool
    category: str | None
    queue: str
    definition: dict[str, Any]
    unreadable: str | None = None


class VersionView(NamedTuple):
    """A version of a job's definition, as it was stored. ``current``: it is in force."""

    job: str
    version: int
    current: bool
    created_at: datetime
    created_by: str
    definition: dict[str, Any]


class ListedVersionView(NamedTuple):
    """A version in a list. ``truncated``: contains ``definition`` if that is null because it is larger than 4 KiB;
    ``GET /v1/jobs/{job}/versions/{version}`` returns it."""

    job: str
    version: int
    current: bool
    created_at: datetime
    created_by: str
    definition: dict[str, Any] | None
    truncated: list[str]


class ChangeView(NamedTuple):
    """A value that differs between two versions. Null stands for a value that is not given: the default holds."""

    path: str
    before: Any
    after: Any


class OverdueView(NamedTuple):
    """A job that has not succeeded in time. ``due_at``: when it should have; ``since``: its success had to be later."""

    job: str
    due_at: datetime
    overdue_at: datetime
    since: datetime
