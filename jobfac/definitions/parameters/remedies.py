"""Say how a value gets into the text of a program, by what the program that reads the text can do."""

import re
from collections.abc import Sequence

from jobfac.definitions.parameters.placeholders import Placeholder
from jobfac.definitions.parameters.program_texts import POWERSHELLS, SCRIPT_SHELLS, name_of_program

_SHELLS = re.compile(rf"{SCRIPT_SHELLS.pattern}|su|runuser")
_OTHERS_WITH_A_SHELL = re.compile(r"(c|tc|fi)sh[0-9.-]*|script|flock|eval|watch|parallel|hyperfine|tmux")
_OF_SQL = re.compile(r"(psql|mysql|mariadb|sqlcmd|osql|isql|bcp|sqlite3)(\.exe)?")

_BY_SQL = "let a job with sql bind the value (jobfac help sql)"

_WITHOUT_ENVIRONMENT = re.compile(r"sudo|doas|pkexec|su|runuser|docker|podman|nerdctl|kubectl|oc|systemd-run")
"""Programs that do not pass on the environment of a run."""


def variable(name: str) -> str:
    """Return the environment variable of a parameter."""
    return f"JOBFAC_PARAM_{name.upper()}"


def by_variable(one: Placeholder, how: str = 'write "${}"') -> str:
    """Return the remedy that gives a value by an environment variable. ``how``: what to do with its name."""
    if one.parameter is None:
        return f'set VALUE: "{one}" under environment, and {how.format("VALUE")}'
    return how.format(variable(one.parameter))


def in_text(one: Placeholder, program: str, before: Sequence[str]) -> str:
    """Return the remedy for a placeholder in a text that a program reads. ``before``: the words before the text."""
    if _OF_SQL.fullmatch(program):
        return _BY_SQL
    if POWERSHELLS.fullmatch(program):
        return f"give it to a script behind -File, or {by_variable(one, 'write $env:{}')} in that text"
    if program == "ssh":
        return by_variable(
            one, 'write "${0}" in that text, and let ssh send {0} (SendEnv, and AcceptEnv at its server)'
        )
    is_shell = _SHELLS.fullmatch(program)
    if any(_WITHOUT_ENVIRONMENT.fullmatch(name_of_program(word)) for word in before):
        example = f""", as in sh -c 'load "$1"' sh {one}""" if is_shell else ""
        return f"give it as an argument behind that text{example}"
    if is_shell or _OTHERS_WITH_A_SHELL.fullmatch(program):
        return f"{by_variable(one)} in that text"
    return by_variable(one, "read the environment variable {} in that text")


def in_argument(program: str, job: str) -> str:
    """Return the remedy for a value in an argument of a job that its program reads as a text."""
    if _OF_SQL.fullmatch(program):
        return _BY_SQL
    return f"give the value to a parameter of {job}, and read its environment variable in that text"
