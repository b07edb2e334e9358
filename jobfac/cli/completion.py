"""What the shell completes: jobs, runs, workers, pools, categories and states. A failure completes nothing."""

import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from jobfac.control_characters import as_name
from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.cli.client import Backend

T = TypeVar("T")

Offers = list[tuple[str, str]]
"""Words with their explanations."""

PATIENCE = 2.0
"""Seconds after which nothing is offered: the shell and its user wait meanwhile."""

RUNS = 50
"""How many of the latest runs are offered."""

_WORD = re.compile(r"[\w.,:@+/-]+")
"""Words that mean themselves in every shell: bash puts others into the line as they are, to be run with it."""

_ACTIVE = re.compile(r"""[\\`$"']""")
"""Characters of an explanation with which it would be run: zsh evaluates the completions that typer prints."""


def harmless(offers: Iterable[tuple[str, str]]) -> Offers:
    """Return the offers without what a shell would run. Other people name jobs and workers."""
    return [(word, _ACTIVE.sub(" ", as_name(about))) for word, about in offers if _WORD.fullmatch(word)]


def _offered(incomplete: str, read: "Callable[[Backend], Iterable[tuple[str, str]]]") -> Offers:
    """Return what the factory offers and begins with ``incomplete``."""
    offers = _read(lambda factory: dict(read(factory))) or {}
    return harmless((word, about) for word, about in sorted(offers.items()) if word.startswith(incomplete))


def _read(read: "Callable[[Backend], T]") -> "T | None":
    """Return what is read from the factory; None: it failed, or the database or the API does not answer in time."""
    from jobfac.cli.client import backend

    found: list[T] = []

    def begin() -> None:
        with suppress(Exception), backend() as factory:  # a shell that waits for completions must see no error
            found.append(read(factory))

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found[0] if found else None


def jobs(incomplete: str) -> Offers:
    """Complete the id of a job."""
    return _offered(incomplete, lambda factory: ((job.id, job.definition.get("name") or "") for job in factory.jobs()))


def runs(incomplete: str) -> Offers:
    """Complete the id of a run: the latest ones, newest first."""
    from jobfac.store.history.search import Filter

    found = _read(lambda factory: factory.runs(Filter(), RUNS)) or []
    return harmless((str(run.id), f"{run.job} {run.state}") for run in found if str(run.id).startswith(incomplete))


def workers(incomplete: str) -> Offers:
    """Complete the name of a live worker."""
    return _offered(incomplete, lambda factory: ((worker.name, worker.state) for worker in factory.workers(True)))


def pools(incomplete: str) -> Offers:
    """Complete a pool: of the jobs and of the live workers."""

    def read(factory: "Backend") -> Iterable[tuple[str, str]]:
        yield from ((str(job.definition.get("pool", "default")), "") for job in factory.jobs())
        yield from ((pool, "") for worker in factory.workers(True) for pool in worker.pools)

    return _offered(incomplete, read)


def categories(incomplete: str) -> Offers:
    """Complete the category of a job."""
    return _offered(incomplete, lambda factory: ((job.category, "") for job in factory.jobs() if job.category))


def states(incomplete: str) -> Offers:
    """Complete the state of a run."""
    return [(state.value, "") for state in RunState if state.startswith(incomplete)]
