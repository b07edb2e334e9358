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


def shown(value: Any) -> str:
    """Return a value of a parameter, or several, as a field shows it."""
    return ", ".join(map(text, value if isinstance(value, list) else [value]))


def lines(typed: str) -> str:
    """Return what a browser has sent for a field of several lines, with the line ends of a text."""
    return typed.replace("\r\n", "\n").replace("\r", "\n")


def is_same(typed: str, former: str) -> bool:
    """Whether a field was sent as it was shown. A browser sends all line ends alike."""
    return lines(typed) == lines(former)


def read(
    declared: Mapping[str, Parameter], values: Mapping[str, str], former: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values that were given, by parameter. The operation checks them.

    It refuses those of parameters that are no longer declared, which the form had when it was opened.

    Args:
        former: the values that the form showed. A field that nobody has changed means its value, which the text in the
            field may not tell, as blanks around it or a comma in one of several.
    """
    names = {name.removeprefix(PARAMETER) for name in values if name.startswith(PARAMETER)}
    given: dict[str, Any] = {
        name: text for name in sorted(names - declared.keys()) if (text := values[PARAMETER + name].strip())
    }
    for name, parameter in declared.items():
        typed = values.get(PARAMETER + name, "")
        if former is not None and former.get(name) is not None and is_same(typed, shown(former[name])):
            given[name] = former[name]
        elif text := typed.strip():
            given[name] = [part.strip() for part in text.split(",") if part.strip()] if parameter.many else text
    return given


def words(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that gives these values. Sensitive ones are left out."""
    found: list[str] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            found += ["--set", f"{name}={'...' if declared[name].sensitive else text(one)}"]
    return found
