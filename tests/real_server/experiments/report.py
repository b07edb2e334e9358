"""The report: facts of the server, and each experiment's findings, as Markdown for an issue."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import sqlalchemy as sa

from tests.real_server.experiments import blocking, deadlocks, hints, plan_cache, plans
from tests.real_server.experiments.place import Finding, Place, reason, scalar


class Experiment(NamedTuple):
    title: str
    run: Callable[[Place], Iterator[Finding]]


EXPERIMENTS = (
    Experiment("Hints", hints.experiment),
    Experiment("Plans", plans.experiment),
    Experiment("Blocking", blocking.experiment),
    Experiment("Deadlocks", deadlocks.experiment),
    Experiment("Plan cache", plan_cache.experiment),
)

FACTS = {
    "version": "SELECT CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128))",
    "edition": "SELECT CAST(SERVERPROPERTY('Edition') AS NVARCHAR(128))",
    "engine edition": "SELECT CAST(SERVERPROPERTY('EngineEdition') AS INT)",
    "collation": "SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS NVARCHAR(128))",
    "compatibility level": "SELECT compatibility_level FROM sys.databases WHERE name = DB_NAME()",
    "READ_COMMITTED_SNAPSHOT": "SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = DB_NAME()",
    "parameterization forced": "SELECT is_parameterization_forced FROM sys.databases WHERE name = DB_NAME()",
    "accelerated recovery": "SELECT is_accelerated_database_recovery_on FROM sys.databases WHERE name = DB_NAME()",
}
"""What a reader of the report has to know of the server, with the query for it."""


def facts(place: Place) -> Iterator[Finding]:
    """The facts of the server."""
    for name, text in FACTS.items():
        yield place.ask(name, lambda conn, text=text: str(scalar(conn, text)))  # type: ignore[misc]


def findings(place: Place, experiment: Experiment) -> Iterator[Finding]:
    """The findings of an experiment on an emptied database. A failure of it is a finding, too."""
    try:
        place.empty()
        yield from experiment.run(place)
    except (sa.exc.SQLAlchemyError, AssertionError, OSError) as error:
        yield Finding("the experiment itself", f"it ended early: {reason(error)}", is_trouble=True)


def write(place: Place, say: Callable[[str], None]) -> int:
    """Run all experiments and say the report line by line; returns the number of findings that mean trouble."""
    say("## jobfac on SQL Server: five experiments\n")
    troubles = _section("Server", facts(place), say)
    for number, experiment in enumerate(EXPERIMENTS, 1):
        troubles += _section(f"{number}. {experiment.title}", findings(place, experiment), say)
    say(
        f"**{troubles} findings need attention** (marked ⚠): please paste this report into an issue."
        if troubles
        else "Nothing here needs attention. The report is welcome in an issue all the same."
    )
    return troubles


def _section(title: str, found: Iterable[Finding], say: Callable[[str], None]) -> int:
    say(f"### {title}\n")
    troubles = 0
    for one in found:
        troubles += one.is_trouble
        say(f"- {'⚠ ' if one.is_trouble else ''}{one.question}: **{one.answer}**")
    say("")
    return troubles
