"""What the end of a program means for its run."""

import signal

from jobfac.definitions import Job
from jobfac.states import RunState


def judge(code: int | None, by_signal: int | None, job: Job) -> tuple[RunState, str | None]:
    """What an exit code or a signal means for this job, and the reason to show (None: plain success)."""
    if by_signal is not None:
        return RunState.FAILED, f"killed by signal {by_signal} ({signal_name(by_signal)})"
    if code in job.success_codes:
        return RunState.SUCCEEDED, None
    if code in job.warning_codes:
        return RunState.SUCCEEDED, f"exit code {code} (a warning)"
    return RunState.FAILED, f"exit code {code}"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number itself for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
