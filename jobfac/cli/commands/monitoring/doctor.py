"""`doctor`: what is wrong here, and what helps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from jobfac.cli.common import DONE, UNREACHABLE, UNSUCCESSFUL, Json
from jobfac.cli.rendering.printing import print_drawn, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobfac.doctor import Finding


def doctor(as_json: Json = False) -> None:
    """Check this machine, the database and the factory; exits 1 if there is a problem, 5 without the database."""
    from jobfac.doctor import State, examine, is_unreachable

    findings = examine()
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_drawn(_picture(findings))
    if is_unreachable(findings):
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(UNSUCCESSFUL if any(one.state is State.PROBLEM for one in findings) else DONE)


def _picture(findings: "Sequence[Finding]") -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    signs = {"ok": ("✔", "green"), "warning": ("!", "bold yellow"), "problem": ("✘", "bold red")}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        sign, style = signs[one.state]
        found = Text(one.found)
        if one.remedy:
            found.append(f"\n{one.remedy}", "cyan")
        table.add_row(Text(sign, style=style), Text(one.check, style="" if one.state == "ok" else style), found)
    counts = [sum(one.state == state for one in findings) for state in ("problem", "warning")]
    words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in zip(counts, ("problem", "warning"), strict=True) if n]
    style = "bold red" if counts[0] else "bold yellow" if counts[1] else "green"
    return Group(table, Text(), Text(" and ".join(words) or "All is well", style=style))
