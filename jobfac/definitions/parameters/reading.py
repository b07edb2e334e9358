"""The one check of the parameters of a start, for every way to start a job."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jobfac.definitions.parameters.model import Parameter, fill_value
from jobfac.definitions.parameters.placeholders import SAMPLE, Context, Placeholder, UnresolvedError, resolve
from jobfac.definitions.parameters.values import Typed, Value, typed
from jobfac.definitions.problems import MOST_PROBLEMS, DefinitionError, Problem
from jobfac.definitions.values import suggestion

Values = dict[str, Value | None]
"""Canonical values by the names of parameters."""

MOST = 1024 * 1024
"""The maximum length of all values of a run as JSON, in characters."""

MOST_SENSITIVE, LONGEST_SENSITIVE = 100, 16 * 1024
"""How many sensitive values a run may have, and their length together in characters. All of its output is searched for
each of them, in every form that it may have there."""

MASK = "***"
"""What stands where a sensitive value is not shown."""


def read_parameters(job: str, declared: Mapping[str, Parameter], given: Mapping[str, Any], context: Context) -> Values:
    """Return the values of a run: those given, else the defaults, else None.

    A default that needs the run's id is left out as long as the id is not known (``context.run_id`` None). A worker
    that claims the run calls this function again with the values and the id.

    Args:
        job: the id of the job, for messages.
        given: values as a person or a program gives them. None stands for a value that is not given.

    Raises:
        DefinitionError: with one sentence for each mistake, of unknown names for the first ones.
    """
    unknown = islice((name for name in given if name not in declared), MOST_PROBLEMS)
    problems = [_unknown(job, name, declared) for name in unknown]
    values: Values = {}
    for name, parameter in declared.items():
        try:
            if given.get(name) is not None:
                values[name] = parameter.read(given[name])
            elif not is_late(parameter, context):
                values[name] = _default(parameter, context)
        except (ValueError, UnresolvedError) as error:
            shown = str(error)
            if parameter.sensitive and ", not " in shown:
                shown = shown[: shown.index(", not ")]  # the sentence must not show what was given
            problems.append(Problem(f"parameters.{name} {shown}", f"parameters.{name}", job))
    if not problems and (excess := _excess(declared, values)):
        problems.append(Problem(excess, "parameters", job))
    if problems:
        raise DefinitionError(problems)
    return values


def _excess(declared: Mapping[str, Parameter], values: Values) -> str | None:
    """Return why the values are too many or too long, as a clause; None: they are not."""
    if (length := len(json.dumps(values, ensure_ascii=False))) > MOST:
        return f"parameters have {length:,} characters; {MOST:,} is the most, so put them into a payload or a file"
    hidden = list(secrets(split(declared, values)[1]))
    length = sum(map(len, hidden))
    if len(hidden) > MOST_SENSITIVE or length > LONGEST_SENSITIVE:
        return (
            f"sensitive parameters have {len(hidden):,} values of {length:,} characters; {MOST_SENSITIVE} of "
            f"{LONGEST_SENSITIVE:,} are the most, because all output is searched for them"
        )
    return None


def _unknown(job: str, name: str, declared: Mapping[str, Parameter]) -> Problem:
    known = suggestion(name, declared) or (f"; known are {', '.join(declared)}" if declared else "; it takes none")
    return Problem(f"parameters has the unknown name '{name}'{known}", f"parameters.{name}", job)


def _default(parameter: Parameter, context: Context) -> Value | None:
    if parameter.required:
        raise ValueError("must be given")
    return None if parameter.default is None else parameter.read(fill_value(parameter.default, context))


def is_late(parameter: Parameter, context: Context) -> bool:
    """Whether the default needs the run's id, which is not known yet."""
    return context.run_id is None and any(one.name == "run.id" for one in parameter.default_placeholders())


def needs_previous(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> bool:
    """Whether a default that holds refers to the job's last success."""
    open_ = (parameter for name, parameter in declared.items() if given.get(name) is None)
    return any(one.space == "previous" for parameter in open_ for one in parameter.default_placeholders())


def constants(declared: Mapping[str, Parameter]) -> Values:
    """Return the values of the parameters without a value whose default is the same for every run."""
    return {
        name: _default(parameter, SAMPLE)
        for name, parameter in declared.items()
        if not parameter.required and not parameter.default_placeholders()
    }


def split(declared: Mapping[str, Parameter], values: Values) -> tuple[Values, Values]:
    """Return the values to show to everybody, sensitive ones masked, and the sensitive values alone."""
    secret = {name: value for name, value in values.items() if name in declared and declared[name].sensitive}
    shown = {name: MASK if name in secret and value is not None else value for name, value in values.items()}
    return shown, {name: value for name, value in secret.items() if value is not None}


def secrets(values: Mapping[str, Value | None]) -> Iterator[str]:
    """Yield the texts that output must not show, of sensitive values."""
    for value in values.values():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, str):
                yield one
            elif one is not None:
                yield json.dumps(one)


def typed_value(placeholder: Placeholder, declared: Mapping[str, Parameter], context: Context) -> Typed | None:
    """Return what a placeholder of a SQL text stands for, as a database driver binds it.

    Raises:
        UnresolvedError: it has no value.
    """
    value = resolve(placeholder, context)
    if placeholder.parameter is not None:
        return typed(declared[placeholder.parameter].limits, value)
    return value
