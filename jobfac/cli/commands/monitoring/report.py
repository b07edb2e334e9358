"""`report`: statistics of runs as tables, JSON, CSV or an HTML page."""

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.client import backend
from jobfac.cli.client.values import ReportRequest
from jobfac.cli.common import USAGE, Json, fail, utc_day
from jobfac.cli.rendering.fit import fit
from jobfac.cli.rendering.printing import note, print_json
from jobfac.cli.rendering.text import printable
from jobfac.views.serialization import all_as_json, as_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from jobfac.reports import Report

NAMES = ("summary", "failures", "slowest", "late", "usage", "trend", "utilisation", "all")

EARLIEST = date(1970, 1, 1)
"""The earliest first day. There are no runs before it, and a report also reads the period before its own."""

CUT = ("job", "category", "worker", "reason")
"""Columns whose texts may be cut."""

NARROW = 110
"""The terminal width in columns below which less important columns are left out."""

WIDE = 160
"""The width in columns of output that is not a terminal."""


def report(
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES[:-1])} or all.")] = "summary",
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day (UTC), yesterday, or a duration: 60d.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day; default: today.")] = None,
    job: Annotated[str | None, typer.Option(help="Only this job.", autocompletion=completion.jobs)] = None,
    category: Annotated[str | None, typer.Option(help="Only jobs of this category.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum rows of a table; JSON and CSV have all rows.")] = 30,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all reports to this HTML file.")] = None,
) -> None:
    """Report on the last 30 days: counts, failures, times, lateness, and utilisation of the workers."""
    if name not in NAMES:
        fail(USAGE, f"'{name}' is not a report; the reports are {', '.join(NAMES)}.")
    if as_csv and name == "all":
        fail(USAGE, "--csv prints one report; name one of " + ", ".join(NAMES[:-1]) + ".")
    if sum((as_json, as_csv, html is not None)) > 1:
        fail(USAGE, "--json, --csv and --html exclude each other; give one of them.")
    begin, end = _day(since, "--since"), _day(until, "--until")
    if begin and end and begin > end:
        fail(USAGE, f"--since ({begin}) must not be later than --until ({end}).")
    wanted = ReportRequest(begin, end, job, category)
    with backend() as factory:
        if html is not None:
            _write(html, factory.report_page(wanted))
            return
        spans = None if as_json or as_csv or job else _spans()
        made = factory.reports(NAMES[:-1] if name == "all" else (name,), wanted, spans)
    reports = [one.report for one in made]
    if as_json:
        documents = [_document(one) for one in reports]
        print_json(documents if name == "all" else documents[0])
    elif as_csv:
        from jobfac.reports.table import write_csv

        write_csv(sys.stdout, list(reports[0].columns), all_as_json(reports[0].rows), "\n")
    else:
        for one in made:
            _show(one.report, one.only, limit)


def _day(text: str | None, option: str) -> date | None:
    return None if text is None else max(utc_day(text, option), EARLIEST)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(USAGE, f"The page cannot be written to {path}: {error.strerror}; choose another file.")
    note(f"The report was written to {path}.")


def _document(made: "Report[Any]") -> dict[str, Any]:
    head = {"report": made.name, "since": made.period.since.isoformat(), "until": made.period.until.isoformat()}
    total = {} if made.total is None else {"total": as_json(made.total)}
    return {**head, "rows": all_as_json(made.rows), **total}


def _spans() -> int:
    """The number of spans of days that a line of the terminal has room for."""
    return 20 if _console().width < NARROW else 30


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _show(made: "Report[Any]", only: str, limit: int) -> None:
    from rich.text import Text

    console = _console()
    subtitle = f"{made.period.since} to {made.period.until}, UTC{', ' + only if only else ''}"
    console.print(Text.assemble((made.title, "bold"), f"  {subtitle}"))
    if not made.rows:
        console.print("No data in this period.\n")
        return
    console.print(_table(made, limit, console.width))
    more = f"{len(made.rows) - limit:,} more rows: raise --limit. " if len(made.rows) > limit else ""
    console.print(Text(f"{more}{made.note}\n", style="dim"))


def _table(made: "Report[Any]", limit: int, width: int) -> "Table":
    """Return the rows as a table that fits the width: less important columns are left out, and texts are cut."""
    from rich.table import Table
    from rich.text import Text

    from jobfac.reports.form import NUMBERS, shown

    columns = {key: column for key, column in made.columns.items() if not (width < NARROW and column.spare)}
    lines = [made.rows[:limit], [made.total] if made.total else []]
    cells, footers = (
        [[printable(shown(getattr(row, key), kind)) for key, (_, kind, _) in columns.items()] for row in part]
        for part in lines
    )
    longest = [
        max([len(title), *(len(line[place]) for line in [*cells, *footers])])
        for place, (title, _, _) in enumerate(columns.values())
    ]
    fitted = fit(longest, [key in CUT for key in columns], width)
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=bool(footers))
    places = [place for place, room in enumerate(fitted) if room]
    for place in places:
        title, kind, _ = list(columns.values())[place]
        footer = footers[0][place] if footers else ""
        justify: Any = "right" if kind in NUMBERS else "left"
        options: Any = {"no_wrap": True, "overflow": "ellipsis", "width": fitted[place], "footer_style": "bold"}
        table.add_column(title.upper(), footer=footer, justify=justify, **options)
    for line in cells:
        table.add_row(*(Text(line[place]) for place in places))
    return table
