"""Structured logs: text on a terminal, JSON lines elsewhere; every line names its action."""

import logging
import sys

import structlog

from jobfac.settings import Settings


def configure(settings: Settings) -> None:
    """Set up logging for a role. Logs go to standard error."""
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
