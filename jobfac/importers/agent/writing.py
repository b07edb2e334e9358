"""Writes imported jobs as a definitions file, with a comment above each Agent job."""

from collections.abc import Iterable

from jobfac.definitions import Definitions, dump, from_data
from jobfac.importers.agent.definitions import Defined


def write(found: Iterable[Defined]) -> str:
    """Return the YAML of the jobs. The same jobs give the same text.

    Raises:
        DefinitionError: the definitions cannot be used together.
    """
    listed = list(found)
    checked = from_data({"jobs": {name: body for one in listed for name, body in one.bodies.items()}})
    parts = ["# Imported from SQL Server Agent. Every job is disabled: enable one when its Agent job is off.\njobs:\n"]
    for one in listed:
        parts.append(f"  # Agent job {_line(one.source.name)}{_owner(one)}\n")
        body = dump(Definitions({name: checked.jobs[name] for name in one.bodies}))
        parts.append(body.removeprefix("jobs:\n"))
    return "".join(parts)


def _owner(one: Defined) -> str:
    owner = f", owner {_line(one.source.owner)}" if one.source.owner else ""
    return owner + ("" if one.source.enabled else ", disabled in Agent")


def _line(text: str) -> str:
    """Return the text in quotes, on one line, without characters that are invalid in a comment."""
    return "'" + "".join(letter if letter.isprintable() else " " for letter in text) + "'"
