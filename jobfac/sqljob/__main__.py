"""``python -m jobfac.sqljob``: run the script, cancel it when a stop is requested, report the result."""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from jobfac import job
from jobfac.sqljob.request import read_parameters, read_request
from jobfac.sqljob.runner import Runner
from jobfac.sqljob.scripts import ScriptError
from jobfac.sqljob.writing import say

MESSAGE = 10_000
"""The maximum number of characters of a message. A worker skips very long lines of a report."""

LOOK = 0.2
"""Seconds between two attempts to cancel, and between two checks of a batch's timeout."""


def main() -> None:
    """Run until the script has ended. A first TERM or INT cancels; the process waits for the rollback."""
    stop_wanted = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop_wanted.set())
    try:
        runner = Runner(read_request(), read_parameters())
    except (ScriptError, OSError, ValueError) as error:
        say(str(error), error=True)
        job.exit(str(error), result="failed")
    threading.Thread(target=runner.run, daemon=True).start()
    while not runner.done.wait(LOOK):
        if stop_wanted.is_set():
            _stop(runner)
        if runner.cancel_late() and not runner.can_cancel:
            _leave(1, runner.give_up_late())
    say_ended(runner)


def _stop(runner: Runner) -> None:
    if not runner.can_cancel:
        sentence = f"stopped: {runner.cannot_cancel}"
        say(sentence, error=True)
        _leave(1, sentence)
    runner.stop()


def say_ended(runner: Runner) -> None:
    """Report the result and end the process, even if threads of the driver still run."""
    ended = runner.ended
    _leave(0 if ended.succeeded else 1, ended.message)


def _leave(code: int, message: str) -> NoReturn:
    with suppress(SystemExit, OSError):  # without a report, as on a full disk, the exit code counts
        job.exit(message[:MESSAGE], result="succeeded" if code == 0 else "failed")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
