"""Failpoints: named places in the code where a test can make a worker die or hang.

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

_CRASHES_AT, _, _TIMES = os.environ.get("JOBFAC_CRASH_AT", "").partition(":")
_HANGS_AT = os.environ.get("JOBFAC_HANG_AT")
_left = int(_TIMES or 1)


def failpoint(point: str) -> None:
    """Kill this process with KILL if ``JOBFAC_CRASH_AT`` is ``point``, or at the N-th call if it is ``point:N``.

    At the point ``JOBFAC_HANG_AT`` the thread hangs while there is a file ``JOBFAC_HANG_WHILE``, and writes the point's
    name to it. The process's other threads go on.
    """
    global _left
    if point == _HANGS_AT:
        _hang(point, Path(os.environ["JOBFAC_HANG_WHILE"]))
    if point == _CRASHES_AT:
        _left -= 1
        if _left == 0:
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # this thread does nothing more


def _hang(point: str, file: Path) -> None:
    if file.exists():
        file.write_text(point, "utf-8")
    while file.exists():
        time.sleep(0.01)
