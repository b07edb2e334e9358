"""Puts the values of a run into the texts of its definition: each value stays inside its own argument."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jobfac.definitions import AnyJob, DefinitionError, Job
from jobfac.definitions.execution.output import Destination
from jobfac.definitions.parameters import (
    Context,
    UnresolvedError,
    Values,
    as_text,
    fill,
    fill_path,
    secrets,
    split,
    variable,
)
from jobfac.definitions.parameters.matching import Match, Pending, inside_transaction, is_quick
from jobfac.definitions.parameters.uses import job_texts
from jobfac.programs import StartError
from jobfac.programs.masking import Mask
from jobfac.store import parameters
from jobfac.store.workers.claiming import Claimed
from jobfac.worker.executions.environment import PAYLOAD_IN_ENVIRONMENT

NONE = Job(command=("true",))
"""Stands for a definition that cannot be read."""


class Filled(NamedTuple):
    """A definition without placeholders, the run's values, and the texts among them that output must not show."""

    job: Job
    values: Values
    secrets: list[str]


def fill_job(job: Job, claimed: Claimed) -> Filled:
    """Return the definition for one run.

    Raises:
        StartError: a value does not fit, or a placeholder has no value.
    """
    if not job.parameters and not any("${" in field.text for field in job_texts(job)):
        return Filled(job, {}, [])
    row = parameters.row_of(claimed)
    hidden: list[str] = []
    try:
        values = parameters.values_of(row, job)
        hidden += secrets(split(job.parameters, values)[1])
        filled = _filled(job, parameters.context_of(row, job, values))
    except DefinitionError as error:
        raise StartError("; ".join(problem.message for problem in error.problems)) from None
    except UnresolvedError as error:  # it names a value
        raise StartError(Mask([text.encode() for text in hidden]).hide(str(error))) from None
    return Filled(filled, values, hidden)


Definitions = Mapping[tuple[str, int], AnyJob | DefinitionError]
"""Definitions by job and version; an error stands for one that cannot be read."""


def with_slow_patterns(claims: Iterable[Claimed], definitions: Definitions) -> list[Claimed]:
    """Return those of these runs whose values may take long to check."""
    return [
        one
        for one in claims
        if any(
            parameter.pattern is not None
            and not is_quick(parameter.pattern, len(one.parameters or "") + len(one.sensitive or ""))
            for parameter in getattr(definitions[one.job, one.job_version], "parameters", {}).values()
        )
    ]


def match_patterns(claims: Iterable[Claimed], definitions: Definitions) -> None:
    """Check the values of these runs, so that the patterns of their parameters are matched before the starts.

    A match may take a second, for which the worker's loop must not wait. Its result is remembered.
    """
    claims = list(claims)
    # Again for those with several patterns.
    while matches := [match for one in claims for match in _unknown_matches(one, definitions)]:
        Pending(*matches).resolve()


def _unknown_matches(claimed: Claimed, definitions: Definitions) -> tuple[Match, ...]:
    definition = definitions[claimed.job, claimed.job_version]
    try:
        if not isinstance(definition, DefinitionError):
            with inside_transaction():
                parameters.values_of(parameters.row_of(claimed), definition)
    except Pending as error:
        return error.matches
    except (DefinitionError, UnresolvedError):  # the start reports it
        pass
    return ()


def _filled(job: Job, context: Context) -> Job:
    changes: dict[str, object] = {"arguments": _texts("arguments", job.arguments, context)}
    if not job.shell:  # the text for a shell has no placeholders, and $$ is the shell's
        changes["command"] = _texts("command", job.command, context)
    changes["environment"] = {
        name: _text(f"environment.{name}", value, context) if isinstance(value, str) else value
        for name, value in job.environment.items()
    }
    if job.directory is not None:
        changes["directory"] = _path("directory", job.directory, context)
    streams = {name: _destination(name, getattr(job.output, name), context) for name in ("stdout", "stderr")}
    changes["output"] = job.output.model_copy(update=streams)
    return job.model_copy(update=changes)


def _texts(field: str, texts: tuple[str, ...], context: Context) -> tuple[str, ...]:
    return tuple(_text(f"{field}[{place}]", text, context) for place, text in enumerate(texts))


def _text(field: str, text: str, context: Context) -> str:
    try:
        return fill(text, context)
    except UnresolvedError as error:
        raise UnresolvedError(f"{field} {error}") from None


def _destination(stream: str, destination: Destination, context: Context) -> Destination:
    if destination.path is None:
        return destination
    return destination.model_copy(update={"path": _path(f"output.{stream}", destination.path, context)})


def _path(field: str, path: str, context: Context) -> str:
    try:
        return fill_path(path, context)
    except UnresolvedError as error:
        raise UnresolvedError(f"{field} {error}") from None


def parameter_variables(values: Values) -> Iterator[tuple[str, str]]:
    """Yield the environment variables of the values. Long texts stand only in the file of the parameters."""
    for name, value in values.items():
        text = as_text(value)
        if value is not None and len(text) <= PAYLOAD_IN_ENVIRONMENT:
            yield variable(name), text


def origin_variables(claimed: Claimed) -> Iterator[tuple[str, str]]:
    """Yield when a schedule's run was due, or the one that this one repeats, in the schedule's time zone, and what else
    caused the run."""
    origin = json.loads(claimed.origin) if claimed.origin else {}
    if claimed.due_at is not None or "scheduled" in origin:
        yield "JOBFAC_DUE_AT", parameters.due_of(claimed.origin, claimed.due_at, claimed.created_at).isoformat()
    if "run" in origin:
        yield "JOBFAC_TRIGGER_RUN_ID", str(origin["run"]["id"])
    if "path" in origin:
        yield "JOBFAC_TRIGGER_PATH", origin["path"]
