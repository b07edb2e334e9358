"""For job programs in Python: read the payload, report progress and results, react to a stop. Standard library only.

Outside jobfac, for example when started by hand, the program prints its reports instead. Programs in other languages
append JSON lines to the file named by ``JOBFAC_REPORT``, as this module does.

    from jobfac import job

    rows = load(job.payload())
    job.progress(0.5, "half way")
    job.outputs(rows=len(rows))
    job.exit(f"{len(rows)} rows")
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

_stopping = False


def run_id() -> int | None:
    """The run's id; None outside jobfac."""
    value = os.environ.get("JOBFAC_RUN_ID")
    return None if value is None else int(value)


def attempt() -> int:
    """The number of this attempt of the run, from 1."""
    return int(os.environ.get("JOBFAC_ATTEMPT", "1"))


def payload(default: str | None = None) -> str | None:
    """The payload of this run, or ``default`` if it has none.

    Raises:
        OSError: the payload's file cannot be read.
    """
    path = os.environ.get("JOBFAC_PAYLOAD_FILE")
    if path is not None:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read()
    return os.environ.get("JOBFAC_PAYLOAD", default)


def payload_json(default: Any = None) -> Any:
    """The payload parsed as JSON, or ``default`` if the run has none.

    Raises:
        ValueError: the payload is not JSON.
        OSError: the payload's file cannot be read.
    """
    text = payload()
    return default if text is None else json.loads(text)


def parameters() -> dict[str, Any]:
    """The values of the parameters by name; empty if the job declares none.

    Raises:
        OSError: the file of the parameters cannot be read.
    """
    path = os.environ.get("JOBFAC_PARAMETERS_FILE")
    if path is None:
        return {}
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
        found: dict[str, Any] = json.load(file)
    return found


def progress(fraction: float, message: str | None = None) -> None:
    """Report progress, from 0 to 1, with an optional message; both are shown live."""
    report = {"progress": round(float(fraction), 4)}
    _report(report if message is None else report | {"message": str(message)})


def message(text: str) -> None:
    """Report what the program is doing; the text is shown live."""
    _report({"message": str(text)})


def outputs(**values: Any) -> None:
    """Report results for later steps of a sequence and for readers of the run. Keep them small.

    They are added to earlier outputs.

    Raises:
        TypeError: a value cannot be written as JSON.
    """
    _report({"outputs": values})


def exit(text: str | None = None, *, result: str = "succeeded", code: int | None = None) -> NoReturn:
    """End the program with a result, ``succeeded`` or ``failed``, and a message for the run's history.

    ``code`` is the exit code, by default 0 or 1. The result counts only for a job that is defined as ``aware``.

    Raises:
        ValueError: the result is unknown.
        SystemExit: always; it ends the program.
    """
    if result not in ("succeeded", "failed"):
        raise ValueError(f"result must be 'succeeded' or 'failed', not {result!r}")
    report = {"result": result}
    _report(report if text is None else report | {"exit_message": str(text)})
    sys.exit((0 if result == "succeeded" else 1) if code is None else code)


def stopping() -> bool:
    """Whether jobfac requested a stop. It can be true only after a call of ``watch_stop`` or ``on_stop``."""
    return _stopping


def watch_stop() -> None:
    """Keep a stop request from ending the program: it must poll ``stopping()`` and end within the job's grace.

    Raises:
        ValueError: not called from the main thread.
    """
    on_stop(lambda: None)


def on_stop(callback: Callable[[], None]) -> None:
    """Call ``callback`` in the main thread when jobfac requests a stop (TERM). The program then has the job's grace.

    Raises:
        ValueError: not called from the main thread.
    """

    def handle(number: int, frame: object) -> None:
        global _stopping
        _stopping = True
        callback()

    signal.signal(signal.SIGTERM, handle)


def _report(report: dict[str, Any]) -> None:
    # A file name that is not UTF-8 has lone surrogates, which JSON takes as escapes only.
    line = json.dumps(report, ensure_ascii=False).encode(errors="backslashreplace")
    path = os.environ.get("JOBFAC_REPORT")
    if path is None:
        print(line.decode(), flush=True)
        return
    # One write in append mode keeps the lines of several processes of one job apart.
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123
        file.write(line + b"\n")
