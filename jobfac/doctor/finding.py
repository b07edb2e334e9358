"""What a check says, and how checks are run so that whatever is broken is a finding too."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # works, and may not for long, or could be better
    PROBLEM = "problem"  # something does not work


class Finding(NamedTuple):
    """What a check saw. ``remedy``: what helps, empty where nothing needs help."""

    check: str
    state: State
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def run(name: str, check: Check) -> list[Finding]:
    """The findings of a check; one that fails has found something, too."""
    try:
        return list(check())
    except Exception as error:  # a doctor that dies of a disease helps nobody
        return [
            Finding(name, State.WARNING, f"not checked: {said(error)}", "Mend what is named here, then look again.")
        ]


def said(error: BaseException) -> str:
    """The text of an error on one line, of a database's error the driver's own words."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".") or type(error).__name__
