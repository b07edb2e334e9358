"""The `jobfac` command that does the same as a button or shows the same as a page."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime

from jobfac.store.history.search import Filter


def line(*words: object) -> str:
    """Return a command line of these words, quoted for a shell."""
    return shlex.join(["jobfac", *(str(word) for word in words)])


def stop(run_id: int, now: bool = False) -> str:
    """Stop a run."""
    return line("stop", run_id, *(["--now"] if now else []))


def retry(run_id: int, from_failed: bool = False) -> str:
    """Retry a run."""
    return line("retry", run_id, *(["--from-failed"] if from_failed else []))


def runs_list(query: Mapping[str, str], wanted: Filter) -> str:
    """List the runs of a filter. ``query``: the filter as a URL says it."""
    words = ["runs", "list", *_selection(query, wanted)]
    words += [word for name, value in wanted.parameters for word in ("--parameter", f"{name}={value}")]
    return line(*words, *(["--unacknowledged"] if wanted.unacknowledged else []))


def many(act: str, query: Mapping[str, str], wanted: Filter) -> str:
    """Retry, stop or acknowledge the runs of a filter; empty if no command chooses the same runs."""
    if act == "retry" and wanted.unacknowledged:
        return ""
    words = [_VERBS.get(act, act), *_selection(query, wanted)]
    return line(*words, *(["--all"] if act == "stop" and not wanted.states else []))


def each(act: str, run_ids: Sequence[int]) -> str:
    """Retry, stop or acknowledge these runs; empty: no command does the same.

    A loop of the commands for one run would not: many are stopped sequences first, and a retry of a job that replaces
    its run waits for the retry before.
    """
    return line(_VERBS.get(act, act), *run_ids) if act == "acknowledge" or len(run_ids) == 1 else ""


_VERBS = {"acknowledge": "ack"}
"""The command of an act, where it has another name."""


def _selection(query: Mapping[str, str], wanted: Filter) -> list[object]:
    words: list[object] = []
    for option, value in (
        ("--job", wanted.job), *(("--state", state) for state in wanted.states), ("--category", wanted.category),
        ("--worker", wanted.worker), ("--since", _moment(query.get("since"), wanted.since)),
        ("--until", _moment(query.get("until"), wanted.until)), ("--sequence", wanted.sequence_run_id),
        ("--text", wanted.text),
    ):  # fmt: skip
        if value is not None:
            words += [option, value]
    return words


def _moment(text: str | None, moment: datetime | None) -> str | None:
    """Return a time for a shell, whose zone may differ: with its offset, unless it is so long ago as `2h`."""
    if text is None or moment is None:
        return None
    return text if text[-1].isalpha() and text[0].isdecimal() else moment.isoformat(timespec="seconds")
