"""Settings: defaults, then ``jobfac.toml``, then the environment, frozen into one object."""

import dataclasses
import os
import re
import socket
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SettingsError(Exception):
    """A setting that cannot be used; the text names it and what would be right."""


@dataclass(frozen=True)
class Settings:
    """Every setting of every role. Times are in seconds, sizes in bytes.

    Each field has an environment variable ``JOBFAC_<NAME>`` and a key of the same name, in lower case, in
    ``jobfac.toml`` (found in the current directory, or where ``JOBFAC_CONFIG`` says).
    """

    database_url: str = field(default="sqlite:///jobfac.db", metadata={"help": "SQLAlchemy URL of the database"})
    spool: str = field(
        default="", metadata={"help": "folder for the output of running programs; default: per database"}
    )
    lease: float = field(default=15.0, metadata={"help": "seconds a worker is trusted after its last heartbeat"})
    heartbeat: float = field(default=3.0, metadata={"help": "seconds between heartbeats"})
    lease_margin: float = field(
        default=3.0, metadata={"help": "a worker ends its runs this long before its lease does"}
    )
    drain_limit: float = field(default=60.0, metadata={"help": "seconds a draining worker lets its runs finish"})
    ship_interval: float = field(default=0.5, metadata={"help": "seconds between two looks at the spooled output"})
    wait: str = field(default="server", metadata={"help": "SQL Server: wait for work in the `server`, or by `polling`"})
    wait_seconds: float = field(default=5.0, metadata={"help": "SQL Server: how long one wait lasts at most"})
    sweep_interval: float = field(
        default=5.0, metadata={"help": "seconds between sweeps for expired leases and blocked runs"}
    )
    api_host: str = field(default="127.0.0.1", metadata={"help": "address the API listens on"})
    api_port: int = field(default=8420, metadata={"help": "port the API listens on"})
    api_tls_certificate: str = field(default="", metadata={"help": "file with the API's TLS certificate and its chain"})
    api_tls_key: str = field(default="", metadata={"help": "file with its private key, if not in the same file"})
    api_url: str = field(default="", metadata={"help": "the command line goes through this API instead of a database"})
    api_key: str = field(default="", metadata={"help": "key for api_url", "secret": True})
    retention: float = field(
        default=90 * 86400.0, metadata={"help": "seconds a finished run is kept, unless its job says"}
    )
    smtp_host: str = field(default="", metadata={"help": "mail server that notifications by email go through"})
    smtp_port: int = field(default=25, metadata={"help": "its port; 587 and 465 are usual, too"})
    smtp_tls: str = field(
        default="starttls", metadata={"help": "`starttls`, `tls` from the first byte (port 465), or `none`"}
    )
    smtp_user: str = field(default="", metadata={"help": "name to log in with there, if it asks for one"})
    smtp_password: str = field(
        default="", metadata={"help": "its password, or where that is: env:, file: or keyring:", "secret": True}
    )
    smtp_from: str = field(default="", metadata={"help": "sender of notifications; default: jobfac@ this host"})
    webhook_allow_local: bool = field(
        default=False, metadata={"help": "let webhooks go to link-local addresses, where clouds keep their metadata"}
    )
    templates: str = field(
        default="",
        metadata={"help": "folder with subject.txt, body.txt, body.html that replace those of notifications"},
    )
    log_format: str = field(default="", metadata={"help": "`text` or `json`; default: text on a terminal"})
    log_level: str = field(default="info", metadata={"help": "debug, info, warning or error"})

    def spool_folder(self) -> Path:
        """Where programs' output is written before it is in the database; one folder per database."""
        if self.spool:
            return Path(self.spool).absolute()
        if (path := sqlite_path(self.database_url)) is not None:
            return path.with_name(path.name + "-spool")
        place = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r"//[^@/]*@", "//", self.database_url)).strip("-")
        return Path(tempfile.gettempdir()) / f"jobfac-{os.getuid()}" / place[:100]


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, absolute; None for any other engine or an in-memory database."""
    found = re.fullmatch(r"sqlite(?:\+pysqlite)?:///([^?]+)(?:\?.*)?", url)
    return None if found is None or found[1] == ":memory:" else Path(found[1]).absolute()


@dataclass(frozen=True)
class Source:
    """A setting's value and where it came from."""

    value: Any
    origin: str


def sources(environment: Mapping[str, str] = os.environ) -> dict[str, Source]:
    """Every setting with its origin: ``default``, the file's path, or the environment variable's name.

    Raises:
        SettingsError: an unknown key in the file, a value of the wrong kind, or a file that cannot be read.
    """
    found = {f.name: Source(f.default, "default") for f in dataclasses.fields(Settings)}
    path = Path(environment.get("JOBFAC_CONFIG", "jobfac.toml"))
    for key, value in _file(path, required="JOBFAC_CONFIG" in environment).items():
        if key not in found:
            raise SettingsError(f"{path}: unknown setting '{key}'; `jobfac config` lists the settings.")
        found[key] = Source(_convert(key, value, found[key].value, str(path)), str(path))
    for key in list(found):
        name = f"JOBFAC_{key.upper()}"
        if environment.get(name):
            found[key] = Source(_convert(key, environment[name], found[key].value, name), name)
    _check({key: source.value for key, source in found.items()})
    return found


def load(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The settings that hold here. ``overrides`` (from the command line) win over everything; None means not given."""
    values = {key: source.value for key, source in sources(environment).items()}
    values.update({key: value for key, value in overrides.items() if value is not None})
    _check(values)
    return Settings(**values)


def worker_name() -> str:
    """``host-pid``: the name of a worker that was given none."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _file(path: Path, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"JOBFAC_CONFIG names {path}, which does not exist.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None


def _convert(key: str, value: Any, example: Any, origin: str) -> Any:
    try:
        return _flag(value) if isinstance(example, bool) else type(example)(value)
    except (TypeError, ValueError, KeyError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(type(example), "text")
        raise SettingsError(f"{origin}: {key} must be {kind}, not {value!r}.") from None


def _flag(value: Any) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).lower()]


def _check(values: Mapping[str, Any]) -> None:
    if not 0 < values["heartbeat"] < values["lease"] - values["lease_margin"]:
        raise SettingsError(
            f"lease ({values['lease']:g} s) must be longer than heartbeat ({values['heartbeat']:g} s) plus "
            f"lease_margin ({values['lease_margin']:g} s); a lease of five heartbeats is usual."
        )
    for key in ("lease_margin", "ship_interval", "wait_seconds", "sweep_interval"):
        if values[key] <= 0:
            raise SettingsError(f"{key} must be greater than 0, not {values[key]:g}.")
    if values["wait"] not in ("server", "polling"):
        raise SettingsError(f"wait must be `server` or `polling`, not '{values['wait']}'.")
    if values["smtp_tls"] not in ("starttls", "tls", "none"):
        raise SettingsError(f"smtp_tls must be `starttls`, `tls` or `none`, not '{values['smtp_tls']}'.")
