"""For job programs in Python: read the payload, report progress and results, notice a stop. Standard library only.

The same program runs by hand, outside the factory; then it prints what it would have reported. Programs in other
languages append JSON lines to the file named by ``JOBFAC_REPORT``; this module does nothing else.

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
    """The run's id, None outside the factory."""
    value = os.environ.get("JOBFAC_RUN_ID")
    return None if value is None else int(value)


def attempt() -> int:
    """Which execution of the run this is, from 1."""
    return int(os.environ.get("JOBFAC_ATTEMPT", "1"))


def payload(default: str | None = None) -> str | None:
    """The text handed to this run, or ``default``.

    Raises:
        OSError: the payload's file cannot be read.
    """
    path = os.environ.get("JOBFAC_PAYLOAD_FILE")
    if path is not None:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read()
    return os.environ.get("JOBFAC_PAYLOAD", default)


def payload_json(default: Any = None) -> Any:
    """The payload read as JSON, or ``default`` if there is none.

    Raises:
        ValueError: it is not JSON.
    """
    text = payload()
    return default if text is None else json.loads(text)


def progress(fraction: float, message: str | None = None) -> None:
    """How far the program is, 0 to 1, and a word about it; shown live."""
    report = {"progress": round(float(fraction), 4)}
    _report(report if message is None else report | {"message": str(message)})


def message(text: str) -> None:
    """A word about what the program is doing; shown live."""
    _report({"message": str(text)})


def outputs(**values: Any) -> None:
    """Results for later steps of a sequence, and for whoever reads the run; small, JSON-able, added to earlier ones.

    Raises:
        TypeError: a value is not JSON-able.
    """
    _report({"outputs": values})


def exit(text: str | None = None, *, result: str = "succeeded", code: int | None = None) -> NoReturn:
    """End the program with a result, ``succeeded`` or ``failed``, and a message that stands in the run's history.

    ``code`` is the exit code, by default 0 or 1; the result counts for a job that is defined as ``aware``.

    Raises:
        ValueError: an unknown result.
        SystemExit: always, that is how it ends.
    """
    if result not in ("succeeded", "failed"):
        raise ValueError(f"result must be 'succeeded' or 'failed', not {result!r}")
    report = {"result": result}
    _report(report if text is None else report | {"exit_message": str(text)})
    sys.exit((0 if result == "succeeded" else 1) if code is None else code)


def stopping() -> bool:
    """Whether the factory asked this program to stop; true only after ``watch_stop`` or ``on_stop``."""
    return _stopping


def watch_stop() -> None:
    """From now on a stop request does not end the program: it asks ``stopping()`` and ends within the job's grace."""
    on_stop(lambda: None)


def on_stop(callback: Callable[[], None]) -> None:
    """Call ``callback`` in the main thread when the factory asks to stop (TERM); the grace of the job is left then.

    Raises:
        ValueError: not called from the main thread.
    """

    def handle(number: int, frame: object) -> None:
        global _stopping
        _stopping = True
        callback()

    signal.signal(signal.SIGTERM, handle)


def _report(report: dict[str, Any]) -> None:
    line = json.dumps(report, ensure_ascii=False)
    path = os.environ.get("JOBFAC_REPORT")
    if path is None:
        print(line, flush=True)
        return
    # One write in append mode: lines of several processes of one job do not mix.
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123
        file.write(line.encode() + b"\n")
