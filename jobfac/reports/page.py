"""All reports as one HTML page, which loads no other files and contains no scripts."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path

from jobfac.reports import charts, measures, shaping
from jobfac.reports.facts import Facts
from jobfac.reports.form import NUMBERS, duration, shown
from jobfac.reports.history import by_span, job_history, spans
from jobfac.reports.rows import JobHistoryRow, Kind, Report, Row, UtilisationRow
from jobfac.store.history.totals import Work

MOST_COLUMNS = 92
"""The maximum number of columns of a chart. In a longer period each column stands for several days."""

MOST_ROWS = 15
"""The maximum number of rows of a table; all rows are in the other formats of a report."""

MOST_JOBS = 100
"""The maximum number of jobs in the table of histories."""

HATCHED = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatched" width="6" '
    'height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" '
    'style="fill:var(--failed)"/><rect width="1.6" height="6" style="fill:var(--hatch)"/></pattern></defs></svg>'
)


def page(facts: Facts) -> str:
    """Return the HTML page."""
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
<h1>Runs{escape(": " + facts.filter_text) if facts.filter_text else ""}</h1>
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
    """Return a day such as 3 March 2027."""
    return f"{day.day} {day:%B %Y}"


def tiles(facts: Facts) -> str:
    """Return the key numbers, each with its value in the preceding period."""
    now, then = measures.add_up(facts.by_job.values()), measures.add_up(facts.before_by_job.values())
    work = Work()
    for of_day in facts.work.values():
        work.add(of_day)

    def compared(value: float, former: float) -> str:
        return f"before: {shown(former, Kind.COUNT)}" if former or value else "none before"

    success, before = measures.success_percent(now), measures.success_percent(then)
    numbers = [
        ("Runs", shown(measures.ended(now), Kind.COUNT), compared(measures.ended(now), measures.ended(then))),
        ("Succeeded", shown(success, Kind.PERCENT) or "–",
         f"before: {shown(before, Kind.PERCENT)}" if before is not None else "nothing before"),
        ("Failed", shown(measures.failed(now), Kind.COUNT), compared(measures.failed(now), measures.failed(then))),
        ("Retries", shown(now.retries, Kind.COUNT), compared(now.retries, then.retries)),
        ("Late", shown(now.late, Kind.COUNT), compared(now.late, then.late)),
        ("Slots busy", shown(measures.percent(work.busy_ms, work.slot_ms), Kind.PERCENT) or "–",
         f"{shown(measures.hours(work.busy_ms), Kind.HOURS)} of executions"),
    ]  # fmt: skip
    inside = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{note}</dd></div>" for name, value, note in numbers)
    return f'<dl class="tiles">{inside}</dl>'


def name_of(span: Sequence[date]) -> str:
    """Return the name of a span, such as 3 Mar, or 3 Mar to 9 Mar."""
    first, last = (f"{day.day} {day:%b}" for day in (span[0], span[-1]))
    return first if first == last else f"{first} to {last}"


def runs_by_day(facts: Facts) -> str:
    """Return two charts, one above the other: all runs, and the failed runs on their own scale."""
    parts = spans(facts.period, MOST_COLUMNS)
    totals = by_span(facts.runs, parts)
    if not facts.runs:
        return section("days", "Runs by day", "", '<p class="empty">No run ended in this period.</p>')
    bad = [measures.failed(of_span) for of_span in totals]
    good = [of_span.states["succeeded"] for of_span in totals]
    other = [measures.ended(of_span) - g - b for of_span, g, b in zip(totals, good, bad, strict=True)]
    names = [name_of(span) for span in parts]
    every = 7 * -(-len(parts) // 42) if len(parts) > 14 else 1 + len(parts) // 7
    marks = [at for at in range(0, len(parts), every) if at + every // 2 < len(parts) or not at]
    series = {"succeeded": good, "failed": bad, **({"other": other} if any(other) else {})}
    legend = "".join(
        f'<span><svg aria-hidden="true"><rect width="14" height="14" rx="2" class="{name}"/></svg>{name}</span>'
        for name in series
    )
    all_runs = charts.columns(names, series, "Runs by day", _count, 210)
    failed_runs = charts.columns(names, {"failed": bad}, "Failed runs by day", _count, 110, marks)
    unit = "day" if len(parts[0]) == 1 else f"{len(parts[0])} days"
    inside = f'<div class="legend">{legend}</div>{all_runs}<h3>Failed runs, on their own scale</h3>{failed_runs}'
    return section("days", f"Runs by {unit}", "", inside)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def section(name: str, title: str, note: str, inside: str) -> str:
    """Return a section of the page. ``title`` and ``inside`` are HTML, ``note`` is text."""
    paragraph = f"<p>{escape(note)}</p>" if note else ""
    head = f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
    return f"{head}{paragraph}{inside}</section>\n"


def summary(facts: Facts) -> str:
    """Return the summary by category, or an empty text if there are fewer than two."""
    report = shaping.summary(facts)
    if len(report.rows) < 2:
        return ""
    return table(report, "", title="By category")


def failures(facts: Facts) -> str:
    """Return the table of failures, with a bar for the number."""
    report = shaping.failures(facts)
    most = max((row.failures for row in report.rows), default=0)
    return table(
        report,
        "No run failed in this period.",
        drawn={"failures": ("", lambda row: charts.meter(row.failures / most, f"{row.failures} times", "failed"))},
    )


def slowest(facts: Facts) -> str:
    """Return the table of the slowest jobs, with a bar for the average time."""
    report = shaping.slowest(facts)
    most = max((row.average_seconds or 0 for row in report.rows), default=0) or 1
    return table(
        report,
        "No run was executed in this period.",
        drawn={
            "average_seconds": (
                "",
                lambda row: charts.meter((row.average_seconds or 0) / most, duration(row.average_seconds or 0)),
            )
        },
    )


def late(facts: Facts) -> str:
    """Return the table of late runs, with a bar for their share."""
    return table(
        shaping.late(facts),
        "Every run began on time.",
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
    """Return the table of jobs, with charts of their runs and average times."""

    def runs(row: JobHistoryRow) -> str:
        title = f"Runs of {row.job}: {min(row.each):,} to {max(row.each):,} at a time"
        return charts.spark(row.each, row.bad, title)

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
    """Return the table of workers, with charts of how busy they were."""
    parts = spans(facts.period, MOST_COLUMNS)
    report = shaping.utilisation(facts)

    def busy(row: UtilisationRow) -> str:
        shares = []
        for span in parts:
            work = [facts.work[day, row.worker] for day in span if (day, row.worker) in facts.work]
            slot_ms = sum(of_day.slot_ms for of_day in work)
            shares.append(sum(of_day.busy_ms for of_day in work) / slot_ms if slot_ms else 0.0)
        title = f"{row.worker} was busy at most {max(shares):.0%}"
        return charts.spark(shares, [0.0] * len(shares), title, most=1.0)

    return table(
        report,
        "No worker ran in this period.",
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
    """Return a report as a section with a table.

    Args:
        empty: the text if there are no rows.
        drawn: by column, the title of a chart after the column, and the function that draws it from a row.
        title: replaces the report's title.
        most: the maximum number of rows. A note says how many were left out.
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
