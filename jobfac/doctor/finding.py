"""The result of a check, and how checks are run: a check that raises becomes a finding."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from jobfac.errors import DatabaseDamaged


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"  # it works, but may soon fail or can be improved
    PROBLEM = "problem"  # something does not work


class Finding(NamedTuple):
    """What a check found. ``remedy`` says how to correct it; it is empty if all is well."""

    check: str
    state: State
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def run_check(name: str, check: Check) -> list[Finding]:
    """Return the findings of a check. A check that raises becomes a warning named ``name``."""
    try:
        return list(check())
    except DatabaseDamaged as error:
        return [Finding(name, State.PROBLEM, error_text(error), "Nothing that the database says can be relied on.")]
    except Exception as error:  # a failing check must not stop the report
        remedy = "Correct this error, then run `jobfac doctor` again."
        return [Finding(name, State.WARNING, f"not checked: {error_text(error)}", remedy)]


def error_text(error: BaseException) -> str:
    """Return an error's text on one line. For a database error this is the driver's text."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".") or type(error).__name__
