"""From a step of an Agent job to the definition of a job."""

import re
from collections.abc import Callable
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from jobfac.definitions.parameters.placeholders import literal
from jobfac.importers.agent.commands import Expanded, arguments, expand, for_powershell, split
from jobfac.importers.agent.model import Job, Step

Warn = Callable[[str], None]

APPEND = 2
MOST_ATTEMPTS = 1000
PROGRAMS = ("cmdexec", "powershell", "ssis")
WINDOWS = ("cmd", "powershell", "robocopy", "xcopy", "forfiles", "cscript", "wscript")
"""Programs of Windows that steps name without an ending."""

_TIMES = re.compile(r"\$\((?:ESCAPE_\w+\()?(?:DATE|TIME|STRTDT|STRTTM)\)+", re.IGNORECASE)
_ANY_TOKEN = re.compile(r"\$\([^()]*(?:\([^()]*\))?\)")
_QUOTED = re.compile(r"'[^']*+(?:'|\Z)|--[^\n]*+|/\*.*?(?:\*/|\Z)|\[[^\]]*+(?:\]|\Z)", re.DOTALL)
_FIRST = re.compile(r"(?>\s+|<#.*?#>|#[^\n]*)*+(?:param\b|using\b|\[CmdletBinding\b)", re.IGNORECASE | re.DOTALL)
"""What may only stand at the beginning of a script of PowerShell, after blanks and comments."""

_SHELL = re.compile(r"[|<>&]|%[^%\s]+%")
_STARTS = re.compile(r"\b(?:sp_(?:start|stop|update)_job|(?:Start|Stop|Set)-DbaAgentJob)\b", re.IGNORECASE)
"""What steers another job of Agent."""

_LOOKS = re.compile(
    r"\b(?:sysjobs|sysjobs_view|sysjobactivity|sysjobhistory|sysjobservers|sp_help_job\w*|xp_sqlagent_enum_jobs)\b",
    re.IGNORECASE,
)
"""What tells how jobs of Agent are doing."""


class Options(NamedTuple):
    """Options of the import: the time zone of the schedules, and the reference to the connection of T-SQL steps."""

    timezone: str
    connection: str


def convert(job: Job, step: Step, options: Options, warn: Warn) -> dict[str, Any]:
    """Return the body of a disabled definition for this step."""
    expanded = _expand(job, step, step.command)
    if step.subsystem.lower() == "powershell":
        expanded = for_powershell(expanded)
    for token, remedy in expanded.unknown.items():
        warn(f"Agent's token {token} is not known here; {remedy}")
    text = expanded.text
    if "\0" in text:
        warn("its command contains NUL characters, which were removed; check it")
        text = text.replace("\0", "")
    body = _runs(step, text, options, warn) | {"restartable": False, "enabled": False}
    if step.subsystem.lower() == "cmdexec" and step.cmdexec_success_code != 0:
        if 0 < step.cmdexec_success_code <= 255:
            body["success_codes"] = [step.cmdexec_success_code]
        else:
            warn(f"its success code {step.cmdexec_success_code} is no exit code here; give success_codes of 0 to 255")
    if step.retry_attempts > 0:
        body["retry"] = _retry(step, warn)
    if step.output_file_name:
        body["output"] = {"stdout": _output(step, _expand(job, step, step.output_file_name).text, warn)}
    _losses(step, warn)
    _others(text, warn)
    return body


def _runs(step: Step, text: str, options: Options, warn: Warn) -> dict[str, Any]:
    text = literal(text)
    match step.subsystem.lower():
        case "tsql" | "":
            return {"sql": _sql(step, text, options)}
        case "cmdexec" if text.strip():
            return {"command": _command(text, warn)}
        case "powershell" if text.strip():
            return {"command": ["pwsh", "-NoProfile", "-NonInteractive", "-Command", _powershell(text, warn)]}
        case "ssis" if text.strip():
            if "/ISSERVER" not in text.upper():
                warn("its package is not of the SSIS catalog (/ISSERVER); check that dtexec finds it on the worker")
            warn("its package runs with dtexec, which the worker must have; check the command, or start the package "
                 "with SSISDB.catalog.start_execution in a sql job")  # fmt: skip
            return {"command": ["dtexec", *arguments(text)]}
        case subsystem:
            unknown = f"is of the subsystem {step.subsystem}, which jobfac cannot run"
            why = "has no command" if subsystem in PROGRAMS else unknown
            warn(f"it {why}; write a command in its place")
            sentence = f"This step of SQL Server Agent {why}."
            described = {"description": f"{sentence} Its command was:\n{text.strip()}"} if text.strip() else {}
            return {**described, "command": ["sh", "-c", 'echo "$1" >&2; exit 1', "sh", sentence]}


def _sql(step: Step, text: str, options: Options) -> dict[str, Any]:
    """Return the script with Agent's settings: QUOTED_IDENTIFIER, where that matters, and the user."""
    if '"' in _QUOTED.sub("", text):
        text = f"SET QUOTED_IDENTIFIER OFF;\nGO\n{text}"
    if step.database_user_name:  # as Agent itself does it
        user = step.database_user_name.replace("'", "''")
        text = f"EXECUTE AS USER = N'{user}' WITH NO REVERT;\nGO\n{text}"
    return {
        "connection": {"secret": options.connection},
        "database": step.database_name or "master",
        "text": text if text.strip() else "-- This step has no command.",
    }


def _command(text: str, warn: Warn) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        warn("its command has several lines, which are taken as one command line; use a script instead")
    words = split(" ".join(lines))
    if not words[0].lower().removesuffix(".exe").endswith("cmd") and (signs := _SHELL.findall(" ".join(words))):
        warn(f"{signs[0]} is passed to the program unchanged, not to a shell; use shell: true for redirections")
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", words[0]) or words[0].lower().endswith((".exe", ".bat", ".cmd", ".vbs"))
    if windows or words[0].lower() in WINDOWS:
        warn(f"the program {words[0]} is one of Windows; name the worker's program")
    return words


def _powershell(text: str, warn: Warn) -> str:
    """Return the script as one that fails at its first error, as in Agent. pwsh alone goes on after it."""
    warn(
        "its script runs with pwsh, which the worker must have, and not in the drive SQLSERVER:; install the modules "
        "that it uses there, such as SqlServer"
    )
    if _FIRST.match(text):
        warn("it goes on after an error, because what it begins with must stay first; set $ErrorActionPreference in it")
        return text
    return f"$ErrorActionPreference = 'Stop'\n{text}"


def _retry(step: Step, warn: Warn) -> dict[str, Any]:
    attempts = step.retry_attempts + 1
    if attempts > MOST_ATTEMPTS:
        warn(f"it is tried {attempts} times, and at most {MOST_ATTEMPTS} are possible; check retry")
    minutes = max(0, step.retry_interval)
    delay = f"{minutes}m"
    body: dict[str, Any] = {"attempts": min(attempts, MOST_ATTEMPTS), "delay": delay, "backoff": 1.0, "jitter": 0.0}
    return body | ({"maximum_delay": delay} if minutes > 10 else {})


def _expand(job: Job, step: Step, text: str) -> Expanded:
    return expand(text, job.name, step.step_name, step.step_id)


def _output(step: Step, path: str, warn: Warn) -> dict[str, str]:
    kind = "append" if step.flags & APPEND else "overwrite"
    name = path
    if "\\" in path or re.match(r"[A-Za-z]:", path):
        name = "logs/" + (PureWindowsPath(path).name or "output.txt")
    if _TIMES.search(name):
        kind = "timestamped"
        head, _, tail = name.rpartition("/")
        tail = re.sub(r"\*[\W_]*\*", "*", _TIMES.sub("*", tail))
        name = (f"{head}/" if head else "") + "*".join([tail.partition("*")[0], tail.rpartition("*")[2]])
    name = _ANY_TOKEN.sub("", name) or "output.txt"
    if name != step.output_file_name:
        warn(f"its output file {step.output_file_name} became {name} on the worker; name another one under output")
    return {kind: name}


def _losses(step: Step, warn: Warn) -> None:
    if step.proxy_name:
        warn(f"it runs as the proxy '{step.proxy_name}'; set user, or choose workers by pool or labels")
    if step.server and step.subsystem.lower() in ("tsql", ""):
        warn(f"it runs on the server '{step.server}'; put that server into its connection")
    if step.os_run_priority:
        warn("its process priority has no counterpart; choose workers by pool, or use nice in the command")
    if step.flags & (8 | 16):
        warn("its output is also logged to a table; jobfac logs RUN shows it")
    if step.flags & 64:
        warn("it creates an event for the process to end by; use the polite stop (TERM) of its run")


def _others(text: str, warn: Warn) -> None:
    """Warn of calls that steer or watch other jobs in Agent, where they remain, disabled."""
    if calls := _found(_STARTS, text):
        remedy = "let a sequence or after: start the job here, or call jobfac.start_job"
        warn(f"it calls {calls}, which acts on the job in Agent, also if that is disabled there; {remedy}")
    if sources := _found(_LOOKS, text):
        warn(f"it looks at Agent's jobs by {sources}, where no run of jobfac is; look at jobfac.v_runs")


def _found(pattern: re.Pattern[str], text: str) -> str:
    """Return the different words that match, in lower case and in order."""
    return ", ".join(dict.fromkeys(word.lower() for word in pattern.findall(text)))
