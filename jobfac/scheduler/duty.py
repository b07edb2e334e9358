"""A duty of the scheduler, and its metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from jobfac.scheduler.poll import Poll
from jobfac.telemetry.metrics import Kind


@dataclass
class Duty:
    """A duty of the scheduler.

    Attributes:
        has_work: whether a poll shows work for it.
        work: one turn. Returns the seconds until the next turn may begin.
        not_before: when the next turn may begin, in monotonic seconds.
        is_urgent: whether somebody waits for it. Otherwise, if its turn fails, others have nine tenths of the time.
        prompt: whether the scheduler polls again as soon as the next turn may begin, and not at its usual time.
        last: when the last turn began, in seconds since 1970.
        took: the seconds of the last turn.
        failures: the number of turns that failed.
        idle_turns: the number of turns in a row that had work and did none.
    """

    name: str
    has_work: Callable[[Poll], bool]
    work: Callable[[], float]
    not_before: float = 0.0
    prompt: bool = True
    is_urgent: bool = True
    last: float = 0.0
    took: float = 0.0
    failures: int = 0
    idle_turns: int = 0


DUTY_METRICS: tuple[tuple[Kind, str, str, str], ...] = (
    ("gauge", "last_timestamp_seconds", "last", "When its last turn began; 0: not yet"),
    ("gauge", "last_seconds", "took", "How long its last turn took"),
    ("counter", "failures", "failures", "Turns that failed"),
)
"""The kind, name, field and help of the metrics of each duty."""
