"""A request to run a job."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FIRST = "first_step"
"""The key among the overrides of a sequence's run that names the step to begin with."""

CONTINUED = "continued_visit"
"""The key among the overrides of a sequence's run that names an earlier visit. The first visit of the step takes over
the jobs that succeeded in it. Only a retry from the failed step has this key."""

WRITTEN = 8 * 1024 * 1024
"""Characters of texts, such as payloads, that one transaction writes for equal starts. On SQLite it delays the
heartbeats of the whole fleet: 100 payloads of 4 MB took ten seconds."""


def numbered_keys(key: str, numbers: Iterable[int]) -> list[str]:
    """Return the start keys of equal runs that are started with one key, in the database or over HTTP."""
    common = hashlib.sha256(key.encode()).hexdigest()
    return [f"many-{common}-{number}" for number in numbers]


@dataclass(frozen=True)
class StartRequest:
    """A request to run a job.

    Attributes:
        delay: seconds from now until the run is ready.
        at: the aware time at which the run is ready, as an alternative to ``delay``.
        key: makes the start idempotent: the same key of the same job always gives the same run.
        is_known: the key alone identifies the start, because the sender has signed it; other differences do not count.
        overrides: per-run overrides: ``arguments`` and ``payloads`` by job for a sequence, and ``notify`` as in a
            definition.
        parameters: values for the job's parameters; the others have their defaults.
        written: parameters, arguments and payload as a step of a sequence says them, with its placeholders, for
            ``fingerprint``; None: they are as given.
        origin: what started the run, for placeholders: ``due`` (a time with the offset of the zone that counts), a
            file's ``path``, ``name`` and ``size``, or a ``run`` with its outputs.
        is_template: arguments, payload and parameters are texts of a definition, whose placeholders are filled in.
        with_values: the places of arguments that hold values of parameters or outputs. None may be text of a program.
        manual: a person or a program starts the run, which ``on_demand`` may forbid. False for schedules and sequences.
        categories: inside a sequence the request may pass values only to jobs of these categories; None: to all.
        queues: where ``already_running`` is ``deny`` or ``replace``, the run queues as with ``queue``, with a lower
            priority: it is one of several that catch up.
        at_most: how many runs of this kind, a backfill of the job, may run at a time; None: as the definition says.
        item: with ``for_each``, the place of its values among those of the visit.
        lineage: for a retry, the first run of the retries that led to it, and those of the sequences around that.
        for_worker: the name of the only worker that may take the run; None: as the definition says.
        inherited_events: the subscribed events that a job of a sequence inherits from the sequence.
    """

    job: str
    by: str
    arguments: Sequence[str] | None = None
    payload: str | None = None
    priority: int | None = None
    delay: float | None = None
    at: datetime | None = None
    key: str | None = None
    is_known: bool = False
    overrides: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] | None = None
    written: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None
    is_template: bool = False
    with_values: Sequence[int] = ()
    manual: bool = True
    categories: Sequence[str] | None = None
    schedule_id: int | None = None
    due_at: datetime | None = None
    sequence_run_id: int | None = None
    visit_id: int | None = None
    queues: bool = False
    at_most: int | None = None
    item: int | None = None
    inherited_events: str | None = None
    retry_of: int | None = None
    lineage: Sequence[int] = ()
    for_worker: str | None = None

    def together(self, most: int) -> int:
        """Return how many of ``most`` starts like this one may be in one transaction; at least one."""
        texts = [*(self.arguments or ()), self.payload or "", json.dumps(self.overrides or {}, ensure_ascii=False)]
        return min(most, max(1, WRITTEN // sum(map(len, texts))))

    @property
    def locks(self) -> set[str]:
        """The named locks that keep apart starts with the same key, and retries that repeat the same.

        A retry takes also the locks of the sequences around its run, because a retry of them repeats the run, too.

        The lock of a key is a hash of job and key. The procedure ``start_job`` uses the same name. Keys that the
        database treats as equal (it ignores case and trailing blanks) have the same lock.
        """
        names = {f"jobfac:retry:{first}" for first in self.lineage}
        if self.key is not None:
            text = f"{self.job.lower()}/{self.key.lower().rstrip(' ')}"
            digest = hashlib.sha256(text.encode("utf-16-le", "surrogatepass")).hexdigest().upper()
            names.add(f"jobfac:start:{digest}")
        return names
