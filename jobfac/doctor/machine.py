"""Checks of this machine: settings, drivers, disk space for output, the guardian, the limit of open files, the API."""

import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from zoneinfo import available_timezones

import httpx
import sqlalchemy as sa

from jobfac.client.transport import HEADER_VALUE, authorities, fault, proxy_words
from jobfac.database.dialects.mssql import odbc_drivers
from jobfac.doctor.disk import disk_space
from jobfac.doctor.finding import Finding, State, error_text
from jobfac.programs import Guardian, StartError, private_fault, room_for_programs
from jobfac.settings import Settings, sources
from jobfac.settings.database_url import read_url
from jobfac.settings.misspelt import misspelt
from jobfac.settings.passwords import without_password
from jobfac.times import unknown_zone

PATHS = ("api_tls_certificate", "api_tls_key", "templates")
"""Settings that name a file or folder that must exist."""


def settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check for misspelt variables, missing files, an unknown time zone. The settings must be loadable."""
    loaded = sources(environment)
    for name, meant in misspelt(environment).items():
        yield Finding("settings", State.WARNING, f"nothing reads {name}", f"Did you mean {meant}?")
    for name in PATHS:
        path = loaded[name].value
        if path and not Path(path).exists():
            remedy = f"Correct it in {loaded[name].origin}, or put the file there."
            yield Finding("settings", State.PROBLEM, f"{name} is {path}, which does not exist", remedy)
    if zone := unknown_zone(environment):
        found = f"TZ is '{zone}', a time zone that this machine does not know: local times are shown in UTC"
        yield Finding("settings", State.WARNING, found, "Set TZ to a name under /usr/share/zoneinfo, or unset it.")
    if not available_timezones():
        found = "this machine knows no time zones, so no schedule that names one can be read"
        yield Finding("settings", State.PROBLEM, found, "Install the system's package tzdata, or that of Python.")
    origins = sorted({source.origin for source in loaded.values()} - {"default"})
    yield Finding("settings", State.OK, f"defaults, {', '.join(origins)}" if origins else "all are the defaults")


def drivers(url: str) -> Iterator[Finding]:
    """Check that the driver of this database URL is installed."""
    target = read_url(url)
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

    driver = target.query.get("driver")
    installed = odbc_drivers()
    if isinstance(driver, str):
        is_installed = Path(driver).exists() if driver.startswith("/") else driver in installed
    else:
        driver = max(
            (name for name in installed if name.endswith("for SQL Server")), default="ODBC Driver 18 for SQL Server"
        )
        is_installed = driver in installed
    if is_installed:
        yield Finding("drivers", State.OK, f"pyodbc {pyodbc.version} with {driver}")
    else:
        remedy = "Install Microsoft's package msodbcsql18, or name an installed driver: ?driver=..."
        others = f"; there are: {', '.join(installed)}" if installed else ""
        yield Finding("drivers", State.PROBLEM, f"the ODBC driver '{driver}' is not installed{others}", remedy)


def missing_driver(error: ImportError, url: str) -> Finding:
    """Return a finding that names the packages to install for this URL."""
    extra = "mssql" if url.startswith("mssql+pyodbc") else "mssql-python"
    system = ", and the system package libodbc2 (unixODBC)" if extra == "mssql" else ""
    found = f"it cannot be loaded: {error_text(error)}"
    return Finding("drivers", State.PROBLEM, found, f"Install jobfac[{extra}]{system}.")


def spool(folder: Path) -> Iterator[Finding]:
    """Check that the spool folder is private and writable, and that its disk has space."""
    if fault := private_fault(folder):
        yield Finding("spool", State.PROBLEM, f"{folder} is not safe", f"A worker does not use it: {fault}.")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    remedy = "Let the worker's user write there, or set JOBFAC_SPOOL to another folder."
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding("spool", State.PROBLEM, f"{existing} cannot be written: {error.strerror}", remedy)
        return
    yield disk_space("spool", existing, "Make room, or set JOBFAC_SPOOL to a folder on another disk.")


def guardian() -> Iterator[Finding]:
    """Check that the process that kills a dead worker's programs can be started."""
    process = Guardian()
    try:
        process.start()
    except StartError as error:
        remedy = "Correct the cause; without a guardian a worker starts no program."
        yield Finding("guardian", State.PROBLEM, error_text(error), remedy)
        return
    finally:
        process.close()
    yield Finding("guardian", State.OK, "it starts")


def files(slots: int) -> Iterable[Finding]:
    """Check that the limit of open files is enough for a worker with this number of slots."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    programs = room_for_programs()
    limit_text = "none" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    found = f"the limit of open files here is {limit_text}: room for {programs:,} programs at once (slots: {slots:,})"
    if programs >= slots:
        return [Finding("files", State.OK, found)]
    remedy = "Raise it for the worker (systemd: LimitNOFILE, a shell: ulimit -n), or give the worker fewer slots."
    return [Finding("files", State.PROBLEM, found, remedy)]


def api(settings: Settings) -> Iterator[Finding]:
    """Check that the API at ``api_url`` answers and accepts the key."""
    if not HEADER_VALUE.fullmatch(settings.api_key):
        remedy = "Set JOBFAC_API_KEY to a key made by `jobfac keys create`, without a blank or a new line."
        yield Finding("api key", State.PROBLEM, "it is not set" if not settings.api_key else "it is none", remedy)
        return
    url, headers = settings.api_url, {"Authorization": f"Bearer {settings.api_key}"}
    shown, started = without_password(url), time.monotonic()
    try:
        address, checked = f"{url.rstrip('/')}/v1/workers", authorities(url)
        with httpx.stream("GET", address, headers=headers, timeout=10, verify=checked) as response:
            pass  # the body may have any length
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        way, check = (
            proxy_words(httpx.URL(url))
            if isinstance(error, httpx.HTTPError)
            else ("", ", the proxy variables and SSL_CERT_FILE")
        )
        why = fault(error) if isinstance(error, httpx.InvalidURL) else error_text(error)
        found = f"{shown} cannot be reached{way}: {why}"
        yield Finding("api", State.PROBLEM, found, f"Check JOBFAC_API_URL{check}.")
        return
    if response.is_success:
        yield Finding("api", State.OK, f"{shown} answers in {(time.monotonic() - started) * 1000:.0f} ms")
    elif response.status_code in (401, 403):
        remedy = "Set JOBFAC_API_KEY to a key made by `jobfac keys create`."
        yield Finding("api key", State.PROBLEM, f"{shown} does not accept it", remedy)
    else:
        remedy = "Check JOBFAC_API_URL, and run `jobfac doctor` where the API runs."
        yield Finding("api", State.PROBLEM, f"{shown} answers {response.status_code}", remedy)
