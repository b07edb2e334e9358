"""`report`: what ran, as a table, as JSON or CSV for other programs, or as a page to look at."""

import csv
import sys
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli.common import USAGE, Json, database, fail, instant, settings
from jobfac.cli.rendering.printing import note, print_json
from jobfac.cli.rendering.text import printable
from jobfac.views.serialization import all_as_json, as_json

if TYPE_CHECKING:
    from jobfac.reports import Facts, Report

NAMES = ("summary", "failures", "slowest", "late", "usage", "trend", "utilisation", "all")

EARLIEST = date(1970, 1, 1)
"""Nothing ran before, and the first days of the calendar have no period before them."""

FOLDED = ("job", "category", "worker", "reason")
"""Columns that take more than one line where a terminal is narrow."""


NARROW, WIDE = 110, 160
"""Columns of a terminal below which spare ones are left out, and of what is no terminal."""


def report(
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES[:-1])} or all.")] = "summary",
    since: Annotated[str | None, typer.Option(metavar="DAY", help="First day (UTC), or a time back: 60d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day; default: today.")] = None,
    job: Annotated[str | None, typer.Option(help="Of this job only.")] = None,
    category: Annotated[str | None, typer.Option(help="Of the jobs of this category only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of a table at most; JSON and CSV have all.")] = 30,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on standard output.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="All reports as one page, in this file.")] = None,
) -> None:
    """What ran in the last 30 days: counts, failures, times, lateness, and how busy the workers were."""
    from jobfac.reports import REPORTS, facts, page, period

    if name not in NAMES:
        fail(USAGE, f"'{name}' is not a report; there are {', '.join(NAMES)}.")
    if as_csv and name == "all":
        fail(USAGE, "CSV has one report at a time; name one of " + ", ".join(NAMES[:-1]) + ".")
    if sum((as_json, as_csv, html is not None)) > 1:
        fail(USAGE, "--json, --csv and --html exclude each other; give one of them.")
    if settings().api_url:
        fail(USAGE, "A report is made from the database; set JOBFAC_DATABASE_URL, and leave JOBFAC_API_URL unset.")
    begin, end = _day(since, "--since"), _day(until, "--until")
    if begin and end and begin > end:
        fail(USAGE, f"--since ({begin}) must not be later than --until ({end}).")
    with database() as db:
        db.check_schema()
        found = db.query(facts, db.query(period, begin, end), job, category)
    if html is not None:
        _write(html, page(found))
        return
    made = [REPORTS[one](found) for one in (NAMES[:-1] if name == "all" else (name,))]
    if as_json:
        documents = [_document(one) for one in made]
        print_json(documents if name == "all" else documents[0])
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, list(made[0].columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(all_as_json(made[0].rows))
    else:
        for one in made:
            _show(one, found, limit)


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        moment = instant(text, option, back=True).astimezone(UTC)
        # A time back is none with its own date: 30d is thirty days, today included.
        day = moment.date() if "-" in text else (moment + timedelta(days=1)).date()
    return max(day, EARLIEST)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(USAGE, f"The page cannot be written to {path}: {error.strerror}; choose another file.")
    note(f"The report is in {path}.")


def _document(made: "Report[Any]") -> dict[str, Any]:
    about = {"report": made.name, "since": made.period.since.isoformat(), "until": made.period.until.isoformat()}
    total = {} if made.total is None else {"total": as_json(made.total)}
    return {**about, "rows": all_as_json(made.rows), **total}


def _show(made: "Report[Any]", found: "Facts", limit: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from jobfac.reports import job_history
    from jobfac.reports.form import NUMBERS, shown

    console = Console(width=None if sys.stdout.isatty() else WIDE)  # a pipe has no width
    narrow = console.width < NARROW
    if made.name == "trend" and not found.only.startswith("job "):
        made = job_history(found, most=20 if narrow else 30)
    about = f"{made.period.since} to {made.period.until}, UTC{', ' + found.only if found.only else ''}"
    console.print(Text.assemble((made.title, "bold"), f"  {about}"))
    if not made.rows:
        console.print("Nothing to tell of in this period.\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=made.total is not None)
    columns = {key: column for key, column in made.columns.items() if not (narrow and column.spare)}
    for key, (title, kind, _) in columns.items():
        table.add_column(
            title.upper(),
            footer=shown(getattr(made.total, key), kind) if made.total else "",
            footer_style="bold",
            justify="right" if kind in NUMBERS else "left",
            no_wrap=key not in FOLDED,
            overflow="fold",
        )
    for row in made.rows[:limit]:
        table.add_row(*(Text(printable(shown(getattr(row, key), kind))) for key, (_, kind, _) in columns.items()))
    console.print(table)
    left = f"And {len(made.rows) - limit:,} more: raise --limit. " if len(made.rows) > limit else ""
    console.print(Text(f"{left}{made.note}\n", style="dim"))
