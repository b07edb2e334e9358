"""The request of the worker, read from its file and the environment."""

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.settings.database_url import passwords_in, read_url
from jobfac.sqljob.scripts import ScriptError


@dataclass(frozen=True)
class Request:
    """A script to run. ``url`` has the password, so it is never shown."""

    url: sa.URL = field(repr=False)
    script: str
    database: str | None = None
    on_error: str = "stop"
    timeout: float | None = None
    isolation: str | None = None
    result: str = "rows"
    session: str = ""
    """A name that the sessions of all attempts of this run have, and no others; empty: none."""

    def hide(self, text: str) -> str:
        """Return the text with the passwords masked."""
        for password in self._passwords:
            text = text.replace(password, "***")
        return text

    @cached_property
    def _passwords(self) -> list[str]:
        """The passwords in the URL, the longest first: a shorter one may be a part of it."""
        found = set(passwords_in(self.url.render_as_string(hide_password=False)))
        return sorted(found - {""}, key=len, reverse=True)


def read_request() -> Request:
    """Return the request of the worker that started this process.

    Raises:
        ScriptError: it is not complete, or the script cannot be read.
    """
    path, url = os.environ.get("JOBFAC_SQL_FILE"), os.environ.pop("JOBFAC_SQL_URL", None)
    if path is None or url is None:
        raise ScriptError("this program is started by a worker for a sql job; use jobfac start or jobfac try")
    body: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    file = body.pop("file", None)
    script = body.pop("text", None) if file is None else _read_script(file)
    try:
        made = read_url(url)
    except sa.exc.ArgumentError as error:
        raise ScriptError(f"sql.connection cannot be used: {error}") from None
    return Request(made, script, **body)


def read_parameters() -> dict[str, Any]:
    """Return the parameters of the run by name."""
    path = os.environ.get("JOBFAC_PARAMETERS_FILE")
    if path is None:
        return {}
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def _read_script(file: str) -> str:
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise ScriptError(f"the script {file} cannot be read: {error.strerror}") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise ScriptError(f"the script {file} is not text in UTF-8 or UTF-16; save it as one of them") from None
