"""What this machine has: settings, drivers, room for output and for open files, a guardian."""

import difflib
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import httpx
import sqlalchemy as sa

from jobfac.database.dialects.mssql import odbc_drivers
from jobfac.doctor.disk import room
from jobfac.doctor.finding import Finding, State, said
from jobfac.programs import Guardian, StartError, private_fault, room_for_programs
from jobfac.settings import Settings, sources

FILES = ("api_tls_certificate", "api_tls_key", "templates")
"""Settings that name something that must exist."""


def settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Names that nothing reads, and files that are not there. The settings themselves could be loaded."""
    found = sources(environment)
    known = [f"JOBFAC_{name.upper()}" for name in found]
    for name in sorted(environment):
        meant = difflib.get_close_matches(name, known, 1, 0.85)
        if name.startswith("JOBFAC_") and name not in known and meant:
            yield Finding("settings", State.WARNING, f"nothing reads {name}", f"Did you mean {meant[0]}?")
    for name in FILES:
        path = found[name].value
        if path and not Path(path).exists():
            remedy = f"Correct it in {found[name].origin}, or put the file there."
            yield Finding("settings", State.PROBLEM, f"{name} is {path}, which does not exist", remedy)
    origins = sorted({source.origin for source in found.values()} - {"default"})
    yield Finding("settings", State.OK, f"defaults, {', '.join(origins)}" if origins else "all are the defaults")


def drivers(url: str) -> Iterator[Finding]:
    """Whether what speaks to the database is installed."""
    target = sa.make_url(url)
    match target.drivername:
        case "mssql+pyodbc":
            yield from _pyodbc(target)
        case "mssql+mssqlpython":
            import mssql_python

            yield Finding("drivers", State.OK, f"mssql-python {getattr(mssql_python, '__version__', '')}".rstrip())
        case _:
            yield Finding("drivers", State.OK, f"SQLite {sqlite3.sqlite_version}, built in")


def _pyodbc(target: sa.URL) -> Iterator[Finding]:
    import pyodbc

    named = target.query.get("driver")
    known = odbc_drivers()
    if isinstance(named, str):
        there = Path(named).exists() if named.startswith("/") else named in known
    else:
        named = max(
            (name for name in known if name.endswith("for SQL Server")), default="ODBC Driver 18 for SQL Server"
        )
        there = named in known
    if there:
        yield Finding("drivers", State.OK, f"pyodbc {pyodbc.version} with {named}")
    else:
        remedy = "Install Microsoft's package msodbcsql18, or name one that is there: ?driver=..."
        has = f"; there are: {', '.join(known)}" if known else ""
        yield Finding("drivers", State.PROBLEM, f"the ODBC driver '{named}' is not installed{has}", remedy)


def missing_driver(error: ImportError, url: str) -> Finding:
    """What to install for this URL."""
    extra = "mssql" if url.startswith("mssql+pyodbc") else "mssql-python"
    system = ", and the system package libodbc2 (unixODBC)" if extra == "mssql" else ""
    return Finding("drivers", State.PROBLEM, f"it cannot be loaded: {said(error)}", f"Install jobfac[{extra}]{system}.")


def spool(folder: Path) -> Iterator[Finding]:
    """Whether the output of programs can be written, by this user alone, and how much room is left for it."""
    if folder.is_dir() and (fault := private_fault(folder)):
        yield Finding("spool", State.PROBLEM, f"{folder} is not safe", f"A worker does not use it: {fault}.")
    place = next(path for path in (folder, *folder.parents) if path.exists())
    remedy = "Let the worker's user write there, or set JOBFAC_SPOOL to another folder."
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Finding("spool", State.PROBLEM, f"{place} cannot be written: {error.strerror}", remedy)
        return
    yield room("spool", place, "Make room, or set JOBFAC_SPOOL to a folder on another disk.")


def guardian() -> Iterator[Finding]:
    """Whether the process that ends a dead worker's programs can be started."""
    one = Guardian()
    try:
        one.start()
    except StartError as error:
        yield Finding("guardian", State.PROBLEM, said(error), "Without one a worker starts no program; mend the cause.")
        return
    finally:
        one.close()
    yield Finding("guardian", State.OK, "it starts")


def files(slots: int) -> Iterable[Finding]:
    """Whether the limit of open files is enough for a worker with so many slots."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    programs = room_for_programs()
    shown = "none" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    found = f"the limit of open files here is {shown}: room for {programs:,} programs at once (slots: {slots:,})"
    if programs >= slots:
        return [Finding("files", State.OK, found)]
    remedy = "Raise it for the worker (systemd: LimitNOFILE, a shell: ulimit -n), or give the worker fewer slots."
    return [Finding("files", State.PROBLEM, found, remedy)]


def api(found: Settings) -> Iterator[Finding]:
    """Whether the API that the command line goes through answers, and takes the key."""
    begun = time.monotonic()
    try:
        answer = httpx.get(
            f"{found.api_url.rstrip('/')}/v1/workers", headers={"Authorization": f"Bearer {found.api_key}"}, timeout=10
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = "Check JOBFAC_API_URL and the server."
        yield Finding("api", State.PROBLEM, f"{found.api_url} cannot be reached: {said(error)}", remedy)
        return
    if answer.is_success:
        yield Finding("api", State.OK, f"{found.api_url} answers in {(time.monotonic() - begun) * 1000:.0f} ms")
    elif answer.status_code in (401, 403):
        remedy = "Set JOBFAC_API_KEY to a key made by `jobfac keys create`."
        yield Finding("api key", State.PROBLEM, f"{found.api_url} does not take it", remedy)
    else:
        remedy = "Check JOBFAC_API_URL, and run `jobfac doctor` where the API runs."
        yield Finding("api", State.PROBLEM, f"{found.api_url} answers {answer.status_code}", remedy)
