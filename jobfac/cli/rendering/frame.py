"""The screen of `jobfac top`: an overview in the size of the terminal. Pure."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from jobfac.cli.rendering import rows
from jobfac.cli.rendering.text import printable, text_of
from jobfac.cli.times import write_time
from jobfac.states import FAILED
from jobfac.store.overview import FAILED as FAILED_READ
from jobfac.store.overview import served, unclaimed
from jobfac.views.durations import short_duration
from jobfac.views.overview import Overview, RunLine

WIDE = 120
"""The width in columns from which rows show more details."""

AIRY = 30
"""The height in rows from which empty lines separate the sections."""

LEAST = (2, 4, 3, 2)
"""The minimum rows of the sections Fleet, Running, Ended and Failed, if they have as many entries."""

NOTICES = 3
"""The maximum number of lines for holds, and for overdue jobs."""

UNLIMITED = 1000
"""The height in rows of a frame without a screen."""


def draw(
    overview: Overview | None,
    source: str,
    width: int,
    height: int | None,
    trouble: str = "",
    chosen: int | None = None,
) -> RenderableType:
    """Draw a frame of this size; ``height`` None: as high as necessary.

    Args:
        overview: the state to show; None: it has not been read yet.
        source: the URL of the database or the API, for the first line.
        trouble: why the state is missing or old, for the second line.
        chosen: the run that is marked.
    """
    lines: list[RenderableType] = [_headline(overview, source, "" if height is None else "↑↓ ↵ output  q quits ")]
    if trouble:
        lines.append(Text(f" {trouble}", style="bold white on red", no_wrap=True, overflow="ellipsis"))
    if overview is None:
        return Group(*lines, *([] if trouble else [Text(f" connecting to {source} …", style="dim")]))
    wide, airy = width >= WIDE, height is None or height >= AIRY
    lines += [_counters(overview), *_notices(overview)]
    failed = overview.failures
    room = _rooms(overview, height, len(lines))
    gap = [Text()] if airy else []
    now, by_name = overview.now, sorted(overview.workers, key=lambda worker: worker.name)
    pools, idle = served(overview.workers, now), unclaimed(overview.workers, now)
    reporting = any(run.progress is not None for run in overview.running)
    workers = [rows.worker(worker, now, wide) for worker in by_name]
    fleet = _section("Fleet", rows.FLEET, workers, room[0], "no live workers; `jobfac worker` starts one")
    queued = [
        rows.queue(waiting, waiting.pool.lower() in pools, waiting.pool.lower() not in idle)
        for waiting in overview.queued
    ]
    queue = _section("Queue", rows.QUEUE, queued, room[0], "no queued runs")
    running = [rows.running(run, now, wide, reporting) for run in overview.running]
    columns = rows.run_columns(wide, reporting)
    marked = _place(overview.running, chosen)
    under_way = _section("Running", columns, running, room[1], "no running runs", total=overview.held, marked=marked)
    picked = pick(overview.ended, room[2])
    recent = [rows.ended(run, now, wide) for run in picked]
    remark, marked = _failed(overview), _place(picked, chosen)
    ended = _section("Ended", rows.end_columns(wide), recent, room[2], "no ended runs", remark, marked=marked)
    upcoming = [rows.due(schedule, now) for schedule in overview.due[: room[2]]]
    due = _section("Next", rows.DUE, upcoming, room[2], "no schedule is due", "by schedule")
    if failed:
        lines += [*gap, _to_do(failed, now, room[3])]
    lines += [*gap, _beside(fleet, queue, width), *gap, under_way, *gap, _beside(ended, due, width)]
    return Group(*lines)


def listed(overview: Overview, height: int, trouble: str = "") -> list[int]:
    """Return the ids of the runs in a frame of this height, from the top down."""
    room = _rooms(overview, height, (3 if trouble else 2) + len(_notices(overview)))
    running = overview.running[: room[1] if overview.held <= room[1] else room[1] - 1]
    return [run.id for run in (*running, *pick(overview.ended, room[2]))]


def _rooms(overview: Overview, height: int | None, head: int) -> list[int]:
    """Return how many rows the fleet, the running, the ended and the failed runs get, below so many lines."""
    wanted = (
        max(len(overview.workers), len(overview.queued), 1),
        max(overview.held, 1),
        max(len(overview.ended), len(overview.due), 1),
        len(overview.failures),
    )
    airy = height is None or height >= AIRY
    taken = head + (4 if overview.failures else 3) * (2 if airy else 1)
    room = share((UNLIMITED if height is None else height) - taken, wanted, LEAST)
    return [*room[:2], min(room[2], 12), room[3]] if height is None else room


def _place(runs: Sequence[RunLine], chosen: int | None) -> int | None:
    return next((place for place, run in enumerate(runs) if run.id == chosen), None)


def share(total: int, wanted: Sequence[int], least: Sequence[int]) -> list[int]:
    """Divide ``total`` rows among sections: first the minimum of each, then the rest in turn, up to what each wants."""
    shares = [min(want, minimum) for want, minimum in zip(wanted, least, strict=True)]
    left = total - sum(shares)
    while left > 0 and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for number, want in enumerate(wanted):
            if shares[number] < want and left > 0:
                shares[number] += 1
                left -= 1
    return shares


def pick(ended: Sequence[RunLine], room: int) -> list[RunLine]:
    """Return the latest runs for which there is room. Half of the room is reserved for failures."""
    failures = [run.id for run in ended if run.state in FAILED][: room - room // 2]
    others = [run.id for run in ended if run.id not in failures][: room - len(failures)]
    return [run for run in ended if run.id in failures or run.id in others]


def _headline(overview: Overview | None, source: str, keys: str) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(no_wrap=True, justify="right")
    clock = "" if overview is None else write_time(overview.now)
    line.add_row(Text.assemble((" jobfac ", "bold reverse"), f" {source}"), Text(f"{clock}  {keys}", style="dim"))
    return line


def _counters(overview: Overview) -> RenderableType:
    live = [worker for worker in overview.workers if not worker.is_silent(overview.now)]
    slots, busy = sum(worker.slots for worker in live), sum(worker.busy for worker in live)
    queued = sum(waiting.number for waiting in overview.queued)
    oldest = max((waiting.seconds for waiting in overview.queued), default=0.0)
    failed = sum(run.state in FAILED for run in overview.ended)
    counters = [
        (len(live), "worker" if len(live) == 1 else "workers", "green"),
        (busy, f"of {slots:,} slots", "cyan"),
        (queued, "queued", rows.wait_style(oldest)),
        (overview.blocked, "blocked", "yellow"),
        (overview.scheduled, "scheduled", "blue"),
        (failed, f"failed {_span_of(overview)}".rstrip(), "red"),
    ]
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, what, style in counters:
        line.append(f" {number:,}", f"bold {style}" if number else "dim").append(f" {what} ", "" if number else "dim")
    if not live:
        line.stylize("bold red", 0, len(" 0 workers"))
    return line


def _notices(overview: Overview) -> list[RenderableType]:
    """What is held and what is overdue, a line each."""
    held = [f"{one.sentence}{'' if one.until is None else f', until {text_of(one.until)}'}" for one in overview.holds]
    late = [f"{one.job} is overdue: it should have succeeded by {text_of(one.due_at)}" for one in overview.overdue]
    lines: list[RenderableType] = []
    for texts, number, style in (
        (held, len(held) + overview.more_holds, "yellow"),
        (late, len(late) + overview.more_overdue, "bold red"),
    ):
        shown = texts if number <= NOTICES else [*texts[: NOTICES - 1], f"… and {number - NOTICES + 1:,} more"]
        lines += [Text(f" {printable(text)}", style=style, no_wrap=True, overflow="ellipsis") for text in shown]
    return lines


def _failed(overview: Overview) -> str:
    failed = sum(run.state in FAILED for run in overview.ended)
    return f"{failed} of the last {len(overview.ended)} failed, {_span_of(overview)}" if failed else "recently"


def _span_of(overview: Overview) -> str:
    """Return the time that the listed ended runs span, such as "in 12m05s": failures before it are not counted."""
    moments = [run.ended_at for run in overview.ended if run.ended_at is not None]
    return f"in {short_duration((overview.now - min(moments)).total_seconds())}" if moments else ""


def _to_do(failed: Sequence[RunLine], now: datetime, room: int) -> RenderableType:
    entries, remark = [rows.failure(run, now) for run in failed], "`jobfac ack RUN` acknowledges"
    return _section("Failed", rows.FAILURE, entries, room, "", remark, at_least=len(failed) >= FAILED_READ)


def _section(
    title: str,
    columns: rows.Columns,
    entries: Sequence[Sequence[RenderableType]],
    room: int,
    empty: str,
    remark: str = "",
    total: int | None = None,
    marked: int | None = None,
    at_least: bool = False,
) -> RenderableType:
    """A titled list in ``room`` rows. If ``total`` entries do not fit, the last row says how many are not shown.

    ``at_least``: there may be more entries than ``total``.
    """
    total = len(entries) if total is None else total
    heading = Text.assemble((title, "bold"), (f" {remark or total}" if entries else "", "dim"))
    rule = Rule(heading, align="left", style="dim", characters="─")
    if not entries:
        return Group(rule, Text(f"  {empty}", style="dim", no_wrap=True, overflow="ellipsis"))
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(no_wrap=True, **{"overflow": "ellipsis", **column})
    shown = entries[:room] if total <= min(room, len(entries)) else entries[: room - 1]
    for place, entry in enumerate(shown):
        table.add_row(*entry, style="reverse" if place == marked else None)
    more = f"  … and {total - len(shown):,} more{' at least' if at_least else ''}"
    rest = [Text(more, style="dim")] if total > len(shown) else []
    return Group(rule, Padding(table, (0, 0, 0, 1)), *rest)


def _beside(left: RenderableType, right: RenderableType, width: int) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(width=(width - 2) * 3 // 5)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid
