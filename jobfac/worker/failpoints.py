"""Numbered crash points: places where a worker may die or freeze, each of which a test makes it do so at.

Without the variables this costs one comparison. The name of the point says what has just happened.
"""

import os
import signal

POINTS = (
    "gathered",  # outcomes are at hand, the transaction has not begun
    "turn_began",  # inside the transaction, nothing written
    "outcomes_written",  # inside the transaction
    "claimed_uncommitted",  # inside the transaction
    "committed",  # outcomes and claims are durable, nothing is started
    "guardian_told",  # before the first program of the turn is started
    "spawned",  # a program runs, the guardian does not know its number yet
    "started",  # all programs of the turn run
    "exited",  # a program has ended, nobody knows
)

_SIGNAL = signal.SIGKILL if "JOBFAC_CRASH_AT" in os.environ else signal.SIGSTOP
_WANTED, _, _TIMES = os.environ.get("JOBFAC_CRASH_AT", os.environ.get("JOBFAC_FREEZE_AT", "")).partition(":")
_left = int(_TIMES or 1)


def failpoint(point: str) -> None:
    """Die here, as by ``kill -9``, if ``JOBFAC_CRASH_AT`` is ``point``, or ``point:N`` at the N-th time.

    With ``JOBFAC_FREEZE_AT`` the process is stopped here instead, until somebody continues it.
    """
    global _left
    if point == _WANTED:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _SIGNAL)
