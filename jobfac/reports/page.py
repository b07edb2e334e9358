"""All reports as one page of HTML that loads nothing and runs nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path

from jobfac.reports import charts, measures, shaping
from jobfac.reports.facts import Facts
from jobfac.reports.form import NUMBERS, duration, shown
from jobfac.reports.history import by_span, job_history, spans
from jobfac.reports.rows import JobHistoryRow, Kind, Report, Row, UtilisationRow
from jobfac.store.statistics import Work

MOST_COLUMNS = 92
"""Days that are drawn singly; longer periods are drawn by weeks or by 30 days."""

MOST_ROWS = 15
"""Rows of most tables; the other forms of a report have all."""

MOST_JOBS = 100
"""Jobs of which the course is drawn."""

Cell = tuple[str, str]
"""The class and the inside, in HTML, of one cell."""

HATCHED = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatched" width="6" '
    'height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" '
    'style="fill:var(--failed)"/><rect width="1.6" height="6" style="fill:var(--hatch)"/></pattern></defs></svg>'
)


def page(facts: Facts) -> str:
    """The page."""
    when = facts.period
    days = len(when.days)
    about = f"{day_of(when.since)} to {day_of(when.until)}, {days} {'day' if days == 1 else 'days'}"
    shapes = (runs_by_day, summary, failures, slowest, late, usage, jobs)
    sections = [shape(facts) for shape in shapes]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    links = {"failures": "Failures", "slowest": "Slowest", "late": "Late", "usage": "CPU", "trend": "Jobs"}
    links["utilisation"] = "Workers"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>jobfac report, {escape(about)}</title>
<style>
{style}</style>
</head>
<body>
{HATCHED}
<header>
<h1>What the factory did{escape(": " + facts.only) if facts.only else ""}</h1>
<p>{escape(about)}. Days are UTC; a run belongs to the day on which it ended.
Before: the same time from {day_of(when.before)} on.</p>
<nav>{"".join(f'<a href="#{name}">{title}</a>' for name, title in links.items())}</nav>
</header>
<main>
{tiles(facts)}
{"".join(sections)}{workers(facts)}
</main>
<footer>Made by jobfac at {when.now:%Y-%m-%d %H:%M} UTC.</footer>
</body>
</html>
"""


def day_of(day: date) -> str:
    """Such as 3 March 2027."""
    return f"{day.day} {day:%B %Y}"


def tiles(facts: Facts) -> str:
    """The figures that matter, and how they stood before."""
    now, then = measures.together(facts.runs.values()), measures.together(facts.before.values())
    work = Work()
    for its in facts.work.values():
        work.add(its)

    def against(value: float, former: float) -> str:
        return f"before: {shown(former, Kind.COUNT)}" if former or value else "none before"

    success, before = measures.success(now), measures.success(then)
    figures = [
        ("Runs", shown(measures.ended(now), Kind.COUNT), against(measures.ended(now), measures.ended(then))),
        ("Succeeded", shown(success, Kind.PERCENT) or "–",
         f"before: {shown(before, Kind.PERCENT)}" if before is not None else "nothing before"),
        ("Failed", shown(measures.failed(now), Kind.COUNT), against(measures.failed(now), measures.failed(then))),
        ("Retries", shown(now.retries, Kind.COUNT), against(now.retries, then.retries)),
        ("Late", shown(now.late, Kind.COUNT), against(now.late, then.late)),
        ("Slots busy", shown(measures.percent(work.busy_ms, work.slot_ms), Kind.PERCENT) or "–",
         f"{shown(measures.hours(work.busy_ms), Kind.HOURS)} of executions"),
    ]  # fmt: skip
    inside = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{told}</dd></div>" for name, value, told in figures)
    return f'<dl class="tiles">{inside}</dl>'


def name_of(span: Sequence[date]) -> str:
    """Such as 3 Mar, or 3 Mar to 9 Mar."""
    first, last = (f"{day.day} {day:%b}" for day in (span[0], span[-1]))
    return first if first == last else f"{first} to {last}"


def runs_by_day(facts: Facts) -> str:
    """Two charts under each other: the runs, and the few that failed on a scale of their own."""
    parts = spans(facts.period, MOST_COLUMNS)
    totals = by_span(facts.runs, parts)
    if not facts.runs:
        return section("days", "Runs by day", "", '<p class="empty">Nothing ended in this period.</p>')
    bad = [measures.failed(tally) for tally in totals]
    good = [tally.states["succeeded"] for tally in totals]
    other = [measures.ended(tally) - g - b for tally, g, b in zip(totals, good, bad, strict=True)]
    names = [name_of(span) for span in parts]
    every = 7 * -(-len(parts) // 42) if len(parts) > 14 else 1 + len(parts) // 7
    marks = [at for at in range(0, len(parts), every) if at + every // 2 < len(parts) or not at]
    series = {"succeeded": good, "failed": bad, **({"other": other} if any(other) else {})}
    legend = "".join(
        f'<span><svg aria-hidden="true"><rect width="14" height="14" rx="2" class="{name}"/></svg>{name}</span>'
        for name in series
    )
    both = charts.columns(names, series, "Runs by day", _count, 210)
    alone = charts.columns(names, {"failed": bad}, "Failed runs by day", _count, 110, marks)
    unit = "day" if len(parts[0]) == 1 else f"{len(parts[0])} days"
    inside = f'<div class="legend">{legend}</div>{both}<h3>Failed, on a scale of their own</h3>{alone}'
    return section("days", f"Runs by {unit}", "", inside)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def section(name: str, title: str, note: str, inside: str) -> str:
    """A card of the page."""
    told = f"<p>{escape(note)}</p>" if note else ""
    head = f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
    return f"{head}{told}{inside}</section>\n"


def summary(facts: Facts) -> str:
    """By category, if there are any."""
    report = shaping.summary(facts)
    if len(report.rows) < 2:
        return ""
    return table(report, "", title="By category")


def failures(facts: Facts) -> str:
    """With a bar for the number."""
    report = shaping.failures(facts)
    most = max((row.failures for row in report.rows), default=0)
    return table(
        report,
        "No run failed in this period.",
        drawn={"failures": ("", lambda row: charts.meter(row.failures / most, f"{row.failures} times", "failed"))},
    )


def slowest(facts: Facts) -> str:
    """With a bar for the average."""
    report = shaping.slowest(facts)
    most = max((row.average_seconds or 0 for row in report.rows), default=0) or 1
    return table(
        report,
        "Nothing was executed in this period.",
        drawn={
            "average_seconds": (
                "",
                lambda row: charts.meter((row.average_seconds or 0) / most, duration(row.average_seconds or 0)),
            )
        },
    )


def late(facts: Facts) -> str:
    """With a bar for the share."""
    return table(
        shaping.late(facts),
        "Every run began in time.",
        drawn={"late_percent": ("", lambda row: charts.meter((row.late_percent or 0) / 100, f"{row.late_percent} %"))},
    )


def usage(facts: Facts) -> str:
    """With a bar for the CPU time."""
    report = shaping.usage(facts)
    most = max((row.cpu_hours for row in report.rows), default=0) or 1
    return table(
        report,
        "No usage was recorded in this period.",
        drawn={"cpu_hours": ("", lambda row: charts.meter(row.cpu_hours / most, f"{row.cpu_hours} h"))},
    )


def jobs(facts: Facts) -> str:
    """A line for each job: its runs and how long they took, over the time."""

    def runs(row: JobHistoryRow) -> str:
        told = f"Runs of {row.job}: {min(row.each):,} to {max(row.each):,} at a time"
        return charts.spark(row.each, row.bad, told)

    def times(row: JobHistoryRow) -> str:
        longest = max((value for value in row.taken if value is not None), default=0.0)
        return charts.line(row.taken, f"Average time of {row.job}: at most {duration(longest)}")

    return table(
        job_history(facts, MOST_COLUMNS),
        "No job ran in this period.",
        drawn={"each": ("", runs), "taken": ("", times)},
        most=MOST_JOBS,
    )


def workers(facts: Facts) -> str:
    """How busy each worker was, over the time."""
    parts = spans(facts.period, MOST_COLUMNS)
    report = shaping.utilisation(facts)

    def busy(row: UtilisationRow) -> str:
        shares = []
        for span in parts:
            work = [facts.work[day, row.worker] for day in span if (day, row.worker) in facts.work]
            there = sum(its.slot_ms for its in work)
            shares.append(sum(its.busy_ms for its in work) / there if there else 0.0)
        told = f"{row.worker} was busy at most {max(shares):.0%}"
        return charts.spark(shares, [0.0] * len(shares), told, most=1.0)

    return table(
        report,
        "No worker was there in this period.",
        drawn={
            "attempts": ("busy, 0 to 100 %", busy),
            "busy_percent": ("", lambda row: charts.meter((row.busy_percent or 0) / 100, "busy")),
        },
    )


def table(
    report: Report[Row],
    empty: str,
    drawn: Mapping[str, tuple[str, Callable[[Row], str]]] | None = None,
    title: str = "",
    most: int = MOST_ROWS,
) -> str:
    """A report as a table.

    Args:
        empty: what is said if there is no row.
        drawn: what is drawn behind a column: its title, and from the row to SVG.
        most: rows; of the others it is said how many there are.
    """
    drawn = drawn or {}
    name, title = report.name, title or report.title
    if not report.rows:
        return section(name, title, "", f'<p class="empty">{escape(empty)}</p>')
    heads = []
    for key, (word, kind, spare) in report.columns.items():
        classes = " ".join(filter(None, ("number" if kind in NUMBERS else "", "spare" if spare else "")))
        heads.append(f'<th scope="col" class="{classes}">{escape(word)}</th>')
        if key in drawn and kind is not Kind.SERIES:
            heads.append(f'<th scope="col">{escape(drawn[key][0])}</th>')
    body = "".join(_line(report, row, drawn) for row in report.rows[:most])
    foot = f"<tfoot>{_line(report, report.total, {}, list(drawn))}</tfoot>" if report.total else ""
    left = max(0, len(report.rows) - most)
    rest = f'<p class="empty">And {left:,} more, which <code>jobfac report {name}</code> shows.</p>' if left else ""
    inside = f'<div class="wide"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>{body}</tbody>'
    return section(name, title, report.note, f"{inside}{foot}</table></div>{rest}")


def _line(
    report: Report[Row],
    row: Row,
    drawn: Mapping[str, tuple[str, Callable[[Row], str]]],
    blank: Sequence[str] = (),
) -> str:
    cells = []
    for at, (key, (_, kind, spare)) in enumerate(report.columns.items()):
        text = escape(shown(getattr(row, key), kind))
        classes = ["number"] if kind in NUMBERS else []
        if key == "reason":
            classes.append("words")
        if key == "state":
            text = f'<span class="ended">{text}</span>'
        if spare:
            classes.append("spare")
        tag = 'th scope="row"' if at == 0 else "td"
        if kind is Kind.SERIES:
            text = drawn[key][1](row)
        cells.append(f'<{tag} class="{" ".join(classes)}">{text}</{tag.split()[0]}>')
        if key in drawn and kind is not Kind.SERIES:
            cells.append(f"<td>{drawn[key][1](row)}</td>")
        elif key in blank:
            cells.append("<td></td>")
    return f"<tr>{''.join(cells)}</tr>"
