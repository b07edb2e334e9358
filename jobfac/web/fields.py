"""Form fields for parameters: of a start, and of a step that asks its approver for values."""

from collections.abc import Mapping
from typing import Any

from jobfac.definitions.parameters import Parameter
from jobfac.web.visit import Visit

PARAMETER = "parameter."
"""What the name of a parameter's field begins with."""


def of_form(visit: Visit) -> dict[str, str]:
    """Return the fields for parameters that the form has, by their names in the form."""
    return {name: visit.field(name) for name in visit.body if name.startswith(PARAMETER)}


def text(value: Any) -> str:
    """Return a value as a field has it: a boolean is ``true`` or ``false``, as in definitions."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read(declared: Mapping[str, Parameter], values: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that were given, by parameter. The operation checks them.

    It refuses those of parameters that are no longer declared, which the form had when it was opened.
    """
    names = {name.removeprefix(PARAMETER) for name in values if name.startswith(PARAMETER)}
    given: dict[str, Any] = {
        name: text for name in sorted(names - declared.keys()) if (text := values[PARAMETER + name].strip())
    }
    for name, parameter in declared.items():
        text = values.get(PARAMETER + name, "").strip()
        if text:
            given[name] = [part.strip() for part in text.split(",")] if parameter.many else text
    return given


def words(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that gives these values. Sensitive ones are left out."""
    found: list[str] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            found += ["--set", f"{name}={'...' if declared[name].sensitive else one}"]
    return found
