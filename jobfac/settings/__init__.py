"""Settings: defaults, ``jobfac.toml`` and the environment, in rising precedence, in one frozen object."""

import dataclasses
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jobfac.errors import NotReady
from jobfac.machine.bounded import read_text
from jobfac.machine.faults import OF_NO_FILE
from jobfac.settings.ownership import owner_fault
from jobfac.settings.passwords import without_password
from jobfac.settings.state_folder import state_folder as state_folder
from jobfac.settings.values import SettingsError as SettingsError
from jobfac.settings.values import checked

CENTURY = 100 * 365 * 86400
"""The longest time that a setting may have, in seconds: no clock and no wait of the system takes one without end."""

_TIME = {"above": 0, "most": CENTURY}


@dataclass(frozen=True)
class Settings:
    """Every setting of every role. Times are in seconds, sizes in bytes.

    Each field has an environment variable ``JOBFAC_<NAME>`` and a key of the same name, in lower case, in
    ``jobfac.toml`` (found in the current directory, or where ``JOBFAC_CONFIG`` says).
    """

    database_url: str = field(default="sqlite:///jobfac.db", metadata={"help": "SQLAlchemy URL of the database"})
    spool: str = field(
        default="", metadata={"help": "private folder for the output of running programs; default: one per database"}
    )
    lease: float = field(
        default=15.0, metadata={"help": "seconds a worker is trusted after its last heartbeat", **_TIME}
    )
    heartbeat: float = field(default=3.0, metadata={"help": "seconds between heartbeats", **_TIME})
    lease_margin: float = field(
        default=3.0,
        metadata={"help": "seconds before the end of its lease at which a worker stops its programs", **_TIME},
    )
    drain_limit: float = field(
        default=60.0, metadata={"help": "seconds a draining worker lets its runs finish", "least": 0, "most": CENTURY}
    )
    ship_interval: float = field(
        default=0.5,
        metadata={"help": "seconds between two transfers of output from the spool to the database", **_TIME},
    )
    report_limit: int = field(
        default=16 * 1024 * 1024, metadata={"help": "bytes of a program's report file that are read", "least": 1}
    )
    sequence_limit: int = field(
        default=10_000, metadata={"help": "visits of steps, and runs of jobs, of one sequence run at most", "least": 1}
    )
    file_scan_interval: float = field(
        default=10.0,
        metadata={
            "help": "seconds between two scans for files that start jobs or that steps wait for",
            "least": 0.1,
            "most": CENTURY,
        },
    )
    poison_attempts: int = field(
        default=3, metadata={"help": "attempts lost with their worker after which a run ends lost", "least": 1}
    )
    max_cpu_pressure: float = field(
        default=0.0,
        metadata={
            "help": "percent of time in which work waits for a processor, above which a worker claims nothing; 0: any",
            "least": 0,
            "most": 100,
        },
    )
    min_free_memory: int = field(
        default=0, metadata={"help": "bytes of free memory below which a worker claims nothing; 0: any", "least": 0}
    )
    wait: str = field(
        default="auto",
        metadata={
            "help": "SQL Server: wait for work in the `server`, or by `polling`; `auto`: by the edition",
            "words": ("auto", "server", "polling"),
        },
    )
    wait_seconds: float = field(default=5.0, metadata={"help": "SQL Server: longest wait for work in seconds", **_TIME})
    sweep_interval: float = field(
        default=5.5, metadata={"help": "seconds between sweeps for expired leases and blocked runs", **_TIME}
    )
    api_host: str = field(default="127.0.0.1", metadata={"help": "address the API listens on"})
    api_port: int = field(default=8420, metadata={"help": "port the API listens on", "least": 0, "most": 65535})
    api_tls_certificate: str = field(default="", metadata={"help": "file with the API's TLS certificate and its chain"})
    api_tls_key: str = field(
        default="", metadata={"help": "file with the private key, if the certificate's file lacks it"}
    )
    api_connections: int = field(
        default=0,
        metadata={
            "help": "connections the API holds at once, at least 8; 0: 1000, but at most half of the files the process "
            "may open",
            "least": 0,
        },
    )
    api_proxy_hops: int = field(
        default=1,
        metadata={
            "help": "with --behind-proxy: how many proxies of yours a request passes; the client's address is the "
            "entry of X-Forwarded-For at this place from the right",
            "least": 1,
            "most": 10,
        },
    )
    proxy_user_header: str = field(
        default="",
        metadata={"help": "header in which a proxy names the person that it logged in; default: none"},
    )
    proxy_groups_header: str = field(
        default="", metadata={"help": "header in which the proxy names the person's groups, separated by commas"}
    )
    proxy_roles: str = field(
        default="",
        metadata={"help": "roles by group, such as dba=admin,ops=operator,*=viewer; * is everybody"},
    )
    proxy_addresses: str = field(
        default="",
        metadata={"help": "addresses or networks of the proxies that may name a person, separated by commas"},
    )
    proxy_secret: str = field(
        default="",
        metadata={
            "help": "text that the proxy sends in the header X-Jobfac-Proxy-Secret, or a reference to it: env:, file: "
            "or keyring:; advisable where a proxy of proxy_addresses is on this machine",
            "secret": True,
        },
    )
    public_url: str = field(
        default="",
        metadata={
            "help": "URL at which people and callers reach the API, such as https://jobs.example.org: for links, and "
            "for pages behind a proxy that changes Host"
        },
    )
    api_url: str = field(default="", metadata={"help": "URL of an API that commands use instead of the database"})
    api_key: str = field(default="", metadata={"help": "key for api_url", "secret": True})
    retention: float = field(
        default=90 * 86400.0,
        metadata={"help": "seconds a finished run is kept where its job has no retention", **_TIME},
    )
    retention_count: int = field(
        default=0,
        metadata={"help": "finished runs kept for a job without retention; 0: no limit", "least": 0, "most": 10**9},
    )
    statistics_retention: float = field(
        default=1095 * 86400.0, metadata={"help": "seconds the daily statistics are kept", **_TIME}
    )
    audit_retention: float = field(default=1095 * 86400.0, metadata={"help": "seconds the audit is kept", **_TIME})
    metrics: str = field(
        default="", metadata={"help": "HOST:PORT where a worker or scheduler serves metrics; default: nowhere"}
    )
    smtp_host: str = field(default="", metadata={"help": "mail server for notifications by email"})
    smtp_port: int = field(
        default=25, metadata={"help": "port of the mail server; 587 and 465 are common too", "least": 1, "most": 65535}
    )
    smtp_tls: str = field(
        default="starttls",
        metadata={
            "help": "`starttls`, `tls` from the first byte (port 465), or `none`",
            "words": ("starttls", "tls", "none"),
        },
    )
    smtp_user: str = field(default="", metadata={"help": "user name at the mail server, if it needs one"})
    smtp_password: str = field(
        default="",
        metadata={"help": "password at the mail server, or a reference to it: env:, file: or keyring:", "secret": True},
    )
    smtp_from: str = field(default="", metadata={"help": "sender of notifications; default: jobfac@ this host"})
    webhook_allow_local: bool = field(
        default=False,
        metadata={"help": "allow notifications to link-local addresses, where clouds serve their metadata"},
    )
    webhook_allow_private: bool = field(
        default=True,
        metadata={"help": "allow webhooks and apprise to loopback and private addresses; false: public ones only"},
    )
    apprise_schemes: str = field(
        default="discord,form,forms,gchat,gotify,gotifys,json,jsons,mailto,mailtos,matrix,matrixs,mmost,mmosts,msteams,"
        "ntfy,ntfys,opsgenie,pagerduty,pover,rocket,rockets,ses,signal,signals,slack,sns,splunk,tgram,twilio,victorops,"
        "webex,workflow,workflows,wxteams,xml,xmls,zulip",
        metadata={"help": "schemes that apprise URLs of notifications may have, separated by commas; *: all"},
    )
    templates: str = field(
        default="", metadata={"help": "folder with subject.txt, body.txt, body.html for notifications"}
    )
    heartbeat_url: str = field(
        default="", metadata={"help": "URL a scheduler calls each minute while all is well", "secret": True}
    )
    log_format: str = field(
        default="", metadata={"help": "`text` or `json`; default: text on a terminal", "words": ("", "text", "json")}
    )
    log_level: str = field(
        default="info",
        metadata={"help": "lowest level that is logged", "words": ("debug", "info", "warning", "error")},
    )

    def spool_folder(self) -> Path:
        """The folder that holds programs' output until it is in the database; one folder per database."""
        if self.spool:
            return Path(self.spool).absolute()
        if (path := sqlite_path(self.database_url)) is not None:
            path = path.resolve()  # one spool, even if some processes reach the file by a link
            return path.with_name(path.name + "-spool")
        import hashlib

        shown = without_password(re.sub(r"//[^@/]*@(?!(?:[^?]|\?(?=[^=&]*@))*@)", "//", self.database_url))
        place = re.sub(r"[^A-Za-z0-9]+", "-", shown).strip("-")
        if len(place) > 100:  # two databases often differ only at the end
            place = f"{place[:80]}-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
        return state_folder() / "spool" / place


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, absolute; None for any other engine or an in-memory database."""
    found = re.fullmatch(r"sqlite(?:\+pysqlite)?:///([^?]+)(?:\?.*)?", url)
    return None if found is None or (name := unquote(found[1])) == ":memory:" else Path(name).absolute()


@dataclass(frozen=True)
class Source:
    """A setting's value and its origin."""

    value: Any
    origin: str


def sources(environment: Mapping[str, str] = os.environ, **overrides: Any) -> dict[str, Source]:
    """Every setting with its origin: ``default``, the file's path, or the environment variable's name.

    ``overrides`` come from the command line and take precedence; None means that the option was not given.

    Raises:
        SettingsError: the file has unknown keys or cannot be read, or a value has the wrong type or is out of range.
            The text lists all errors, one a line.
    """
    fields = {one.name: one for one in dataclasses.fields(Settings)}
    found = {key: Source(one.default, "default") for key, one in fields.items()}
    wrong: list[str] = []

    def take(key: str, origin: str, name: str, given: Any, text: bool = False) -> None:
        try:
            found[key] = Source(checked(fields[key], given, text), origin)
        except ValueError as error:
            wrong.append(f"{name} {error}")

    named = environment.get("JOBFAC_CONFIG")
    path = Path(named or "jobfac.toml")
    for key, given in _file(path, required=bool(named)).items():
        if key in fields:
            take(key, str(path), f"{path}: {key}", given)
        else:
            wrong.append(f"{path}: unknown setting '{key}'; `jobfac config` lists the settings.")
    for key in fields:
        variable = f"JOBFAC_{key.upper()}"
        if given := environment.get(variable):
            take(key, variable, variable, given, text=True)
    found |= {key: Source(value, "command line") for key, value in overrides.items() if value is not None}
    if not wrong:
        wrong = _contradictions(found)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return found


def load(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The settings in effect. Arguments and errors are those of ``sources``."""
    return Settings(**{key: source.value for key, source in sources(environment, **overrides).items()})


def worker_name() -> str:
    """The default name of a worker: ``host-pid``."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _file(path: Path, required: bool) -> dict[str, Any]:
    def check(found: os.stat_result) -> None:
        if not required and (fault := owner_fault(path, found)) is not None:
            raise SettingsError(fault)

    try:
        text = read_text(path, "utf-8-sig", check=check)
    except FileNotFoundError:
        if required:
            raise SettingsError(f"JOBFAC_CONFIG names {path}, which does not exist.") from None
        return {}
    except OSError as error:
        kind = NotReady if error.errno in OF_NO_FILE else SettingsError
        raise kind(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None


def read_address(text: str, name: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[HOST]:PORT``; ``name`` is the name of the setting.

    Raises:
        SettingsError: the text has neither form.
    """
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})", text)
    if found is None or int(found[3]) > 65535:
        raise SettingsError(f"{name} must be HOST:PORT, such as 127.0.0.1:9420, not '{without_password(text)}'.")
    return found[1] or found[2], int(found[3])


def _contradictions(found: Mapping[str, Source]) -> list[str]:
    """Errors between settings that are valid one by one."""
    wrong = []
    lease, heartbeat, margin = (found[key] for key in ("lease", "heartbeat", "lease_margin"))
    if not heartbeat.value < lease.value - margin.value:
        wrong.append(
            f"lease ({lease.value:g} s, {lease.origin}) must be longer than heartbeat ({heartbeat.value:g} s, "
            f"{heartbeat.origin}) plus lease_margin ({margin.value:g} s, {margin.origin}); a lease of five heartbeats "
            "is usual."
        )
    for key in ("database_url", "spool", "smtp_host"):
        if found[key].value != found[key].value.strip() or not found[key].value.isprintable():
            # A file of variables with the line ends of Windows does that, and a database of another name is made.
            mistake = "has a blank at an end, a control character or bytes that are not UTF-8; correct it."
            wrong.append(f"{key} ({found[key].origin}) {mistake}")
    public = found["public_url"]
    if public.value and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", public.value):
        shown = without_password(public.value)
        wrong.append(f"public_url ({public.origin}) must be a URL such as https://jobs.example.org, not '{shown}'.")
    if found["metrics"].value:
        try:
            read_address(found["metrics"].value, "metrics")
        except SettingsError as error:
            wrong.append(str(error))
    return wrong
