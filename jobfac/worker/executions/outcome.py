"""Derives the state of a run from the end of its program."""

import signal
from string import ascii_letters
from typing import Protocol

from jobfac.definitions import Job, write_duration
from jobfac.definitions.values import write_size
from jobfac.states import RunState
from jobfac.store.workers import Claimed
from jobfac.worker.executions.lifecycle import Cause

FIRST_DELAY, LONGEST_DELAY = 10.0, 300.0
"""Seconds until a further start of a run that could not become its user's program, the first time and at most."""


def judge(code: int | None, by_signal: int | None, job: Job) -> tuple[RunState, str | None]:
    """Return the state for an exit code or a signal, and the reason to show (None: plain success)."""
    if by_signal is not None:
        return RunState.FAILED, f"killed by signal {by_signal} ({signal_name(by_signal)})"
    if code in job.success_codes:
        return RunState.SUCCEEDED, None
    if code in job.warning_codes:
        return RunState.SUCCEEDED, f"exit code {code} (a warning)"
    return RunState.FAILED, f"exit code {code}"


def at_limit(cause: Cause, job: Job, excess: str | None) -> tuple[RunState, str | None]:
    """Return the state of a program that was ended at a limit, and the reason to show.

    Args:
        excess: how it has exceeded that of its files.
    """
    if cause == Cause.TOO_LARGE:
        return RunState.FAILED, excess
    if cause == Cause.SILENT:
        silence = write_duration(job.silent_timeout or 0)
        return RunState.TIMED_OUT, f"wrote nothing for its silent_timeout of {silence}"
    return RunState.TIMED_OUT, f"ran longer than its timeout of {write_duration(job.timeout or 0)}"


def out_of_memory(limit: int) -> str:
    """The reason of a run that was killed at its memory limit, in bytes."""
    written = str(write_size(limit))
    number = written.rstrip(ascii_letters)
    return f"out of memory (limit {number} {written[len(number) :] or 'bytes'})"


def judge_report(result: str, message: str | None) -> tuple[RunState, str | None]:
    """Return the state for the result that a program reported, and the reason to show, with the program's own message.

    Any result other than `succeeded` counts as a failure.
    """
    if result == "succeeded":
        return RunState.SUCCEEDED, None
    if result == "failed":
        return RunState.FAILED, "the program reported failure" + (f": {message}" if message else "")
    return RunState.FAILED, f"the program reported the result '{result}', which is neither succeeded nor failed"


class Remarks(Protocol):
    """What a report tells besides its result."""

    @property
    def exit_message(self) -> str | None:
        """The program's own message."""

    @property
    def incomplete(self) -> str | None:
        """Why a part was not read."""

    @property
    def refused(self) -> str | None:
        """Why outputs were refused."""


def with_remarks(
    state: RunState, reason: str | None, report: Remarks, aware: bool, in_vain: bool = False
) -> tuple[RunState, str | None]:
    """Return the state and the reason, extended by what the program's report tells.

    If a part of it was not read, the success of an ``aware`` job becomes a failure, because that part may have reported
    one.

    Args:
        in_vain: the program was ended, and has reported success nevertheless. It may have finished its work in its
            grace, so a person who repeats it has to know.
    """
    if report.incomplete is not None and aware and state == RunState.SUCCEEDED:
        state = RunState.FAILED
    said = None
    if in_vain:
        said = "its program has reported success" + (f": {report.exit_message}" if report.exit_message else "")
    return state, "; ".join(part for part in (reason, said, report.incomplete, report.refused) if part) or None


def start_delay(claimed: Claimed, chance: float) -> float:
    """Return for how many seconds to put off a run whose start as another user the machine has refused.

    The delay doubles with each such start. It is the run's alone: the limits of one user must not keep the worker from
    the runs of others, and that user could reach them on purpose. ``chance``: a random number from 0 to 1.
    """
    times = claimed.attempt - 1 - claimed.failures - (claimed.lost or 0)
    return min(FIRST_DELAY * 2.0 ** min(max(0, times), 10), LONGEST_DELAY) * (1 + 0.1 * chance)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL`` for 9; ``signal N`` if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
