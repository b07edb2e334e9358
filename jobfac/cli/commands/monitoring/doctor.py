"""`doctor`: print problems and their remedies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import DONE, UNREACHABLE, UNSUCCESSFUL, Json
from jobfac.cli.rendering.printing import print_drawn, print_json
from jobfac.cli.rendering.text import printable_lines
from jobfac.cli.streams import reader_may_leave
from jobfac.errors import JobfacError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobfac.doctor import Finding


def doctor(as_json: Json = False) -> None:
    """Check this machine, the database and the factory. Exit code 1: a problem; 5: the database is unreachable."""
    from jobfac.doctor import State, examine, is_unreachable

    findings = examine()
    if any(finding.check == "api" and finding.state is State.OK for finding in findings):
        findings += _of_server()
    with reader_may_leave():
        if as_json:
            print_json([finding._asdict() for finding in findings])
        else:
            print_drawn(_table(findings))
    if is_unreachable(findings):
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(UNSUCCESSFUL if any(finding.state is State.PROBLEM for finding in findings) else DONE)


def _of_server() -> "Sequence[Finding]":
    """Return what the server finds in the database and in the factory."""
    from jobfac.doctor import Finding, State

    try:
        with backend() as factory:
            return factory.doctor()
    except JobfacError as error:
        remedy = "Use a key of an operator, or run `jobfac doctor` where the API runs."
        return [Finding("factory", State.WARNING, f"not checked: {str(error).rstrip('.')}", remedy)]


def _table(findings: "Sequence[Finding]") -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    signs = {"ok": ("✔", "green"), "warning": ("!", "bold yellow"), "problem": ("✘", "bold red")}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        sign, style = signs[finding.state]
        text = Text(printable_lines(finding.found, 0))
        if finding.remedy:
            text.append(f"\n{printable_lines(finding.remedy, 0)}", "cyan")
        check = Text(finding.check, style="" if finding.state == "ok" else style)
        table.add_row(Text(sign, style=style), check, text)
    counts = [sum(finding.state == state for finding in findings) for state in ("problem", "warning")]
    words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in zip(counts, ("problem", "warning"), strict=True) if n]
    style = "bold red" if counts[0] else "bold yellow" if counts[1] else "green"
    return Group(table, Text(), Text(" and ".join(words) or "No problems", style=style))
