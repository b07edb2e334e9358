"""`/timeline/load`: how full the coming days are, by hour and pool, and which due times to move."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from starlette.responses import Response

from jobfac.store import schedules
from jobfac.store.history import counts
from jobfac.views.results.load import HourLoad, LoadView, PoolLoad
from jobfac.web.drawing.heat import day_of_hours
from jobfac.web.kept import Kept
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

DAYS = (1, 7, 14)
"""The selectable numbers of days."""

AGE = 300.0
"""Seconds for which a load is cached. The page shows its time."""

_KEPT: Kept[LoadView] = Kept(AGE)


class Day(NamedTuple):
    """A day of a pool, in the visitor's zone: its name and its hours as a drawing."""

    name: str
    drawing: Markup


def load(visit: Visit) -> Response:
    """Show the load of the coming days."""
    wanted = visit.number("days")
    days = wanted if wanted in DAYS else DAYS[1]
    found = _KEPT.get((id(visit.service.db), days), lambda: visit.read(schedules.read_load, days))
    numbers = visit.read(counts.read, visit.caller.categories)
    busiest = max((hour.runs for pool in found.pools for hour in pool.hours), default=0)
    return visit.render(
        "load.html", active="timeline", counts=numbers, query=visit.query, days=days, choices=DAYS, busiest=busiest,
        pools=[(pool, _days(visit, pool)) for pool in found.pools if any(hour.runs for hour in pool.hours)],
        moves=found.moves, remarks=found.remarks(), since=found.since,
    )  # fmt: skip


def _days(visit: Visit, pool: PoolLoad) -> list[Day]:
    by_day: dict[str, list[tuple[int, HourLoad]]] = {}
    for hour in pool.hours:
        local = hour.at.astimezone(visit.zone)
        by_day.setdefault(f"{local:%a %d %b}", []).append((local.hour, hour))
    return [Day(name, day_of_hours(f"{pool.pool}, {name}", _whole(hours))) for name, hours in by_day.items()]


def _whole(hours: Sequence[tuple[int, HourLoad]]) -> list[HourLoad | None]:
    """Return 24 hours; None: outside the span. If a clock change repeats an hour, the busier one is returned."""
    found: list[HourLoad | None] = [None] * 24
    for place, hour in hours:
        before = found[place]
        if before is None or hour.runs > before.runs:
            found[place] = hour
    return found


PAGES: tuple[Page, ...] = (get("/timeline/load", load, everywhere=True),)
