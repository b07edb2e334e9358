"""Print JSON, tables, fields and notes. Control characters in texts of programs are removed."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from jobfac.cli.rendering.fit import GAP, fit
from jobfac.cli.rendering.text import cell, printable, printable_lines, text_of
from jobfac.cli.streams import note as note
from jobfac.cli.times import write_short
from jobfac.control_characters import escape_quoted
from jobfac.views.serialization import all_as_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

Row = TypeVar("Row", bound=tuple[Any, ...])
Columns = Mapping[str, str | Callable[[Row], object]]
"""By the title of a column: the name of a field of the view, or a function from the view to a value."""


def print_text(text: str) -> None:
    """Print text for other programs: UTF-8 regardless of the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
    sys.stdout.flush()


def print_json(document: Any) -> None:
    """Print an indented JSON document."""
    print_text(escape_quoted(json.dumps(document, indent=2, ensure_ascii=False)) + "\n")


def print_list(rows: Sequence[Row], columns: Columns[Row], empty: str, as_json: bool, limit: int | None = None) -> None:
    """Print views as a JSON array or as a table. ``empty``: the note if there are none and no JSON is printed.

    ``limit``: how many there could be at most; a note says if there are so many.
    """
    print_json(all_as_json(rows)) if as_json else print_table(rows, columns, empty)
    if limit is not None and len(rows) >= limit:
        note(f"There may be more than these {limit:,}: raise --limit.")


def print_table(rows: Iterable[Row], columns: Columns[Row], empty: str) -> None:
    """Print a table of views, one line for each. ``empty``: the note if there are none.

    On a terminal the table fits its width: times are written short, long texts are cut, and the last columns are left
    out where there is no room.
    """
    from rich.console import Console

    rows = list(rows)
    if not rows:
        note(empty)
        return
    console = Console()
    width = console.width if console.is_terminal else None
    whole = [[_whole(row, shown) for shown in columns.values()] for row in rows]
    widths = _widths(columns, whole)
    if width is None or sum(widths) + GAP * (len(widths) - 1) <= width:
        print_drawn(_table(columns, whole, widths))
        return
    now = datetime.now(UTC)
    short = [[_short(row, shown, now) for shown in columns.values()] for row in rows]
    cuttable = [any(_is_text(row, shown) for row in rows) for shown in columns.values()]
    print_drawn(_table(columns, short, fit(_widths(columns, short), cuttable, width)))


def _whole(row: Row, shown: str | Callable[[Row], object]) -> "Text":
    text = cell(shown(row) if callable(shown) else getattr(row, shown))
    text.plain = printable(text.plain)
    return text


def _short(row: Row, shown: str | Callable[[Row], object], now: datetime) -> "Text":
    """Return the cell with a short time."""
    from rich.text import Text

    value = None if callable(shown) else getattr(row, shown)
    return Text(write_short(value, now)) if isinstance(value, datetime) else _whole(row, shown)


def _is_text(row: Row, shown: str | Callable[[Row], object]) -> bool:
    return callable(shown) or isinstance(getattr(row, shown), str | list | dict)


def _widths(columns: Columns[Row], cells: "Sequence[Sequence[Text]]") -> list[int]:
    return [max(len(title), *(line[place].cell_len for line in cells)) for place, title in enumerate(columns)]


def _table(columns: Columns[Row], cells: "Sequence[Sequence[Text]]", widths: Sequence[int]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    places = [place for place, width in enumerate(widths) if width]
    titles = list(columns)
    for place in places:
        table.add_column(titles[place], no_wrap=True, overflow="ellipsis", width=widths[place])
    for line in cells:
        table.add_row(*(line[place] for place in places))
    return table


def print_drawn(drawing: "RenderableType") -> None:
    """Print a table or a tree. In a pipe or a file its lines are not wrapped."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(drawing)
        return
    lines = io.StringIO()
    Console(file=lines, width=1_000_000).print(drawing)
    sys.stdout.writelines(line.rstrip() + "\n" for line in lines.getvalue().rstrip("\n").split("\n"))


def print_fields(fields: Mapping[str, object], write: Callable[[str], None] = typer.echo) -> None:
    """Print the fields of an object that have a value, one on each line. Further lines of a value are indented."""
    width = max(map(len, fields))
    for name, value in fields.items():
        if value is not None:
            write(f"{name:<{width}}  {printable_lines(text_of(value), width + 2)}")
