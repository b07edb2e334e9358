"""Print JSON, tables, fields and notes. Control characters in texts of programs are removed."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from jobfac.cli.rendering.text import cell, printable, printable_lines, text_of

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = TypeVar("Row", bound=tuple[Any, ...])
Columns = Mapping[str, str | Callable[[Row], str]]
"""By the title of a column: the name of a field of the view, or a function from the view to markup."""


def print_text(text: str) -> None:
    """Print text for other programs: UTF-8 regardless of the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
    sys.stdout.flush()


def print_json(document: Any) -> None:
    """Print an indented JSON document."""
    print_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def note(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(text + "\n")


def print_table(rows: Iterable[Row], columns: Columns[Row], empty: str) -> None:
    """Print a table of views. ``empty``: the note if there are none."""
    from rich.markup import render
    from rich.table import Table

    rows = list(rows)
    if not rows:
        note(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        texts = [render(shown(row) if callable(shown) else cell(getattr(row, shown))) for shown in columns.values()]
        for text in texts:
            text.plain = printable(text.plain)
        table.add_row(*texts)
    print_drawn(table)


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
