"""Charts as SVG text. They fill the width of their container without scaling text. Colours come from the page's CSS."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Format = Callable[[float], str]
HEIGHT = 28
"""Height of a small chart, in pixels."""


def ticks(most: float, count: int = 4) -> list[float]:
    """Return round numbers from 0 to at least ``most`` in about ``count`` steps of at least 1."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough - 1e-9)
    step = max(step, 1.0)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def columns(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    format_value: Format,
    height: int,
    marks: Sequence[int] = (),
) -> str:
    """Return a chart of stacked columns with a scale on the left.

    Args:
        labels: one label for each column.
        series: by CSS class, from the bottom up, one value for each label.
        height: in pixels.
        marks: positions of the labels that are drawn below the chart.
    """
    scale = ticks(max(map(sum, zip(*series.values(), strict=True)), default=0), 4 if height > 120 else 2)
    top, bottom = 8, 22 if marks else 6
    plot_height = height - top - bottom
    part = 100 / max(1, len(labels))

    def level(value: float) -> float:
        return top + plot_height - plot_height * value / scale[-1]

    axis = "".join(
        f'<text x="100%" dx="-8" y="{level(v) + 4:.1f}" text-anchor="end">{format_value(v)}</text>' for v in scale
    )
    lines = "".join(
        f'<line x1="0" x2="100%" y1="{level(v):.1f}" y2="{level(v):.1f}" class="{"base" if v == 0 else "grid"}"/>'
        for v in scale
    )
    bars = []
    for number, label in enumerate(labels):
        below, drawn = 0.0, []
        for name, values in series.items():
            if values[number]:
                size = plot_height * values[number] / scale[-1]
                x, y = number * part + part * 0.12, level(below + values[number])
                place = f'x="{x:.3f}%" width="{part * 0.76:.3f}%" y="{y:.1f}" height="{size:.1f}"'
                drawn.append(f'<rect {place} class="{name}"/>')
                below += values[number]
        tooltip = ", ".join(f"{format_value(values[number])} {name}" for name, values in series.items())
        full = f'<rect x="{number * part:.3f}%" width="{part:.3f}%" y="{top}" height="{plot_height}" class="reach"/>'
        bars.append(f"<g><title>{escape(label)}: {tooltip}</title>{full}{''.join(drawn)}</g>")
    inside = f"{lines}{''.join(bars)}{_labels(labels, marks, height - 5)}"
    return (
        f'<div class="plot"><svg class="axis" height="{height}" aria-hidden="true">{axis}</svg>'
        f'<svg height="{height}" role="img" aria-label="{escape(title)}">{inside}</svg></div>'
    )


def _labels(labels: Sequence[str], marks: Sequence[int], y: int) -> str:
    """Return the labels at ``marks``, centred below their columns, or aligned to the edge of the chart near it."""
    part = 100 / max(1, len(labels))
    texts = []
    for number in marks:
        x, anchor = number * part + part / 2, "middle"
        if x < 4 or x > 96:
            x, anchor = (number * part, "start") if x < 4 else ((number + 1) * part, "end")
        texts.append(f'<text x="{x:.3f}%" y="{y}" text-anchor="{anchor}">{escape(labels[number])}</text>')
    return "".join(texts)


def spark(values: Sequence[float], bad: Sequence[float], title: str, most: float | None = None) -> str:
    """Return small columns without a scale, with the ``bad`` part marked. ``most`` is the value of a full column."""
    most = most or max(values, default=0) or 1
    bars = []
    for number, (value, worse) in enumerate(zip(values, bad, strict=True)):
        if value:
            size = max(1.5, HEIGHT * min(1.0, value / most))
            bars.append(_bar(number, HEIGHT - size, size, "succeeded"))
        if worse:
            bars.append(_bar(number, HEIGHT - (low := max(3.0, HEIGHT * min(1.0, worse / most))), low, "failed"))
    return _small(len(values), title, "".join(bars))


def line(values: Sequence[float | None], title: str) -> str:
    """Return a line chart scaled from 0 to the greatest value, with gaps for None and a point for a lone value."""
    known = [value for value in values if value is not None]
    most = max(known, default=0) or 1
    points = [None if v is None else (n + 0.5, 2 + (HEIGHT - 4) * (1 - v / most)) for n, v in enumerate(values)]
    path, pen = [], "M"
    for point in points:
        if point is not None:
            path.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L" if point is not None else "M"
    lone_points = [
        f"M{p[0] - 0.4:.1f} {p[1]:.1f}h0.8"
        for n, p in enumerate(points)
        if p and (n == 0 or points[n - 1] is None) and (n + 1 == len(points) or points[n + 1] is None)
    ]
    return _small(len(values), title, f'<path d="{"".join([*path, *lone_points])}"/>' if known else "")


def _bar(number: int, y: float, height: float, name: str) -> str:
    return f'<rect x="{number + 0.1:.1f}" y="{y:.1f}" width="0.8" height="{height:.1f}" class="{name}"/>'


def _small(number: int, title: str, inside: str) -> str:
    return (
        f'<svg class="small" viewBox="0 0 {max(1, number)} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<path class="floor" d="M0 {HEIGHT}H{max(1, number)}"/>{inside}</svg>'
    )


def meter(share: float, title: str, name: str = "succeeded") -> str:
    """Return a bar that is filled to ``share`` (0 to 1) in the colour of the CSS class ``name``."""
    width = 100 * min(1.0, share)
    return (
        f'<svg class="meter" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" rx="2" class="track"/>'
        f'<rect width="{width:.1f}%" height="100%" rx="2" class="{name}"/></svg>'
    )
