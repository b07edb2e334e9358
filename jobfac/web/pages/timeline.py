"""`/timeline`: what ran and what will run, by job or by worker."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.database.dialects import current_time
from jobfac.states import ACTIVE
from jobfac.store.history import spans
from jobfac.views.durations import spaced_duration
from jobfac.views.overview import DueSchedule
from jobfac.views.runs import AttemptView, PastRun
from jobfac.web.drawing import bars
from jobfac.web.drawing.bars import Bar, Lane
from jobfac.web.drawing.strip import words
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
RUNS, LANES = 600, 40
"""The maximum numbers of runs and lanes that are drawn."""

REPEATS = 200
"""Due times of one schedule that are drawn at most."""

AHEAD = 0.25
"""The part of the span that is in the future, if no time is chosen."""

NO_WORKER = "no worker"
"""The name of the lane of runs that no worker executes."""

MARKS = 6
"""The number of time labels below the lanes."""


class Shown(NamedTuple):
    """What the page shows. ``hidden``: lanes that were left out; ``cut``: older runs were left out.

    ``dense``: a schedule has more times than are drawn.
    ``searched``: runs that ended after this time were not looked for; None: all were.
    """

    now: datetime
    begin: datetime
    end: datetime
    lanes: list[Lane]
    hidden: int
    cut: bool
    dense: bool
    runs: int
    searched: datetime | None = None


def timeline(visit: Visit) -> Response:
    """Draw runs and due times as lanes."""
    query = visit.query
    word = query["span"] if query["span"] in SPANS else "hour"
    by = "worker" if query["by"] == "worker" else "job"
    whole = SPANS[word]
    numbers, shown = visit.together(lambda conn: _read(conn, visit, by, whole))
    step = whole / MARKS
    return visit.render(
        "timeline.html",
        active="timeline",
        counts=numbers,
        query=query,
        word=word,
        by=by,
        marks=[shown.begin + step * number for number in range(MARKS)],
        earlier=_text(shown.begin - whole),
        later=_text(shown.begin + whole),
        **shown._asdict(),
    )


def _read(conn: sa.Connection, visit: Visit, by: str, whole: timedelta) -> Shown:
    """Read which lanes there are, and then everything of those that are drawn."""
    wanted = spans.Filter(visit.query.get("q"), visit.caller.categories)
    now = current_time(conn)
    begin = _begin(visit.query["from"], now, whole)
    end = begin + whole
    ran = spans.ran(conn, begin, end, wanted, RUNS) if begin < now else []
    due = spans.due(conn, max(now, begin), end, wanted) if end > now and by == "job" else []
    ids: dict[str, list[int]] = {}
    for run in ran:
        ids.setdefault((run.worker or NO_WORKER) if by == "worker" else run.job, []).append(run.id)
    soon: dict[str, list[DueSchedule]] = {}
    for one in due:
        soon.setdefault(one.job, []).append(one)
    size = Counter({name: len(found) for name, found in ids.items()})
    size.update({name: len(found) for name, found in soon.items()})
    names = nsmallest(LANES, size, key=lambda name: (-size[name], name))
    runs = spans.of_ids(conn, [run_id for name in names for run_id in ids.get(name, ())])
    drawn = [one for name in names for one in soon.get(name, ())]
    later = (
        spans.repeats(conn, [name for name in names if name in soon], max(now, begin), end, REPEATS) if drawn else []
    )
    dense = max(Counter((one.job, one.name) for one in later).values(), default=0) >= REPEATS
    drawn = list(dict.fromkeys([*drawn, *later]))
    tries = spans.tries(conn, [run.id for run in runs], begin, end) if by == "worker" else {}
    lanes = _draw(names, runs, tries, drawn, begin, end, now, by)
    searched = spans.searched_until(conn, end) if end < now else None
    return Shown(now, begin, end, lanes, len(size) - len(names), len(ran) >= RUNS, dense, len(ran), searched)


def _begin(text: str, now: datetime, whole: timedelta) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo and 1970 < moment.year < 9000 else now - whole * (1 - AHEAD)
    except (ValueError, OverflowError):
        return now - whole * (1 - AHEAD)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _draw(
    names: Sequence[str],
    runs: Sequence[PastRun],
    tries: Mapping[int, Sequence[AttemptView]],
    due: Sequence[DueSchedule],
    begin: datetime,
    end: datetime,
    now: datetime,
    by: str,
) -> list[Lane]:
    """``tries``: by run, the attempts of runs with several attempts. Each is drawn in the lane of its own worker."""
    found: dict[str, list[Bar]] = {name: [] for name in sorted(names)}
    for run in runs:
        assert run.started_at is not None
        until = now if run.state in ACTIVE or run.ended_at is None else run.ended_at
        name, title = (run.worker or NO_WORKER) if by == "worker" else run.job, f"run {run.id} of {run.job}"
        for its in tries.get(run.id, ()):
            told, state = f"{title}, attempt {its.number}", its.state or run.state
            found.setdefault(its.worker, []).append(_bar(run.id, told, state, its.started_at, its.ended_at or now))
        if run.id not in tries:
            # Its worker may have changed since the lanes were chosen.
            found.setdefault(name, []).append(_bar(run.id, title, run.state, run.started_at, until))
    for one in due:
        title = f"{one.job} is due, schedule {one.name}"
        found[one.job].append(Bar(one.fire_at, one.fire_at, "due", title, f"/jobs/{one.job}"))
    return [Lane(name, bars.lane(its, begin, end, f"{name}: {len(its)} entries", now)) for name, its in found.items()]


def _bar(run_id: int, title: str, state: str, begin: datetime, end: datetime) -> Bar:
    taken = spaced_duration((end - begin) / timedelta(seconds=1))
    return Bar(begin, end, state, f"{title}: {words(state)}, {taken}", f"/runs/{run_id}")


PAGES: tuple[Page, ...] = (get("/timeline", timeline),)
