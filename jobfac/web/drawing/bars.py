"""Bars over time: attempts of a run, durations of a job's runs, and lanes of a timeline."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from jobfac.reports.charts import ticks
from jobfac.store.history.job_history import Ended
from jobfac.views.durations import spaced_duration
from jobfac.views.runs import AttemptView, PastRun
from jobfac.web.drawing.strip import seconds

LANE = 30
"""The height of a lane, in pixels."""

NARROW = 0.35
"""The minimum width of a bar, in per cent of the chart."""


class Lane(NamedTuple):
    """A lane: its name and its bars."""

    name: str
    drawing: Markup


class Bar(NamedTuple):
    """A bar: its start and end, its state, its label, and the target of its link."""

    begin: datetime
    end: datetime
    state: str
    title: str
    link: str


def lane(bars: Sequence[Bar], begin: datetime, end: datetime, label: str, now: datetime | None = None) -> Markup:
    """Return bars between two times; ``now`` is marked if it lies between them."""
    whole = (end - begin).total_seconds() or 1.0
    drawn = []
    for bar in bars:
        left = max(0.0, 100 * (bar.begin - begin).total_seconds() / whole)
        right = min(100.0, 100 * (bar.end - begin).total_seconds() / whole)
        wide = max(NARROW, right - left)
        place = f'x="{min(left, 100 - wide):.2f}%" width="{wide:.2f}%" y="7" height="{LANE - 14}"'
        rect = f'<rect class="{bar.state}" {place}><title>{escape(bar.title)}</title></rect>'
        drawn.append(f'<a href="{escape(bar.link)}" tabindex="-1">{rect}</a>' if bar.link else rect)
    mark = ""
    if now is not None and begin < now < end:
        x = 100 * ((now - begin) / timedelta(seconds=1)) / whole
        mark = f'<line class="now" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{LANE}"/>'
    role = f'role="group" aria-label="{escape(label)}"'
    return Markup(f'<svg {role} height="{LANE}">{"".join(drawn)}{mark}</svg>')


def attempts(found: Sequence[AttemptView], now: datetime) -> list[Lane]:
    """Return a lane for each attempt, from the first start to the last end."""
    begin = found[0].started_at
    end = max((one.ended_at or now) for one in found)
    end = max(end, begin + timedelta(milliseconds=1))
    lanes = []
    for one in found:
        state = str(one.state or "running")
        taken = spaced_duration(((one.ended_at or now) - one.started_at) / timedelta(seconds=1))
        title = f"Attempt {one.number} on {one.worker}: {state.replace('_', ' ')}, {taken}"
        bar = Bar(one.started_at, one.ended_at or now, state, title, f"?attempt={one.number}#output")
        lanes.append(Lane(f"Attempt {one.number}", lane([bar], begin, end, title)))
    return lanes


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the percentile of the values by nearest rank, ``share`` from 0 to 1; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


CHART = 170
"""The height of a chart of durations, in pixels."""


def durations(runs: Sequence[PastRun]) -> Markup | None:
    """Return a column for each of the runs, oldest first, with lines at p50 and p95; None: no run has a duration."""
    taken = [(run, value) for run in runs if (value := seconds(run)) is not None]
    if not taken:
        return None
    values = [value for _, value in taken]
    scale = _scale(max(values) or 1.0)
    room, top = CHART - 12, 8

    def level(value: float) -> float:
        return top + room - room * min(1.0, value / scale[-1])

    part = 100 / max(20, len(taken))
    rects = [
        f'<a href="/runs/{run.id}" tabindex="-1"><rect class="{run.state}" x="{place * part + part * 0.12:.2f}%" '
        f'width="{part * 0.76:.2f}%" y="{level(value):.1f}" height="{max(1.5, top + room - level(value)):.1f}">'
        f"<title>run {run.id}: {str(run.state).replace('_', ' ')}, {spaced_duration(value)}</title></rect></a>"
        for place, (run, value) in enumerate(taken)
    ]
    lines = [
        f'<line class="{"base" if v == 0 else "grid"}" x1="0" x2="100%" y1="{level(v):.1f}" y2="{level(v):.1f}"/>'
        for v in scale
    ]
    for share, word in ((0.5, "p50"), (0.95, "p95")):
        y = level(percentile(values, share) or 0)
        lines.append(f'<line class="mark" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="100%" dx="-4" y="{y - 4:.1f}" text-anchor="end">{word}</text>')
    axis = [f'<text x="100%" dx="-8" y="{level(v) + 4:.1f}" text-anchor="end">{short(v)}</text>' for v in scale]
    title = f"Durations of the last {len(taken)} runs"
    return Markup(
        f'<div class="plot"><svg height="{CHART}" aria-hidden="true">{"".join(axis)}</svg>'
        f'<svg height="{CHART}" role="group" aria-label="{title}">{"".join(rects)}{"".join(lines)}</svg></div>'
    )


def _scale(most: float) -> list[float]:
    """Return round values from 0 to at least ``most`` seconds, in the unit that is shown."""
    if most < 4:
        return [most / 4 * step for step in range(5)]
    unit = 1 if most < 120 else 60 if most < 7200 else 3600
    return [value * unit for value in ticks(most / unit)]


def short(value: float) -> str:
    """Return seconds for an axis: 1.5 s, 30 s, 5 min, 2 h."""
    if value < 10:
        return f"{value:.1f} s" if value else "0"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def rate(days: Mapping[str, Ended]) -> Markup:
    """Return the share of runs that succeeded by day, each day as a column. What did not is drawn as failed."""
    part = 100 / max(1, len(days))
    height, rects = 64, []
    for place, (name, day) in enumerate(days.items()):
        whole, bad = day.judged, day.judged - day.succeeded
        x, wide = place * part + part * 0.1, part * 0.8
        title = f"{name}: {_in_words(day)}"
        low = height * bad / whole if whole else 0
        good_part = (
            f'<rect class="succeeded" x="{x:.2f}%" width="{wide:.2f}%" y="{low:.1f}" height="{height - low:.1f}"/>'
        )
        bad_part = f'<rect class="failed" x="{x:.2f}%" width="{wide:.2f}%" y="0" height="{low:.1f}"/>' if bad else ""
        blank = f'<rect class="track" x="{x:.2f}%" width="{wide:.2f}%" y="{height - 4}" height="4"/>'
        rects.append(f"<g><title>{escape(title)}</title>{good_part + bad_part if whole else blank}</g>")
    title = f"Success by day: {_in_words(Ended.total(days.values()))} in {len(days)} days"
    return Markup(f'<svg class="chart" height="{height}" role="img" aria-label="{title}">{"".join(rects)}</svg>')


def _in_words(ended: Ended) -> str:
    """Return how runs ended: "3 succeeded, 1 failed, 2 mixed"; mixed and others only if there are any."""
    if not any(ended):
        return "no runs"
    more = [
        f"{number} {word}" for number, word in ((ended.mixed, "mixed"), (ended.other, "stopped or denied")) if number
    ]
    return ", ".join([f"{ended.succeeded} succeeded", f"{ended.failed} failed", *more])
