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
    """What the result that a program reported means, and the reason to show, with the program's own message.

    A result that is neither `succeeded` nor `failed` is a failure: it was perhaps meant as one.
    """
    if result == "succeeded":
        return RunState.SUCCEEDED, None
    if result == "failed":
        return RunState.FAILED, "the program reported failure" + (f": {message}" if message else "")
    return RunState.FAILED, f"the program reported the result '{result}', which is neither succeeded nor failed"


def with_remarks(
    state: RunState, reason: str | None, incomplete: str | None, refused: str | None, aware: bool
) -> tuple[RunState, str | None]:
    """The state and the reason, with what the worker did not take of the program's report.

    Args:
        incomplete: why a part of the report was not read; then the success of an ``aware`` job is a failure, since the
            part may have said so.
        refused: why outputs were refused.
    """
    if incomplete is not None and aware and state == RunState.SUCCEEDED:
        state = RunState.FAILED
    return state, "; ".join(part for part in (reason, incomplete, refused) if part) or None


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number itself for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
