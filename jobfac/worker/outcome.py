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


def judge_report(result: str, message: str | None) -> tuple[RunState, str | None]:
    """What the result that a program reported means, and the reason to show, with what the program said of it. A result
    that is neither of the two is a failure, as in Python's `job.exit`: it was perhaps meant as one."""
    if result == "succeeded":
        return RunState.SUCCEEDED, None
    if result == "failed":
        return RunState.FAILED, "the program reported failure" + (f": {message}" if message else "")
    return RunState.FAILED, f"the program reported the result '{result}', which is neither succeeded nor failed"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number itself for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
