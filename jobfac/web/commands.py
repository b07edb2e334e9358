"""The `jobfac` command that does the same as a button or shows the same as a page."""

import shlex
from collections.abc import Mapping, Sequence


def line(*words: object) -> str:
    """Return a command line of these words, quoted for a shell."""
    return shlex.join(["jobfac", *(str(word) for word in words)])


def stop(run_id: int, now: bool = False) -> str:
    """Stop a run."""
    return line("stop", run_id, *(["--now"] if now else []))


def retry(run_id: int, from_failed: bool = False) -> str:
    """Retry a run."""
    return line("retry", run_id, *(["--from-failed"] if from_failed else []))


def runs_list(query: Mapping[str, str], states: Sequence[str]) -> str:
    """List runs with the filters that the command line has too."""
    words: list[object] = ["runs", "list"]
    if job := query.get("job"):
        words += ["--job", job]
    for state in states:
        words += ["--state", state]
    if since := query.get("since"):
        words += ["--since", since]
    return line(*words)
