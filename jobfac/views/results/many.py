"""The view of what an operation on many runs does to one of them."""

from enum import StrEnum
from typing import NamedTuple

from jobfac.states import HELD, JobKind, RunState


class Result(StrEnum):
    """What happened to a run, or, in a dry run, what would happen."""

    CHOSEN = "chosen"  # a dry run: it would be done
    DONE = "done"
    SKIPPED = "skipped"  # there is nothing to do, or it must not be done
    REFUSED = "refused"


class ManyView(NamedTuple):
    """One of many runs.

    Attributes:
        state: before the operation.
        new_run: the run that a retry started.
        reason: why it was skipped or refused, or that its stop takes a while.
        sequence_run_id: the sequence run that started it.
    """

    id: int
    job: str
    state: RunState
    result: Result
    new_run: int | None
    reason: str | None
    kind: JobKind | None = None
    sequence_run_id: int | None = None

    @property
    def stop_order(self) -> tuple[int, int]:
        """What many runs are sorted by before they are stopped.

        What waits is stopped first, so that the end of what runs does not start it. What a sequence has started comes
        after the sequence, which would go on to its next step otherwise; outer sequences have smaller ids.
        """
        if self.state in HELD:
            return (1 if self.kind == JobKind.SEQUENCE else 3), self.id
        return (0 if self.sequence_run_id is None else 2), self.id
