"""The view of a line of output that a search found."""

from typing import NamedTuple

from jobfac.states import RunState

LINES = 100
"""The maximum number of lines of one run that a search finds."""


class OutputMatch(NamedTuple):
    """A line of a program's output. ``number``: of the line in its stream, from 1, not counting lines that were cut."""

    run: int
    job: str
    state: RunState
    attempt: int
    stream: str
    number: int
    line: str
