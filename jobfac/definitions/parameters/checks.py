"""Placeholders in the fields of a definition: what they may refer to, and where a value could become program text."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from jobfac.definitions.parameters.model import Parameter
from jobfac.definitions.parameters.placeholders import Placeholder, UnresolvedError, placeholders
from jobfac.definitions.parameters.plain import is_plain
from jobfac.definitions.parameters.program_texts import parts_of_programs, texts_of_programs
from jobfac.definitions.parameters.remedies import by_variable, in_argument, in_text
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

_CODE_VARIABLES = re.compile(
    r"PATH|(LD|DYLD)_.*|GCONV_PATH|BASH_(ENV|FUNC_.*)|SHELLOPTS|BASHOPTS|PS4|ZDOTDIR"
    r"|PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|EXECUTABLE|USERBASE|PLATLIBDIR)|PERL5?(OPT|LIB|DB)"
    r"|RUBY(OPT|LIB)|GEM_(HOME|PATH)|NODE_(OPTIONS|PATH)|LUA_(INIT|PATH|CPATH).*|PHPRC|PHP_INI_SCAN_DIR"
    r"|R_(PROFILE|ENVIRON|LIBS|HOME).*|JULIA_(LOAD_PATH|DEPOT_PATH|PROJECT)|_JAVA_OPTIONS|J(AVA_TOOL|DK_JAVA)_OPTIONS"
    r"|CLASSPATH|DOTNET_STARTUP_HOOKS|COR(ECLR)?_PROFILER.*|AWK(LIB)?PATH|RSYNC_RSH|TAR_OPTIONS|SSH_ASKPASS|LESSOPEN"
    r"|GIT_(SSH.*|EXTERNAL_DIFF|EDITOR|PAGER|ASKPASS|CONFIG.*|EXEC_PATH|PROXY_COMMAND|TEMPLATE_DIR)|EDITOR|VISUAL|PAGER"
    r"|OPENSSL_(CONF|MODULES|ENGINES)|(?i:PATH|PSMODULEPATH|COMSPEC)"
)
"""Environment variables that choose programs and modules, or whose text a program runs. Windows ignores case."""

_OPTION_VARIABLES = re.compile(
    r"(GNU)?MAKEFLAGS|MFLAGS|MAKEFILES|(JAVA|MAVEN|GRADLE|SBT|ANT|GROOVY|SCALA|CATALINA|LEIN_JVM|JVM|JRUBY|KAFKA)_OPTS"
    r"|(HADOOP|HADOOP_CLIENT|HIVE|SPARK_SUBMIT)_OPTS|MAVEN_ARGS|GRADLE_USER_HOME|GOFLAGS|CARGO_HOME|RUSTC_WRAPPER"
    r"|PSQLRC|PGSERVICEFILE|PGSYSCONFDIR|SQLCMDINI|SQLPATH|ORACLE_(HOME|PATH)|TNS_ADMIN|MYSQL_HOME|KUBECONFIG"
    r"|AWS_(CONFIG|SHARED_CREDENTIALS)_FILE|CLOUDSDK_CONFIG|DOCKER_CONFIG|HELM_PLUGINS|TF_CLI_.*|HOME|USERPROFILE"
    r"|XDG_CONFIG_(HOME|DIRS)|SHELL|COMSPEC|PATHEXT|IFS|PROMPT_COMMAND|MANPAGER|BROWSER|VIMINIT|EXINIT|WGETRC"
    r"|CURL_HOME|ANSIBLE_(CONFIG|LIBRARY|.*_(PLUGINS|PATH|INTERPRETER))|BUNDLE_GEMFILE|(NPM_CONFIG|npm_config)_.*|PIP_.*"
    r"|(JAVA|JRE|MAVEN|GRADLE|DOTNET)_(HOME|ROOT)|DOTNET_(ADDITIONAL_DEPS|SHARED_STORE)|PERL5SHELL"
    r"|GIT_(DIR|COMMON_DIR)|HGRCPATH|SVN_SSH|CVS_RSH|RSYNC_CONNECT_PROG|PSQL_(EDITOR|PAGER)|SQLCMDEDITOR"
    r"|OCTAVE_PATH|GUILE_LOAD_PATH|ERL_([AZ]?FLAGS|LIBS)|ELIXIR_ERL_OPTIONS|EMACSLOADPATH|TCLLIBPATH"
)
"""Environment variables with options or files of settings by which free text would choose programs."""

_ASSIGNING = re.compile(r"env|sudo|doas")
"""Programs that take variables for another one as words such as NAME=VALUE."""


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


def check_command(
    command: tuple[str, ...],
    is_shell: bool,
    arguments: tuple[str, ...] = (),
    declared: Mapping[str, Parameter] | None = None,
) -> Iterator[Finding]:
    """Yield where a value would become the text of a program, or choose the program.

    ``arguments``: those that follow the command. ``declared``: the parameters to which placeholders refer.
    """
    words = command if is_shell or not command else (*command, *arguments)
    texts: Mapping[int, str] | None = None
    parts: frozenset[int] = frozenset()
    for position, text in enumerate(words):
        try:
            found = placeholders(text)
        except UnresolvedError:
            continue
        if not found:
            continue
        beyond = position - len(command)
        path: Path = ("command",) if is_shell else ("command", position) if beyond < 0 else ("arguments", beyond)
        if is_shell:
            why = "but with shell: true a value would become program text"
            yield Finding(path, f"command has {found[0]}, {why}; {by_variable(found[0])}")
            continue
        if position == 0:
            yield finding(path, f"has {found[0]}, but a value must not choose the program; name it")
            continue
        if texts is None:
            texts, parts = texts_of_programs(words), parts_of_programs(words)
        free = next((one for one in found if not is_plain(one, declared or {})), None)
        if position in texts:
            remedy = in_text(found[0], texts[position], words[:position])
            yield finding(path, f"has {found[0]} in the text of a program; {remedy}")
        elif position in parts and free is not None:
            yield finding(path, f"has {free}, {_of_free(free)}")
        elif name := _assigned(words, position):
            yield from _of_variable(path, name, found[0], free)


def _of_free(free: Placeholder) -> str:
    remedy = "give the parameter another type than text, or a pattern of letters and digits"
    if free.parameter is None:
        remedy = f'declare a parameter with the default "{free}" and a pattern of letters and digits'
    return f"which would become a part of a program as it is; {remedy}"


def _assigned(words: Sequence[str], position: int) -> str | None:
    """Return the environment variable that a word sets for a program, as in `env NAME=VALUE PROGRAM`."""
    name, is_set, _ = words[position].partition("=")
    if not is_set or "$" in name:
        return None
    return name if any(_ASSIGNING.fullmatch(word.rpartition("/")[2]) for word in words[:position]) else None


def _of_variable(path: Path, name: str, first: Placeholder, free: Placeholder | None) -> Iterator[Finding]:
    if _CODE_VARIABLES.fullmatch(name):
        why = f"by {name} a value would choose programs; use a variable of another name"
        yield finding(path, f"has {first}, but {why}")
    elif free is not None and _OPTION_VARIABLES.fullmatch(name):
        yield finding(path, f"has {free}, {_of_free(free)}, or use a variable of another name")


def part_of_program(
    command: Sequence[str], arguments: Sequence[str], declared: Mapping[str, Parameter]
) -> tuple[int, str] | None:
    """Return the first of the arguments in which free text would become a part of a program, and that text.

    ``arguments``: those that follow the command. ``declared``: the parameters of the sequence that gives them.
    """
    parts: frozenset[int] | None = None
    for place, text in enumerate(arguments):
        try:
            free = [str(one) for one in placeholders(text) if not is_plain(one, declared)]
        except UnresolvedError:  # reported elsewhere
            continue
        free += ["${steps...}"] if "${steps." in text else []
        if free:
            parts = parts_of_programs((*command, *arguments)) if parts is None else parts
            if len(command) + place in parts:
                return place, free[0]
    return None


def text_of_program(
    command: Sequence[str], arguments: Sequence[str], places: Iterable[int], job: str = "the job"
) -> tuple[int, str] | None:
    """Return the first of these places of the arguments that is text of a program, and the remedy; None: no one is.

    ``arguments``: those that follow the command. ``job``: what the remedy calls the job.
    """
    texts = texts_of_programs((*command, *arguments))
    found = next((place for place in places if len(command) + place in texts), None)
    return None if found is None else (found, in_argument(texts[len(command) + found], job))


def check_environment(
    environment: Mapping[str, object], declared: Mapping[str, Parameter] | None = None
) -> Iterator[Finding]:
    """Yield where a value would choose or become a program by an environment variable that programs obey."""
    for name, value in environment.items():
        try:
            found = placeholders(value) if isinstance(value, str) else []
        except UnresolvedError:
            continue
        if found:
            free = next((one for one in found if not is_plain(one, declared or {})), None)
            yield from _of_variable(("environment", name), name, found[0], free)
