"""Where the output of a run is, in words. It explains an empty viewer."""

from collections.abc import Sequence
from typing import NamedTuple

from jobfac.definitions import AnyJob, Job
from jobfac.states import WAITING
from jobfac.views.runs import AttemptView, RunView


class Place(NamedTuple):
    """The destination of a stream. ``in_database``: the viewer shows it."""

    stream: str
    in_database: bool
    words: str


def places(definition: AnyJob | None, run: RunView, attempts: Sequence[AttemptView], number: int) -> list[Place]:
    """Return where the streams of an attempt go; empty for a sequence, which has no output."""
    if not isinstance(definition, Job):
        return []
    attempt = next((one for one in attempts if one.number == number), None)
    found = []
    for stream in ("stdout", "stderr"):
        wanted = getattr(definition.output, stream)
        if wanted.kind == "database":
            found.append(Place(stream, True, ""))
            continue
        path = None if attempt is None else getattr(attempt, f"{stream}_path")
        where = f"in the file {path} on worker {attempt.worker}" if path and attempt else ""
        planned = "discarded, as the definition says" if wanted.kind == "none" else f"written to {wanted.path}"
        found.append(Place(stream, False, f"{stream} is {where or planned}."))
    if run.state in WAITING and not attempts:
        return [one._replace(words=f"{one.stream} will come when the run has started.") for one in found]
    return found
