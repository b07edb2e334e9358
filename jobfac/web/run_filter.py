"""Which runs a URL of the pages asks for."""

from datetime import datetime

from jobfac.errors import Invalid
from jobfac.states import FAILED, HELD, WAITING, RunState
from jobfac.store.history.search import Filter
from jobfac.times import read_end, read_time
from jobfac.web.visit import Query, Visit, read_number

UNACKNOWLEDGED = "unacknowledged"
"""The word of the failures that nobody has acknowledged."""

GROUPS = (
    ("", "All", ()),
    ("failed", "Failed", tuple(sorted(FAILED))),
    (UNACKNOWLEDGED, "Not acknowledged", tuple(sorted(FAILED))),
    ("running", "Running", tuple(sorted(HELD))),
    ("waiting", "Waiting", tuple(sorted(WAITING))),
    ("succeeded", "Succeeded", (RunState.SUCCEEDED,)),
    ("mixed", "Mixed", (RunState.MIXED,)),
    ("stopped", "Stopped", (RunState.STOPPED,)),
    ("denied", "Denied", (RunState.DENIED,)),
)
"""What can be chosen: the word in the URL, its title, the states that it stands for."""


def states_of(word: str) -> tuple[RunState, ...]:
    """Return the states that a word of the URL stands for: a group, or a state.

    Raises:
        Invalid: it is neither.
    """
    for value, _, states in GROUPS:
        if value == word:
            return states
    if word in list(RunState):
        return (RunState(word),)
    raise Invalid(f"There is no state '{word}'.")


def read(visit: Visit, now: datetime) -> Filter:
    """Return the filter of the page's URL; as ``of``."""
    return of(visit, visit.query, now)


def of(visit: Visit, query: Query, now: datetime) -> Filter:
    """Return the filter of a query. Times are local to the visitor, read as the command line reads them.

    Raises:
        Invalid: a state, a time or a parameter cannot be read.
    """
    return Filter(
        job=query.get("job"),
        states=states_of(query["state"]),
        category=query.get("category"),
        worker=query.get("worker"),
        since=_moment(visit, query, "since", now),
        until=_moment(visit, query, "until", now),
        text=query.get("q"),
        parameters=_pair(query.get("parameter")),
        sequence_run_id=read_number(query["sequence"]),
        categories=visit.caller.categories,
        unacknowledged=query["state"] == UNACKNOWLEDGED,
        below=read_number(query["below"]),
    )


def _pair(text: str | None) -> tuple[tuple[str, str], ...]:
    name, sign, value = (text or "").partition("=")
    if text and not (sign and name.strip()):
        raise Invalid(f"'parameter' must be NAME=VALUE, such as day=2027-01-31, not '{text}'.")
    return ((name.strip(), value.strip()),) if text else ()


def _moment(visit: Visit, query: Query, name: str, now: datetime) -> datetime | None:
    text = query[name]
    try:
        if not text:
            return None
        return read_time(text, now, back=True, zone=visit.zone) if name == "since" else read_end(text, now, visit.zone)
    except (ValueError, OverflowError) as error:
        words = str(error) if isinstance(error, ValueError) else f"cannot be read: '{text}' is too long ago"
        raise Invalid(f"'{name}' {words}.") from None
