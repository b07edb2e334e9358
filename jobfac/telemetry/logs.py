"""Structured logs on top of the standard library's logging: text on a terminal, JSON lines elsewhere.

Every line has a sentence and an ``action``. Lines about a run have the fields ``run``, ``attempt``, ``job`` and
``worker``.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobfac.settings import Settings
from jobfac.telemetry.log_stream import LogStream
from jobfac.telemetry.log_throttle import LogThrottle

if TYPE_CHECKING:
    from jobfac.store.workers import Expiry


_repeated = LogThrottle()


class Log:
    """A logger with fields that are added to each of its lines. It is safe to use from any thread."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any]) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: Any) -> "Log":
        """Return the same logger with additional fields."""
        return Log(self._logger, {**self._fields, **fields})

    def debug(self, sentence: str, **fields: Any) -> None:
        """Log a detail for developers."""
        self._write(logging.DEBUG, sentence, fields)

    def info(self, sentence: str, **fields: Any) -> None:
        """Log a normal event."""
        self._write(logging.INFO, sentence, fields)

    def warning(self, sentence: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Log a problem that jobfac handles itself. ``exc_info`` adds the traceback of the current exception."""
        self._write(logging.WARNING, sentence, fields, exc_info)

    def outage(self, sentence: str, **fields: Any) -> None:
        """Log a problem that a loop meets again and again, such as a database that refuses the login: the same line
        once a minute. ``left_out`` in the next one says how often it was met meanwhile."""
        cause = (self._logger.name, sentence, str(self._fields), str(fields))
        if (left_out := _repeated.due(cause)) is not None:
            self._write(logging.WARNING, sentence, fields | ({"left_out": left_out} if left_out else {}))

    def error(self, sentence: str, **fields: Any) -> None:
        """Log a problem that an operator must handle."""
        self._write(logging.ERROR, sentence, fields)

    def exception(self, sentence: str, **fields: Any) -> None:
        """Log an unexpected exception, with its traceback."""
        self._write(logging.ERROR, sentence, fields, exc_info=True)

    def _write(self, level: int, sentence: str, fields: Mapping[str, Any], exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", sentence, exc_info=exc_info, extra={"fields": {**self._fields, **fields}})


def logger(name: str) -> Log:
    """Return the logger with this name, such as ``jobfac.worker``. ``configure`` sets its output."""
    return Log(logging.getLogger(name), {})


def _silence() -> Log:
    silent = logging.Logger("silence")
    silent.disabled = True
    return Log(silent, {})


SILENCE = _silence()
"""A logger that drops every line."""


def configure(settings: Settings) -> None:
    """Configure logging for a role: jobfac's lines and warnings of libraries go to standard error."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = LogStream(sys.stderr)
    handler.setFormatter(_Text() if form == "text" else _Json())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("jobfac").setLevel(settings.log_level.upper())


class _Json(logging.Formatter):
    """One JSON object for each line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=repr)


class _Text(logging.Formatter):
    """Time, level, sentence and fields on one line. A traceback follows on separate lines."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        text = f"{_timestamp(record)} {record.levelname.lower():8} {_printable(record.getMessage())}  {' '.join(pairs)}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields of a record, its action first. Records of libraries get the action ``library``."""
    fields: Mapping[str, Any] | None = getattr(record, "fields", None)
    if fields is None:
        return {"action": "library", "library": record.name}
    return {"action": fields["action"], **fields} if "action" in fields else fields


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _value(value: object) -> str:
    """Return the value as text, quoted if it is ambiguous or contains control characters."""
    text = str(value)
    return text if text and text.isprintable() and not set(' "=') & set(text) else repr(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def log_expiry(log: Log, expiry: "Expiry", by: str) -> None:
    """Log the workers whose leases ``by`` expired, the new state of each of their runs, and that some runs wait."""
    for name in expiry.workers:
        log.warning("a worker died", action="worker_died", worker=name, by=by)
    for expired in expiry.runs:
        log.warning(
            "a run lost its worker", action="run_orphaned", run=expired.run, attempt=expired.attempt, job=expired.job,
            worker=expired.worker, state=expired.state, by=by,
        )  # fmt: skip
    if expiry.doubted:
        log.outage(
            "silent workers are not taken for dead yet: perhaps they could not reach the database for a while",
            action="expire_waits", workers=expiry.doubted,
        )  # fmt: skip
    if expiry.locked:
        log.outage(
            "dead workers keep some runs: an open transaction has locked a run, a job or a concurrency key",
            action="expire_waits", workers=expiry.locked,
        )  # fmt: skip
