"""The last runs of a job as a strip of columns: the colour is the state, the height is the duration."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from markupsafe import Markup, escape

from jobfac.views.durations import spaced_duration
from jobfac.views.runs import PastRun

RUNS = 30
"""The number of runs in a strip."""

WIDTH, HEIGHT, LEAST = 6, 26, 5
"""Pixels: the widths of a run and heights of the strip and of the shortest run. The style sheet repeats the width."""


def seconds(run: PastRun) -> float | None:
    """Return how long the run took from its first start to its end; None: it did not start."""
    if run.started_at is None or run.ended_at is None:
        return None
    return max(0.0, (run.ended_at - run.started_at).total_seconds())


def strip(runs: Sequence[PastRun]) -> Markup:
    """Return the runs, oldest first, as a strip."""
    shown = runs[-RUNS:]
    durations = [seconds(run) for run in shown]
    longest = max((taken for taken in durations if taken is not None), default=0.0) or 1.0
    rects = []
    left = (RUNS - len(shown)) * WIDTH
    for run, taken in zip(shown, durations, strict=True):
        height = HEIGHT if taken is None else int(LEAST + (HEIGHT - LEAST) * taken / longest)
        title = f"run {run.id}: {words(run.state)}{'' if taken is None else f', {spaced_duration(taken)}'}"
        rects.append(
            f'<rect class="{run.state}" x="{left}" y="{HEIGHT - height}" height="{height}">'
            f"<title>{title}</title></rect>"
        )
        left += WIDTH
    width = RUNS * WIDTH
    return Markup(
        f'<svg class="strip" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" role="img" '
        f'aria-label="{escape(summary(shown))}">{"".join(rects)}</svg>'
    )


@cache
def words(state: str) -> str:
    """Return a state as people write it."""
    return str(state).replace("_", " ")


def summary(runs: Sequence[PastRun]) -> str:
    """Return a description of the strip for screen readers."""
    if not runs:
        return "No runs yet"
    counted = Counter(words(run.state) for run in runs)
    return f"Last {len(runs)} runs: " + ", ".join(f"{number} {word}" for word, number in counted.most_common())
