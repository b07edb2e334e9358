"""Read crontabs, those of users and those in /etc/cron.d and /etc/crontab, with python-crontab.

python-crontab reads the tables of users and files. The syntax of their lines is cron's and is implemented here, because
python-crontab lacks some rules, and handles others differently:

- The command is the rest of the line, including ``#``.
- The first unescaped ``%`` ends the command and begins its standard input; each further one is a line end.
- A variable applies to the lines below it. Its name and value may be in quotes, its value may be empty, and space is
  allowed around ``=``.
- ``CRON_TZ`` and ``RANDOM_DELAY``.
- A command starts in the home of its user, or in ``HOME``.
- What a command leaves running lives on. Jobs end that, unless they have ``detach``.
- A command that was cut off does not begin again. Those of jobs do, unless they are not ``restartable``.
- The time fields are kept as written, because a range over all values is not ``*`` to cron.
- Line numbers, for warnings.
"""

import importlib
import os
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple

from crontab import CronTab

from jobfac.definitions import DefinitionError, from_data
from jobfac.definitions.parameters.placeholders import literal
from jobfac.definitions.patterns.moments import read_zone
from jobfac.definitions.schedule import read_cron
from jobfac.errors import JobfacError

_ONE = r"(\d+|[A-Za-z]{3})"
PART = re.compile(rf"(\*|{_ONE}-{_ONE})(/\d+)?|{_ONE}")
"""A part of a field of cron. Definitions know more: `L`, `1#2`, `5/10`. Debian's cron reads `1#2` as `1`."""

VARIABLE = re.compile(r"""(["']?)([A-Za-z_]\w*)\1\s*=\s*(.*)""")
PERCENT = re.compile(r"(?<!\\)((?:\\\\)*)%")
"""A percent sign that no backslash escapes."""

QUOTED = re.compile(r"""'[^']*+'|"(?:\\.|[^"\\])*+"|\\.""")
ADDRESSED = re.compile(r"&(?=[^\s;)'\"])")
"""A ``&`` in quotes that no command ends with, as in an address. Others may be read by a shell: ``su -c "x &"``."""

BACKGROUND = re.compile(
    r"(?<![&<>|])&(?![&>])|/init\.d/\w"
    r"|(?<![\w.-])(nohup|setsid|start-stop-daemon|daemonize|screen|tmux|service|rc-service|invoke-rc\.d)\s"
)
"""What shows that a command leaves something running."""

EMPTIES = re.compile(r"(?<!>)>\|?\s*/dev/std(?:out|err)\b|\btee\s+(?!\s*(?:-a|--append))[^|;&]*/dev/std(?:out|err)\b")
"""What empties the output of a program where that is a file."""

SHELLS = ("sh", "ash", "bash", "dash", "ksh", "mksh", "zsh")
ADDRESS = re.compile(r"[^@\s,]+@[^@\s,]+")
CRONIE = "cronie obeys {}, Debian's cron ignores it; check when the lines below ran: here they are due as cronie has it"
FAILURES = ["failed", "timed_out", "start_failed", "lost"]
MAIL_HEADERS = ("MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING")


@dataclass
class _Variables:
    """The values of the variables above the current line."""

    timezone: str
    shell: str = "/bin/sh"
    jitter: str | None = None
    recipients: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


class Entry(NamedTuple):
    """A line that is neither blank nor a comment."""

    number: int
    line: str


class CrontabError(JobfacError):
    """A crontab cannot be read."""


class Table(CronTab):  # type: ignore[misc]  # python-crontab has no types
    """A crontab that python-crontab finds, and whose lines it leaves to this module.

    Some of them, even in comments, it cannot read at all, such as the range ``mon-5``.
    """

    def __init__(self, **source: Any) -> None:
        self.entries: list[Entry] = []
        super().__init__(**source)

    def __setattr__(self, name: str, value: Any) -> None:
        """Take the lines where python-crontab would parse them."""
        if name == "lines" and value:
            texts = [(number, line.strip()) for number, line in enumerate(value, start=1)]
            self.entries = [Entry(number, text) for number, text in texts if text and not text.startswith("#")]
        else:
            super().__setattr__(name, value)


def user_table(user: str) -> Table:
    """Return the crontab of a user of this machine. Only root may read those of other users.

    Raises:
        CrontabError: it cannot be read.
    """
    try:
        return Table(user=user)
    except (OSError, UnicodeDecodeError) as error:
        raise CrontabError(f"the crontab of '{user}' cannot be read: {' '.join(str(error).split())}") from None


def from_table(
    table: Table, *, system: bool, name: str, timezone: str, user: str | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the jobs of a crontab by id, in the form of a definitions file, and warnings that name file and line.

    A line that cannot be converted causes a warning and no job.

    Args:
        system: each line names its user, as in /etc/crontab.
        name: of the file, for the warnings and the job ids.
        timezone: the time zone of the machine that the crontab comes from.
        user: whose table it is; None: it is a system table, or nobody has said.
    """
    variables = _Variables(timezone)
    jobs: list[dict[str, Any]] = []
    warnings: list[str] = []
    for entry in table.entries:
        try:
            _check_text(entry.line)
            if match := VARIABLE.fullmatch(entry.line):
                notes = _assign(variables, match[2], _unquoted(match[3]))
            else:
                job, notes = _job(variables, entry, system, user)
                _check(job)
                jobs.append(job)
        except ValueError as error:
            notes = [f"{error}; the line was left out"]
        warnings += [f"{name}, line {entry.number}: {note}" for note in notes]
    homeless = sorted({job["user"] for job in jobs if "user" in job and "directory" not in job})
    warnings += [
        f"{name}: cron starts the commands of '{one}' in its home, which this machine does not have; give the jobs a "
        "'directory', or they start in the worker's"
        for one in homeless
    ]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(name).name).strip("-.")[:120] or "crontab"
    ids = [stem] if len(jobs) == 1 else [f"{stem}-{number}" for number in range(1, len(jobs) + 1)]
    return dict(zip(ids, jobs, strict=True)), warnings


def _check(job: dict[str, Any]) -> None:
    try:
        from_data({"jobs": {"job": job}})
    except DefinitionError as error:
        raise ValueError(f"it makes no job, because {error.problems[0].message}") from error


def _check_text(line: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError:
        raise ValueError("it has bytes that are not UTF-8, so write them as UTF-8 or put them into a script") from None


def _assign(variables: _Variables, name: str, value: str) -> list[str]:
    notes = []
    if name == "SHELL":
        variables.shell = value
    elif name == "CRON_TZ":
        if value != variables.timezone:
            notes.append(CRONIE.format(name))
        variables.timezone = value
    elif name == "RANDOM_DELAY":
        if not value.isdigit():
            raise ValueError(f"RANDOM_DELAY={value} is not a number of minutes")
        variables.jitter = f"{value}m"
        notes.append(CRONIE.format(name))
    elif name == "MAILTO":
        recipients = dict.fromkeys(re.split(r"[,\s]+", value.strip())) if value.strip() else {}
        variables.recipients = [recipient for recipient in recipients if ADDRESS.fullmatch(recipient)]
        for other in [recipient for recipient in recipients if recipient not in variables.recipients]:
            what = "no address" if "@" in other else "a mailbox on that machine"
            notes.append(f"MAILTO={other} is {what}; name an address under 'notify'")
        if variables.recipients:
            notes.append("cron mails all output to MAILTO; the jobs below send mail when they fail")
    elif name in MAIL_HEADERS:
        notes.append(f"{name} has no counterpart; how mail is sent is a setting")
    elif name == "LOGNAME":
        notes.append("cron sets LOGNAME to the user's name itself; the line was left out")
    else:
        variables.environment[name] = value
    return notes


def _job(variables: _Variables, entry: Entry, system: bool, owner: str | None) -> tuple[dict[str, Any], list[str]]:
    expression, user, command = _fields(entry, system)
    user = user or owner
    timezone = _zone(variables.timezone)
    command, *lines = [part.replace(r"\%", "%") for part in PERCENT.sub("\\1\n", command).split("\n")]
    directory = variables.environment.get("HOME") or (home_of(user) if user else None)
    notes = []
    if directory is None and not command.startswith("/") and re.match(r"[\w.-]+/", command):
        notes.append("cron looks for this command in the user's home; give the job a 'directory'")
    leaves = _leaves_running(command)
    if lines and PurePath(variables.shell).name not in SHELLS:
        raise ValueError(f"its % begins an input, which SHELL={variables.shell} needs in a script")
    if lines:
        command = _with_input(command, lines)
        notes.append("the text after % became a here-document of the command")
    command = literal(command)
    job: dict[str, Any] = {"command": command, "shell": True}
    if variables.shell != "/bin/sh":
        job = {"command": [variables.shell, "-c", command]}
    if user:
        job["user"] = user
    if directory:
        job["directory"] = literal(directory)
    if leaves:
        job["detach"] = True
        notes.append("its command seems to leave something running, as cron lets it; 'detach' does the same here")
    if EMPTIES.search(command):
        notes.append("opening /dev/stdout or /dev/stderr by name empties the output here; write >&1, >&2 or 'tee -a'")
    job["restartable"] = False
    environment = {name: literal(value) for name, value in variables.environment.items()}
    if variables.shell != "/bin/sh":
        environment["SHELL"] = variables.shell
    if environment:
        job["environment"] = environment
    job["schedules"] = [{"cron": expression, "timezone": timezone}]
    if variables.jitter:
        job["schedules"][0]["jitter"] = variables.jitter
    if variables.recipients:
        job["notify"] = [{"on": FAILURES, "to": {"email": list(variables.recipients)}}]
    return job, notes


def _fields(entry: Entry, system: bool) -> tuple[str, str | None, str]:
    """Return the cron expression, the user, and the rest of the line as cron passes it to the shell."""
    line = entry.line.removeprefix("-")  # cronie and SUSE: do not log its start
    if line.lower().startswith("@reboot"):
        raise ValueError("@reboot has no counterpart, since no job belongs to a machine's start")
    before_command = (1 if line.startswith("@") else 5) + system
    parts = line.split(maxsplit=before_command)
    if len(parts) <= before_command:
        raise ValueError(f"'{line}' is too short: it needs {'times, user' if system else 'times'} and command")
    times = parts[: before_command - system]
    try:
        expression = read_cron(" ".join(times))
    except ValueError as error:
        raise ValueError(f"the schedule {error}") from error
    others = [part for field in times for part in field.split(",") if not (PART.fullmatch(part) or part[0] == "@")]
    if others:
        raise ValueError(f"the schedule has {', '.join(others)}, which cron refuses or reads in another way")
    user = parts[-2] if system else None
    if user is not None and user.isdecimal():
        raise ValueError(f"its user is the number {user}, as in an anacrontab, whose lines are no cron lines")
    return expression, user, parts[-1]


def _zone(name: str) -> str:
    try:
        return read_zone(name)
    except ValueError as error:
        raise ValueError(f"CRON_TZ {error}") from error


def home_of(user: str) -> str | None:
    """Return the home of a user of this machine; None: there is no such user, or no such folder."""
    try:
        home: str = importlib.import_module("pwd").getpwnam(user).pw_dir  # not on Windows
    except (ImportError, KeyError):
        return None
    return home if os.path.isdir(home) else None  # noqa: PTH112 (one that cannot be looked at is none)


def _leaves_running(command: str) -> bool:
    def plain(found: re.Match[str]) -> str:
        return "" if found[0].startswith("\\") else ADDRESSED.sub("", found[0])

    return BACKGROUND.search(QUOTED.sub(plain, command)) is not None


def _with_input(command: str, lines: list[str]) -> str:
    end = "END"
    while end in lines:
        end += "_"
    return "\n".join([f"{{ {command}", f"}} <<'{end}'", *lines, end]) + "\n"


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
