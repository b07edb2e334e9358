"""The view of a note about a run."""

from datetime import datetime
from typing import NamedTuple


class NoteView(NamedTuple):
    """What somebody wrote about a run."""

    id: int
    run_id: int
    at: datetime
    by: str
    text: str
