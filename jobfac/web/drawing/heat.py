"""The hours of a day as squares. A fuller hour has a stronger colour."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from jobfac.views.durations import spaced_duration
from jobfac.views.results.load import HourLoad

HEIGHT = 26
"""The size of a square, in pixels."""


def level(hour: HourLoad) -> str:
    """Return the CSS class of an hour: ``h0`` (nothing is due) to ``h4``, or ``full``: its runs will wait."""
    if hour.runs == 0:
        return "h0"
    if hour.busy_percent is None or hour.wait_seconds >= 1:
        return "full"
    return f"h{min(4, 1 + int(hour.busy_percent // 25))}"


def day_of_hours(title: str, hours: Sequence[HourLoad | None]) -> Markup:
    """Return the 24 hours of a day; None: the hour is outside the span."""
    part = 100 / max(1, len(hours))
    rects = []
    for place, hour in enumerate(hours):
        if hour is None:
            continue
        busy = "no slots" if hour.busy_percent is None else f"{hour.busy_percent:.0f} % of the slots' time"
        waits = f", the last waits {spaced_duration(hour.wait_seconds)}" if hour.wait_seconds >= 1 else ""
        title = f"{place:02}:00: {hour.runs} runs, {busy}{waits}"
        rects.append(
            f'<rect class="{level(hour)}" x="{place * part + part * 0.04:.2f}%" width="{part * 0.92:.2f}%" y="2" '
            f'height="{HEIGHT - 4}" rx="2"><title>{title}</title></rect>'
        )
    number = sum(hour.runs for hour in hours if hour is not None)
    label = escape(f"{title}: {number} runs")
    return Markup(f'<svg class="heat" height="{HEIGHT}" role="img" aria-label="{label}">{"".join(rects)}</svg>')
