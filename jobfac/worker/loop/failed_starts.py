"""Compares the starts that fail on this machine with those of other workers. Pure decisions.

A start that fails takes no time and leaves its slots free. So a machine that lacks what a job needs, such as a drive, a
program or a user, would claim most runs of the fleet, and fail them. If several starts in a row fail, the worker claims
slowly for a few seconds, so that others can show whether they start such runs. If one does, this machine is at fault.
If none does, the job is, and its runs fail at full speed, because other runs wait behind them.
"""

from typing import NamedTuple

ENOUGH = 3
"""So many failed starts in a row raise the doubt whether this machine is at fault."""

DOUBT = 3.0
"""Seconds for which the worker claims slowly."""

PACE = 0.1
"""Seconds between two claims, each of one run, while it does."""

CALM = 60.0
"""Seconds from one doubt that was not confirmed to the next one at the earliest."""

ASK_AGAIN = 1.0
"""Seconds from one question about other workers to the next one, after the doubt."""

LOOK_BACK = 60.0
"""Seconds in which other workers are looked at, at most."""

BEFORE = 2.0
"""A start on another worker counts if it began at most so many seconds before the first one that failed here."""


class FailedStart(NamedTuple):
    """A start that failed: of which job, by which version of its definition, and why."""

    job: str
    version: int
    reason: str


class FailedStarts:
    """The starts that failed in a row on this machine. Only the worker's loop uses it. Times are monotonic seconds.

    Attributes:
        elsewhere: the worker that has started what fails here; None: none is known.
    """

    def __init__(self) -> None:
        self.elsewhere: str | None = None
        self._last: FailedStart | None = None
        self._number = 0
        self._since = self._at = 0.0  # of the first and of the last one
        self._doubt_until = float("-inf")
        self._ask_at = 0.0
        self._is_asked = True  # nothing has failed since the last question
        self._claim_at: float | None = None  # until when nothing is claimed

    def add(self, start: FailedStart, now: float) -> None:
        """Record a start that failed."""
        if self._number == 0:
            self._since = now
        self._number += 1
        self._last, self._at = start, now
        self._is_asked = False
        if self._number >= ENOUGH and now > self._doubt_until + CALM:
            self._doubt_until = now + DOUBT
        if self._is_doubtful(now):
            self._claim_at = now + PACE

    def begun(self, at: float) -> bool:
        """Record that a program has begun at this time. Returns whether that shows anything: since the last failed
        start nothing is known of one that began before it."""
        if at < self._at:
            return False
        self.elsewhere, self._number = None, 0
        return True

    def most(self, most: int, now: float) -> int:
        """Return how many of up to ``most`` runs may be claimed."""
        if not self._is_doubtful(now):
            return most
        return min(most, 1) if self._claim_at is None else 0

    def _is_doubtful(self, now: float) -> bool:
        return self._number >= ENOUGH and now < self._doubt_until

    @property
    def wakes_at(self) -> float | None:
        """When the next run may be claimed; None: now."""
        return self._claim_at

    def goes_on(self, now: float) -> bool:
        """Whether a pause between two claims has just ended."""
        ends = self._claim_at is not None and now >= self._claim_at
        self._claim_at = None if ends else self._claim_at
        return ends

    def to_ask(self, now: float) -> tuple[FailedStart, float] | None:
        """Return the start of which to ask whether others begin such ones, and in the last how many seconds. None: do
        not ask now."""
        is_due = self._number >= ENOUGH and not self._is_asked and (self._is_doubtful(now) or now >= self._ask_at)
        if not is_due or self._last is None or self.elsewhere is not None:
            return None
        self._ask_at, self._is_asked = now + ASK_AGAIN, True
        return self._last, min(now - self._since + BEFORE, LOOK_BACK)

    def sentence(self) -> str:
        """Return why this machine is at fault."""
        assert self._last is not None
        return (
            f"the last {self._number} starts failed here, while {self.elsewhere} starts such runs; "
            f"the last one, of {self._last.job}: {self._last.reason}"
        )
