"""Structured logs: text on a terminal, JSON lines elsewhere; every line names its action, and what it concerns by
``run``, ``attempt``, ``job`` and ``worker``."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobfac.settings import Settings

if TYPE_CHECKING:
    from jobfac.store.workers import Expiry


@contextmanager
def _without_rich() -> Iterator[None]:
    """structlog loads rich wherever it finds it, for tracebacks of a form that no role writes: 5 MB and a tenth of the
    time that a command takes to start. (Lists and tables load it when they need it.)"""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["rich"]


with _without_rich():
    import structlog

SILENT = ("sqlalchemy.pool",)
"""Libraries that write tracebacks about what the roles say in a sentence: that the database is away."""


SILENCE: Any = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
"""A log that nobody reads."""


def logger(name: str) -> Any:
    """The log of a part of jobfac; ``configure`` says where its lines go."""
    return structlog.get_logger(name)


def configure(settings: Settings) -> None:
    """Set up logging for a role. Logs go to standard error, those of libraries too, from warnings on."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    render = structlog.dev.ConsoleRenderer() if form == "text" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Foreign()], level=logging.WARNING, force=True)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _Foreign(logging.Handler):
    """What libraries log, in the form of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger(record.name).log(
            record.levelno, record.getMessage(), action="library", library=record.name, exc_info=record.exc_info
        )


def tell_expiry(log: Any, expiry: "Expiry", by: str) -> None:
    """Log who died, and what became of the runs that it held, as ``by`` has settled it."""
    for name in expiry.workers:
        log.warning("a worker died", action="worker_died", worker=name, by=by)
    for one in expiry.runs:
        log.warning(
            "a run lost its worker", action="run_orphaned", run=one.run, attempt=one.attempt, job=one.job,
            worker=one.worker, state=one.state, by=by,
        )  # fmt: skip
