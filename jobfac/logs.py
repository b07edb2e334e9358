"""Structured logs: text on a terminal, JSON lines elsewhere; every line names its action, and what it concerns by
``run``, ``attempt``, ``job`` and ``worker``."""

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from jobfac.settings import Settings

if TYPE_CHECKING:
    from jobfac.leases import Expiry

SILENT = ("sqlalchemy.pool",)
"""Libraries that write tracebacks about what the roles say in a sentence: that the database is away."""


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
        structlog.get_logger(record.name).log(
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
