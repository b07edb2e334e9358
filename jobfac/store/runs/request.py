"""A request to run a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class StartRequest:
    """A request to run a job. Times: ``delay`` in seconds from now, or ``at`` an aware instant.

    ``key`` makes the start idempotent: the same key of the same job gives the same run, however often it is requested.
    ``manual`` is a person's or a program's start, which ``on_demand`` may forbid; a schedule's or a sequence's is not.
    ``categories``: inside a sequence it may hand something only to jobs of these; None: to all.
    ``overrides``: a sequence's ``arguments`` and ``payloads`` by job, and for this run alone ``notify`` as in a
    definition. ``heard``: the events of which somebody wants to hear because of the sequence that this is a job of.
    """

    job: str
    by: str
    arguments: Sequence[str] | None = None
    payload: str | None = None
    priority: int | None = None
    delay: float | None = None
    at: datetime | None = None
    key: str | None = None
    overrides: Mapping[str, Any] | None = None
    manual: bool = True
    categories: Sequence[str] | None = None
    schedule_id: int | None = None
    due_at: datetime | None = None
    sequence_run_id: int | None = None
    visit_id: int | None = None
    heard: str | None = None
    retry_of: int | None = None
