"""Failpoints: named places in the code where a test can make a worker die, freeze or hang.

Without the environment variables a failpoint costs one comparison. Its name says what has just happened.
"""

import os
import signal
import threading
import time
from pathlib import Path

POINTS = (
    "gathered",  # no outcome is to be stored, the transaction has not begun
    "outcome_in_hand",  # outcomes are gathered, the transaction has not begun
    "turn_began",  # inside the transaction, nothing written
    "outcomes_written",  # inside the transaction
    "claimed_uncommitted",  # inside the transaction
    "committed",  # outcomes and claims are durable, nothing is started
    "guardian_notified",  # before the first program of the turn is started
    "spawned",  # a program runs, the guardian does not know its PID yet
    "started",  # all programs of the turn run
    "exited",  # a program has ended, its outcome is not gathered yet
)

_HANG = os.environ.get("JOBFAC_HANG_WHILE")
_SIGNAL = signal.SIGKILL if "JOBFAC_CRASH_AT" in os.environ else signal.SIGSTOP
_ENABLED, _, _TIMES = os.environ.get("JOBFAC_CRASH_AT", os.environ.get("JOBFAC_FREEZE_AT", "")).partition(":")
_left = int(_TIMES or 1)


def failpoint(point: str) -> None:
    """Kill this process with KILL if ``JOBFAC_CRASH_AT`` is ``point``, or at the N-th call if it is ``point:N``.

    ``JOBFAC_FREEZE_AT`` stops the process (STOP) instead, until it receives CONT. While there is a file
    ``JOBFAC_HANG_WHILE``, the thread hangs at the point ``started``, and the process's other threads go on.
    """
    global _left
    if _HANG is not None and point == "started":
        while Path(_HANG).exists():
            time.sleep(0.01)
    if point == _ENABLED:
        _left -= 1
        if _left == 0:
            signal.pthread_kill(threading.get_ident(), _SIGNAL)  # this thread does not go on while another one stops
