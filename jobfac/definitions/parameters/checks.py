"""Placeholders in the fields of a definition: what they may refer to, and where a value could become program text."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from jobfac.definitions.parameters.model import Parameter
from jobfac.definitions.parameters.placeholders import Placeholder, UnresolvedError, placeholders
from jobfac.definitions.problems import Finding, Path, field_path, finding
from jobfac.definitions.values import suggestion

IN_FIELDS = ("parameters", "due", "run", "trigger")
"""What a command, an argument, an environment variable, a directory or a path may refer to."""

IN_STARTS = ("parameters", "due", "trigger", "previous")
"""What the values that a schedule or a step gives may refer to: they are filled in before the run has an id."""

IN_SCRIPTS = ("parameters",)
"""What a SQL script may refer to: its values are bound, by the names of the job's parameters."""

RESERVED = frozenset(
    f"JOBFAC_{name}"
    for name in (
        "RUN_ID", "ATTEMPT", "JOB", "SEQUENCE_RUN_ID", "PAYLOAD", "PAYLOAD_FILE", "REPORT", "PARAMETERS_FILE", "DUE_AT",
        "TRIGGER_RUN_ID", "TRIGGER_PATH", "SQL_FILE", "SQL_URL",
    )
)  # fmt: skip
"""Environment variables that a job program receives from its worker, beside ``JOBFAC_PARAM_`` and a name."""

_SHELLS = re.compile(r"(ba|rba|da|k|z|c|tc|fi|a|mk|pdk)?sh[0-9.-]*|su|runuser|busybox|flock|script")
_OPEN_SHELLS = re.compile(
    r"(cmd|powershell|pwsh)(\.exe)?|ssh|eval|watch|parallel|hyperfine|tmux|([bgn]|mingw32-)?make(\.exe)?"
)
"""Programs that read all of their arguments as text of a shell, or may do so. `make V=...` puts V into its recipes."""

_SHELL_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
"""The option of a shell after which its text follows. Others may be joined with it, as in `bash -ceu`."""


class _Option(NamedTuple):
    """How an interpreter takes text of a program: by an option before it, or by one that is joined with it.

    ``words``: which of its words that are no options are such text; without the option that is joined counts before the
    first of them only.
    """

    before: str
    joined: str
    words: Literal["none", "first", "others"] | None = None


_INTERPRETERS = {
    r"python[0-9.]*": _Option(r"-[A-Za-z]*c", r"-[A-Za-z]*c."),
    r"perl[0-9.]*": _Option(r"-[A-Za-z]*[eE]", r"-[A-Za-z]*[eE]."),
    r"(ruby|lua)[0-9.]*": _Option(r"-[A-Za-z]*e", r"-[A-Za-z]*e."),
    r"(node|nodejs|deno|bun)": _Option(r"-[ep]|--eval|--print|eval", r"-[ep].|--(eval|print)="),
    r"php[0-9.]*": _Option(r"-r", r"-r."),
    r"(R|Rscript|julia|osascript|groovy)": _Option(r"-e|--eval", r"-e.|--eval="),
    r"[gmn]?awk": _Option(r"-e|-v|--source", r"-[ev].|--source=", "first"),
    r"g?sed": _Option(r"-[A-Za-z]*e|--expression", r"-[A-Za-z]*e.|--expression=", "first"),
    r"(psql|sqlcmd|mysql|mariadb)": _Option(
        r"-c|--command|-q|-Q|-e|--execute", r"-[cqQe].|--(command|execute)=", "none"
    ),
    r"env": _Option(r"-[A-Za-z0]*S|--split.string", r"-[A-Za-z0]*S.|--split.string=", "none"),
    r"sqlite3": _Option(r"-cmd", r"(?!)", "others"),
}
"""By program, the options whose argument is text of a program."""


_CODE_VARIABLES = re.compile(
    r"PATH|(LD|DYLD)_.*|GCONV_PATH|BASH_(ENV|FUNC_.*)|SHELLOPTS|BASHOPTS|PS4|ZDOTDIR"
    r"|PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|EXECUTABLE|USERBASE|PLATLIBDIR)|PERL5?(OPT|LIB|DB)"
    r"|RUBY(OPT|LIB)|GEM_(HOME|PATH)|NODE_(OPTIONS|PATH)|LUA_(INIT|PATH|CPATH).*|PHPRC|PHP_INI_SCAN_DIR"
    r"|R_(PROFILE|ENVIRON|LIBS|HOME).*|JULIA_(LOAD_PATH|DEPOT_PATH|PROJECT)|_JAVA_OPTIONS|J(AVA_TOOL|DK_JAVA)_OPTIONS"
    r"|CLASSPATH|DOTNET_STARTUP_HOOKS|COR(ECLR)?_PROFILER.*|AWK(LIB)?PATH|RSYNC_RSH|TAR_OPTIONS|SSH_ASKPASS|LESSOPEN"
    r"|GIT_(SSH.*|EXTERNAL_DIFF|EDITOR|PAGER|ASKPASS|CONFIG.*|EXEC_PATH|PROXY_COMMAND|TEMPLATE_DIR)|EDITOR|VISUAL|PAGER"
    r"|OPENSSL_(CONF|MODULES|ENGINES)"
)
"""Environment variables that choose programs and modules, or whose text a program runs."""


class TextField(NamedTuple):
    """A text of a definition with its place."""

    path: Path
    text: str


def check_texts(
    fields: Iterable[TextField], declared: Mapping[str, Parameter], spaces: Iterable[str] = IN_FIELDS
) -> Iterator[Finding]:
    """Yield what is wrong with the placeholders of these texts."""
    allowed = tuple(spaces)
    for path, text in fields:
        place = field_path(path)
        try:
            found = placeholders(text)
        except UnresolvedError as error:
            yield Finding(path, f"{place} {error}")
            continue
        for one in found:
            if one.space not in allowed:
                yield Finding(path, f"{place} has {one}, which is not known there; {_remedy(one, allowed)}")
            elif one.parameter is not None and one.parameter not in declared:
                known = suggestion(one.parameter, declared) or "; declare it under parameters"
                yield Finding(path, f"{place} names the unknown parameter '{one.parameter}'{known}")


def _remedy(one: Placeholder, allowed: Sequence[str]) -> str:
    if one.space == "run" and allowed != IN_SCRIPTS:
        return "use it in the job's own command or environment"
    return f'declare a parameter with the default "{one}" and refer to that'


def variable(name: str) -> str:
    """Return the environment variable of a parameter."""
    return f"JOBFAC_PARAM_{name.upper()}"


def check_command(command: tuple[str, ...], is_shell: bool, arguments: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Yield where a value would become the text of a program, or choose the program.

    ``arguments``: those that follow the command.
    """
    words = command if is_shell or not command else (*command, *arguments)
    for position, text in enumerate(words):
        try:
            found = placeholders(text)
        except UnresolvedError:
            continue
        if not found:
            continue
        beyond = position - len(command)
        path: Path = ("command",) if is_shell else ("command", position) if beyond < 0 else ("arguments", beyond)
        remedy = f'write "${variable(found[0].parameter)}"' if found[0].parameter else "use an environment variable"
        if is_shell:
            yield Finding(
                path, f"command has {found[0]}, but with shell: true a value would become program text; {remedy}"
            )
        elif position == 0:
            yield finding(path, f"has {found[0]}, but a value must not choose the program; name it")
        elif _is_program_text(words, position):
            yield finding(path, f"has {found[0]} in the text of a program; {remedy} in that text")


def text_of_program(command: Sequence[str], arguments: Sequence[str], places: Iterable[int]) -> int | None:
    """Return the first of these places of the arguments that is text of a program; None: no one is.

    ``arguments``: those that follow the command.
    """
    words = (*command, *arguments)
    return next((place for place in places if _is_program_text(words, len(command) + place)), None)


def check_environment(environment: Mapping[str, object]) -> Iterator[Finding]:
    """Yield where a value would choose or become a program by an environment variable that programs obey."""
    for name, value in environment.items():
        try:
            found = placeholders(value) if isinstance(value, str) else []
        except UnresolvedError:
            continue
        if found and _CODE_VARIABLES.fullmatch(name):
            path: Path = ("environment", name)
            why = f"by {name} a value would choose programs; use a variable of another name"
            yield finding(path, f"has {found[0]}, but {why}")


def _is_program_text(words: tuple[str, ...], position: int) -> bool:
    """Whether an interpreter reads this argument as a program."""
    for at in range(position):
        name = PurePosixPath(words[at].replace("\\", "/")).name
        if _OPEN_SHELLS.fullmatch(name.lower()):
            return True
        if _SHELLS.fullmatch(name.lower()):
            if _shell_text(words, at) == position or words[position].startswith("--command="):
                return True
        elif _is_interpreted(name, words, at, position):
            return True
    return False


def _shell_text(words: tuple[str, ...], at: int) -> int | None:
    """Return the place of the text that a shell runs: what follows it are arguments, as in `sh -c 'echo "$1"' sh X`."""
    code = next((place for place in range(at + 1, len(words)) if _SHELL_OPTION.fullmatch(words[place])), None)
    if code is None:
        return None
    place = code
    while place < len(words) and words[place][:1] in ("-", "+"):
        # The name of an option follows -o, and one follows each o of joined options.
        place += 1 + (0 if words[place].startswith("--") else len(re.findall("[oO]", words[place])))
    return place


def _is_interpreted(name: str, words: tuple[str, ...], at: int, position: int) -> bool:
    before = sum(not word.startswith("-") for word in words[at + 1 : position])
    for known, option in _INTERPRETERS.items():
        if not re.fullmatch(known, name, re.IGNORECASE):
            continue
        if re.fullmatch(option.before, words[position - 1]):
            return True
        if (option.words or before == 0) and re.match(option.joined, words[position], re.DOTALL):
            return True
        if not words[position].startswith("-") and (option.words == "first" and before == 0):
            return True
        if option.words == "others" and before > 0:
            return True
    return False
