"""Who or what started a run, in words: the same in the command line, the API, the pages and messages."""

from collections.abc import Mapping
from typing import Any

from jobfac.views.runs import RunView


def origin_in_words(run: RunView, cause: Mapping[str, Any], step: str | None) -> str:
    """Return who or what started a run.

    Args:
        run: gives the name that started it, and what it belongs to.
        cause: what its start stored: a file's ``path`` and ``size``, or a ``run`` (several: ``runs``) that ended.
        step: the step of its sequence run.
    """
    by = run.created_by
    if run.retry_of is not None and run.schedule_id is None:
        return f"retry of run {run.retry_of} by {by}"
    if run.sequence_run_id is not None:
        return f"step {step} of run {run.sequence_run_id}" if step else f"run {run.sequence_run_id}"
    if run.schedule_id is None:
        return f"start URL {by.removeprefix('url ')}" if by.startswith("url ") else by
    if not by.startswith("schedule "):
        return f"backfill of a schedule by {by}"
    if "path" in cause:
        again = f", which came back after run {run.retry_of}" if run.retry_of is not None else ""
        size = f"{cause['size']:,} {'byte' if cause['size'] == 1 else 'bytes'}"
        return f"{by}, by the file {cause['path']} ({size}){again}"
    if ended := cause.get("runs") or ([cause["run"]] if "run" in cause else []):
        return f"{by}, after " + " and ".join(f"run {one['id']} of {one['job']} ({one['state']})" for one in ended)
    return by
