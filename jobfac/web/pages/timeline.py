"""`/timeline`: what ran and what will run, by job or by worker."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.states import ACTIVE
from jobfac.store.history import counts, spans
from jobfac.views.durations import spaced_duration
from jobfac.views.overview import DueSchedule
from jobfac.views.runs import PastRun
from jobfac.web.drawing import bars
from jobfac.web.drawing.bars import Bar, Lane
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
RUNS, LANES = 1500, 40
"""The maximum numbers of runs and lanes that are drawn."""

AHEAD = 0.25
"""The part of the span that is in the future, if no time is chosen."""

MARKS = 6
"""The number of time labels below the lanes."""


class Drawn(NamedTuple):
    """What the page shows. ``hidden``: lanes that were left out; ``cut``: older runs were left out."""

    lanes: list[Lane]
    hidden: int
    cut: bool
    runs: int


def timeline(visit: Visit) -> Response:
    """Draw runs and due times as lanes."""
    query = visit.query
    word = query.get("span") if query.get("span") in SPANS else "hour"
    by = "worker" if query.get("by") == "worker" else "job"
    wanted = spans.Filter(query.get("q"), visit.caller.categories)
    whole = SPANS[word or "hour"]

    def read(conn: sa.Connection) -> tuple[datetime, datetime, list[PastRun], list[DueSchedule]]:
        now = counts.now(conn)
        begin = _begin(query.get("from", ""), now, whole)
        end = begin + whole
        ran = spans.ran(conn, begin, end, wanted, RUNS) if begin < now else []
        due = spans.due(conn, max(now, begin), end, wanted, RUNS) if end > now and by == "job" else []
        return now, begin, ran, due

    numbers, (now, begin, ran, due) = visit.together(read)
    end = begin + whole
    step = whole / MARKS
    return visit.render(
        "timeline.html",
        active="timeline",
        counts=numbers,
        query=query,
        word=word,
        by=by,
        begin=begin,
        end=end,
        now=now,
        marks=[begin + step * number for number in range(MARKS)],
        earlier=_text(begin - whole),
        later=_text(begin + whole),
        **_draw(ran, due, by, begin, end, now)._asdict(),
    )


def _begin(text: str, now: datetime, whole: timedelta) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo and 1970 < moment.year < 9000 else now - whole * (1 - AHEAD)
    except (ValueError, OverflowError):
        return now - whole * (1 - AHEAD)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _draw(
    ran: Sequence[PastRun], due: Sequence[DueSchedule], by: str, begin: datetime, end: datetime, now: datetime
) -> Drawn:
    found: dict[str, list[Bar]] = {}
    for run in ran:
        name = (run.worker or "no worker") if by == "worker" else run.job
        assert run.started_at is not None
        until = now if run.state in ACTIVE or run.ended_at is None else run.ended_at
        taken = spaced_duration((until - run.started_at) / timedelta(seconds=1))
        title = f"run {run.id} of {run.job}: {str(run.state).replace('_', ' ')}, {taken}"
        found.setdefault(name, []).append(Bar(run.started_at, until, run.state, title, f"/runs/{run.id}"))
    for one in due:
        title = f"{one.job} is due, schedule {one.name}"
        found.setdefault(one.job, []).append(Bar(one.fire_at, one.fire_at, "due", title, f"/jobs/{one.job}"))
    names = sorted(found, key=lambda name: (-len(found[name]), name))[:LANES]
    lanes = [
        Lane(name, bars.lane(found[name], begin, end, f"{name}: {len(found[name])} entries", now))
        for name in sorted(names)
    ]
    return Drawn(lanes, len(found) - len(names), len(ran) >= RUNS, len(ran))


PAGES: tuple[Page, ...] = (get("/timeline", timeline),)
