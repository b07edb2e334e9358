"""Commands of steps: Windows command lines split into arguments, and Agent's tokens."""

import re
from typing import NamedTuple

TOKENS = {
    "A-DBN": "jobfac has no alerts; pass the value as a parameter",
    "A-SVR": "jobfac has no alerts; pass the value as a parameter",
    "A-ERR": "jobfac has no alerts; pass the value as a parameter",
    "A-SEV": "jobfac has no alerts; pass the value as a parameter",
    "A-MSG": "jobfac has no alerts; pass the value as a parameter",
    "DATE": "in T-SQL write CONVERT(char(8), GETDATE(), 112)",
    "INST": "in T-SQL write SERVERPROPERTY('InstanceName')",
    "JOBID": "a program finds the job's id in JOBFAC_JOB",
    "MACH": "in T-SQL write SERVERPROPERTY('MachineName')",
    "MSSA": "write the name of the service",
    "OSCMD": "write the command",
    "SQLDIR": "write the folder",
    "SQLLOGDIR": "write the folder",
    "SRVR": "write the server's name, or @@SERVERNAME in T-SQL",
    "STEPCT": "a program finds the number of its attempt in JOBFAC_ATTEMPT",
    "STRTDT": "a program finds the due time in JOBFAC_DUE_AT",
    "STRTTM": "a program finds the due time in JOBFAC_DUE_AT",
    "TIME": "in T-SQL write CONVERT(char(8), GETDATE(), 108)",
}
"""Agent's tokens whose value is known only when a step runs, each with its replacement."""

_NAMES = "|".join([*TOKENS, "JOBNAME", "STEPNAME", "STEPID"])
_TOKEN = re.compile(
    rf"\$\((?:(ESCAPE_(?:SQUOTE|DQUOTE|RBRACKET|NONE))\(({_NAMES})\)|({_NAMES}))\)|(\$\((?:ESCAPE_\w+\()?WMI\([^()]*\)+)"
)
_BACKSLASHES = re.compile(r"\\+")
_ESCAPES = {"ESCAPE_SQUOTE": "'", "ESCAPE_DQUOTE": '"', "ESCAPE_RBRACKET": "]"}


class Expanded(NamedTuple):
    """A text with the known tokens replaced, and advice about the others, by token."""

    text: str
    unknown: dict[str, str]


def expand(text: str, job: str, step: str, step_id: int) -> Expanded:
    """Replace JOBNAME, STEPNAME and STEPID, which are constant, and find the other tokens."""
    known = {"JOBNAME": job, "STEPNAME": step, "STEPID": str(step_id)}
    unknown: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        name = found[2] or found[3] or "WMI"
        if name not in known:
            unknown[name] = TOKENS.get(name, "jobfac has no alerts; pass the value as a parameter")
            return found[0]
        quote = _ESCAPES.get(found[1] or "")
        return known[name] if quote is None else known[name].replace(quote, quote * 2)

    return Expanded(_TOKEN.sub(replace, text), unknown)


POWERSHELL = {
    "JOBID": "$($env:JOBFAC_JOB)",
    "DATE": "$(Get-Date -Format yyyyMMdd)",
    "TIME": "$(Get-Date -Format HHmmss)",
    "MACH": "$([Environment]::MachineName)",
}
"""The PowerShell expressions for tokens, outside single quotes."""


def for_powershell(expanded: Expanded) -> Expanded:
    """Replace the tokens that have a counterpart in PowerShell.

    PowerShell expands nothing in single quotes, so tokens there remain.
    """
    unknown: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        name = found[2] or found[3] or "WMI"
        quoted = found.string.count("'", found.string.rfind("\n", 0, found.start()) + 1, found.start()) % 2
        if name in POWERSHELL and not quoted:
            return POWERSHELL[name]
        unknown[name] = expanded.unknown[name]
        return found[0]

    return Expanded(_TOKEN.sub(replace, expanded.text), unknown)


def split(line: str) -> list[str]:
    """Split a command line as Windows programs do (CommandLineToArgvW).

    Space separates arguments, double quotes hold them together, ``""`` inside quotes is a quote. Backslashes are
    literal, except before a quote: two stand for one, and a single one escapes the quote.
    """
    rest = line.strip(" \t\r\n")
    if not rest:
        return []
    if rest[0] == '"':  # the program's name knows no escapes
        name, _, rest = rest[1:].partition('"')
    else:
        found = re.match(r"[^ \t\r\n]+", rest)
        name = found[0] if found else ""
        rest = rest[len(name) :]
    return [name, *arguments(rest)]


def arguments(text: str) -> list[str]:
    """Return the arguments of a command line without the program's name."""
    found: list[str] = []
    word: list[str] | None = None
    quoted = False
    at = 0
    while at < len(text):
        letter = text[at]
        if letter in " \t\r\n" and not quoted:
            if word is not None:
                found.append("".join(word))
            word = None
            at += 1
            continue
        word = [] if word is None else word
        if letter == "\\":
            end = _BACKSLASHES.match(text, at).end()  # type: ignore[union-attr]  # there is one here
            number = end - at
            if text[end : end + 1] == '"':
                word.append("\\" * (number // 2))
                if number % 2:
                    word.append('"')
                    end += 1
            else:
                word.append("\\" * number)
            at = end
        elif letter == '"':
            if quoted and text[at + 1 : at + 2] == '"':
                word.append('"')
                at += 1
            else:
                quoted = not quoted
            at += 1
        else:
            word.append(letter)
            at += 1
    return found if word is None else [*found, "".join(word)]
