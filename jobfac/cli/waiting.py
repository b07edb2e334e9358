"""Say that runs of a job wait, and do not follow what has been changed."""

from jobfac.cli.client import Backend
from jobfac.cli.rendering.printing import note
from jobfac.states import WAITING

MOST = 1000
"""The maximum number of runs that are counted."""


def number(factory: Backend, job: str) -> int:
    """Return how many runs of the job wait. Called before a change, since what fails after it would deny the change."""
    from jobfac.store.history.search import Filter

    return len(factory.runs(Filter(job=job, states=sorted(WAITING)), MOST))


def say(job: str, number: int) -> None:
    """Say how many runs of the job wait."""
    if number:
        what = "One run of it waits" if number == 1 else f"{_many(number)} runs of it wait"
        note(f"{what} and will start; `jobfac stop --job {job} --all` stops all of its runs.")


def say_version(number: int) -> None:
    """Say how many runs of a job wait that has another version now."""
    if number:
        note(f"Its runs that wait keep their version ({_many(number)}); stop and retry them if they need the new one.")


def _many(number: int) -> str:
    return f"{number:,} or more" if number == MOST else f"{number:,}"
