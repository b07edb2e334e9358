"""The heat map of the coming days: a line for each day, a sign for each hour. Pure."""

from collections.abc import Iterator
from datetime import date, datetime

from rich.text import Text

from jobfac.recurrence.load import TOO_LONG
from jobfac.views.results.load import HourLoad, LoadView, PoolLoad

SIGNS = "·░▒▓█"
STYLES = ("dim", "green", "green", "yellow", "yellow")


def heat_map(load: LoadView) -> Iterator[Text]:
    """Yield the lines of the map, in local time."""
    for pool in load.pools:
        total = sum(hour.runs for hour in pool.hours)
        if not total:
            continue
        slots = f"{pool.slots:,} slots" if pool.slots else "no live worker"
        yield Text.assemble((f"{pool.pool}", "bold"), f"  {slots}, {total:,} runs")
        yield Text(" " * 7 + "".join(f"{hour:02} " for hour in range(24)), style="dim")
        for day, hours in _days(pool).items():
            line = Text(f"{day:%a %d} ")
            for hour in range(24):
                line.append_text(_sign(hours.get(hour)))
            yield line
        yield Text()


def legend(load: LoadView) -> Text:
    """Return the line that explains the signs."""
    zone = load.since.astimezone()
    text = Text(f"Hours in {zone.tzname()} ({zone.isoformat()[-6:]}). Slots busy: ", style="dim")
    for sign, words in zip(SIGNS[1:], ("to 25 %", "50 %", "75 %", "more"), strict=True):
        text.append(f"{sign} {words}, ")
    return text.append("!! too few", style="red")


def _days(pool: PoolLoad) -> dict[date, dict[int, list[HourLoad]]]:
    found: dict[date, dict[int, list[HourLoad]]] = {}
    for hour in pool.hours:
        local: datetime = hour.at.astimezone()
        found.setdefault(local.date(), {}).setdefault(local.hour, []).append(hour)
    return found


def _sign(hours: list[HourLoad] | None) -> Text:
    """Return three characters for an hour. On the day on which the clocks go back, one hour comes twice."""
    if not hours:
        return Text("   ")
    if any(hour.wait_seconds > TOO_LONG or (hour.runs and hour.busy_percent is None) for hour in hours):
        return Text("!! ", style="bold red")
    percent = max(hour.busy_percent or 0.0 for hour in hours)
    if not percent and not any(hour.runs for hour in hours):
        return Text(f"{SIGNS[0]}  ", style=STYLES[0])
    level = min(4, int(percent // 25) + 1)
    return Text(SIGNS[level] * 2 + " ", style=STYLES[level])
