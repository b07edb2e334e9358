"""Where parameters and placeholders stand in a definition, and what is wrong with them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from jobfac.definitions.models import AnyJob, Job, Sequence
from jobfac.definitions.parameters import Parameter, UnresolvedError, fill_value
from jobfac.definitions.parameters.checks import (
    IN_FIELDS,
    IN_SCRIPTS,
    IN_STARTS,
    TextField,
    check_command,
    check_environment,
    check_texts,
    part_of_program,
    text_of_program,
)
from jobfac.definitions.parameters.placeholders import SAMPLE, has_placeholder, placeholders
from jobfac.definitions.problems import Finding, Path, field_path, finding
from jobfac.definitions.steps import Step
from jobfac.definitions.triggers.call import check_call
from jobfac.definitions.values import suggestion

Declarations = Callable[[str], Mapping[str, Parameter] | None]
"""Returns the parameters of a job; None: there is no such job."""

Commands = Callable[[str], tuple[str, ...]]
"""Returns the command of a program; empty: there is none to which arguments are added."""


def check_parameters(definition: AnyJob, declarations: Declarations, commands: Commands) -> Iterator[Finding]:
    """Yield what is wrong with the parameters and placeholders of a definition."""
    declared = definition.parameters
    yield from check_texts(_schedule_texts(definition), declared, IN_STARTS)
    for place in range(len(definition.schedules)):
        own = _texts(("schedules", place, "parameters"), definition.schedules[place].parameters)
        yield from check_texts(own, declared, [space for space in IN_STARTS if space != "parameters"])
    for position, schedule in enumerate(definition.schedules):
        path: Path = ("schedules", position, "parameters")
        yield from _check_given(path, schedule.parameters, declared, f"{field_path(path[:2])} must give")
    yield from _check_sensitive(_schedule_texts(definition), declared)
    yield from check_call(definition.call, declared, takes_payload=isinstance(definition, Job))
    if isinstance(definition, Job):
        yield from check_command(definition.command, definition.shell, definition.arguments, declared)
        yield from check_environment(definition.environment, declared)
        for position, schedule in enumerate(definition.schedules):
            if isinstance(schedule.arguments, tuple | list) and not definition.shell:
                for found in check_command(definition.command, False, tuple(schedule.arguments), declared):
                    if found.path[0] == "arguments":
                        yield Finding(("schedules", position, *found.path), f"schedules[{position}].{found.message}")
        yield from check_texts(job_texts(definition), declared, IN_FIELDS)
        if definition.sql is not None and definition.sql.text is not None:
            code = TextField(("sql", "text"), _without_comments(definition.sql.text))
            yield from check_texts([code], declared, IN_SCRIPTS)
        return
    yield from check_texts(step_texts(definition), declared, IN_STARTS)
    yield from _check_sensitive(_shown_texts(definition, declarations), declared)
    yield from _check_references(definition)
    for position, step in enumerate(definition.steps):
        yield from _check_step(position, step, declarations)
        yield from _check_arguments(("steps", position, "arguments"), step.arguments, commands, declared)
    for position, schedule in enumerate(definition.schedules):
        if isinstance(schedule.arguments, Mapping):
            yield from _check_arguments(("schedules", position, "arguments"), schedule.arguments, commands, declared)


def _check_arguments(
    path: Path, arguments: Mapping[str, Iterable[str]], commands: Commands, declared: Mapping[str, Parameter]
) -> Iterator[Finding]:
    """Yield where a value that a sequence gives to a job would become text of a program."""
    for job, given in arguments.items():
        texts = list(given)
        if text := text_of_program(commands(job), texts, places_of_values(texts), f"'{job}'"):
            yield finding((*path, job, text[0]), f"has a placeholder in the text of a program; {text[1]}")
        elif part := part_of_program(commands(job), texts, declared):
            yield finding(
                (*path, job, part[0]),
                f"has {part[1]}, which would become a part of a program as it is; give the value to a parameter of "
                f"'{job}' with another type than text, or a pattern of letters and digits, and use that in its command",
            )


def places_of_values(arguments: Iterable[str]) -> list[int]:
    """Return the places of the arguments with placeholders, or with outputs of earlier steps."""
    return [place for place, text in enumerate(arguments) if has_placeholder(text) or "${steps." in text]


_COMMENT = re.compile(r"('[^']*+'|\"[^\"]*+\")|--[^\n]*+|/\*.*?(?:\*/|\Z)", re.DOTALL)


def _without_comments(script: str) -> str:
    """Return a SQL script without its comments, in which nothing is bound."""
    return _COMMENT.sub(lambda found: found[1] or " ", script)


def job_texts(job: Job) -> Iterator[TextField]:
    """Yield the texts of a program's definition that its worker fills in."""
    for name in ("command", "arguments"):
        texts = getattr(job, name)
        for position, text in enumerate(texts):
            yield TextField((name,) if job.shell and name == "command" else (name, position), text)
    for name, value in job.environment.items():
        if isinstance(value, str):
            yield TextField(("environment", name), value)
    if job.directory is not None:
        yield TextField(("directory",), job.directory)
    for stream in ("stdout", "stderr"):
        destination = getattr(job.output, stream)
        if destination.path is not None:
            yield TextField(("output", stream, destination.kind), destination.path)


def _schedule_texts(definition: AnyJob) -> Iterator[TextField]:
    for position, schedule in enumerate(definition.schedules):
        given = {"arguments": schedule.arguments, "payload": schedule.payload, "payloads": schedule.payloads}
        for field, value in given.items():
            yield from _texts(("schedules", position, field), value)


def step_texts(sequence: Sequence) -> Iterator[TextField]:
    """Yield the texts of a sequence's steps that are filled in when a step begins."""
    for position, step in enumerate(sequence.steps):
        for field in ("arguments", "payloads", "parameters", "for_each"):
            yield from _texts(("steps", position, field), getattr(step, field))
        for field, text in step.wait.texts() if step.wait is not None else ():
            yield TextField(("steps", position, "wait", field), text)


def _shown_texts(sequence: Sequence, declarations: Declarations) -> Iterator[TextField]:
    """Yield the texts of steps that lists and views show: all, except values for sensitive parameters of jobs."""
    for path, text in step_texts(sequence):
        if path[2] == "parameters":
            declared = declarations(str(path[3])) or {}
            if len(path) > 4 and path[4] in declared and declared[str(path[4])].sensitive:
                continue
        yield TextField(path, text)


def is_sensitive(text: str, declared: Mapping[str, Parameter]) -> bool:
    """Whether a text refers to a sensitive parameter."""
    try:
        names = {one.parameter or "" for one in placeholders(text)}
    except UnresolvedError:  # reported elsewhere
        return False
    return any(declared[name].sensitive for name in names & declared.keys())


def unmasked(step: Step, job: str, declared: Mapping[str, Parameter], of_job: Mapping[str, Parameter]) -> str | None:
    """Return a parameter of a job that would show a sensitive value of the sequence; None: there is none.

    ``declared``: the parameters of the sequence. ``of_job``: those of the job.
    """
    shown = {name for name, one in of_job.items() if not one.sensitive}
    given = ((name, field.text) for name, value in step.parameters.get(job, {}).items() for field in _texts((), value))
    return next((name for name, text in given if name in shown and is_sensitive(text, declared)), None)


def _check_sensitive(texts: Iterable[TextField], declared: Mapping[str, Parameter]) -> Iterator[Finding]:
    """Yield where a sensitive value would become part of what lists and views show."""
    for path, text in texts:
        if is_sensitive(text, declared):
            yield Finding(
                path,
                f"{field_path(path)} has a sensitive parameter, which lists would show there; give it to a sensitive "
                "parameter of the job",
            )


_STEP = re.compile(r"\$\{steps\.([^{}]*)\}")

_OUTPUTS = ".outputs."


def _check_references(sequence: Sequence) -> Iterator[Finding]:
    """Yield references to steps where there are none, and those to a step, a job or an approver's value that no step
    has."""
    asked = {step.name: step.approve.parameters for step in sequence.steps if step.approve is not None}
    jobs = {f"{step.name}.{job}" for step in sequence.steps for job in step.jobs}
    for path, text in step_texts(sequence):
        for reference in _STEP.findall(text):
            step, found, name = reference.rpartition(_OUTPUTS)
            if path[2] == "wait":
                yield finding(path, f"has ${{steps.{reference}}}, which is not known there; use ${{parameters.NAME}}")
            elif _is_of_job(reference, jobs) or (step in asked and name in asked[step]):
                continue
            elif found and step in asked:
                hint = suggestion(name, asked[step]) or f"; declare it under approve.parameters of '{step}'"
                yield finding(path, f"names '{name}', for which the step '{step}' does not ask{hint}")
            else:
                why = "but no step of the sequence has that job; write ${steps.STEP.JOB.outputs.KEY}"
                yield finding(path, f"refers to ${{steps.{reference}}}, {why}")
    for position, one in enumerate(sequence.steps):
        for name, parameter in (one.approve.parameters if one.approve is not None else {}).items():
            if any(_STEP.search(text) for _, text in _texts((), parameter.default)):
                path = ("steps", position, "approve", "parameters", name, "default")
                yield finding(path, "has ${steps...}, which is not known there; let the approver give the value")


def _is_of_job(reference: str, jobs: Set[str]) -> bool:
    """Whether a reference begins with one of these steps and its job. Names and keys may have dots, too."""
    ends = (match.start() for match in re.finditer(re.escape(_OUTPUTS), reference))
    return any(reference[:end] in jobs and len(reference) > end + len(_OUTPUTS) for end in ends)


def _texts(path: Path, value: Any) -> Iterator[TextField]:
    if isinstance(value, str):
        yield TextField(path, value)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts((*path, key), one)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _texts((*path, place), one)


def _check_step(position: int, step: Step, declarations: Declarations) -> Iterator[Finding]:
    for job in step.jobs:
        declared = declarations(job)
        if declared is not None:
            path: Path = ("steps", position, "parameters", job)
            given = dict(step.parameters.get(job, {}))
            yield from _check_for_each(position, step, job, declared)
            given |= {name: "${steps.}" for name in step.for_each if name in declared}
            yield from _check_given(path, given, declared, f"{field_path(path)} must give")


def _check_for_each(position: int, step: Step, job: str, declared: Mapping[str, Parameter]) -> Iterator[Finding]:
    """Yield what is wrong with the values for which a step starts a job."""
    for name, values in step.for_each.items():
        path: Path = ("steps", position, "for_each", name)
        if name not in declared:
            hint = suggestion(name, declared)
            yield finding(path, f"is no parameter of the job '{job}'{hint}; declare it there")
            continue
        for value in values if isinstance(values, tuple) else ():
            try:
                if not _is_open(value):
                    declared[name].read(value)
            except ValueError as error:
                yield finding(path, str(error))


def _check_given(
    path: Path, given: Mapping[str, Any], declared: Mapping[str, Parameter], must_give: str
) -> Iterator[Finding]:
    """Yield what is wrong with the values that a schedule or a step gives to a job."""
    for name, value in given.items():
        if name not in declared:
            known = suggestion(name, declared) or (f"; known are {', '.join(declared)}" if declared else "")
            yield Finding((*path, name), f"{field_path(path)} names the unknown parameter '{name}'{known}")
            continue
        try:
            if not _is_open(value):
                declared[name].read(fill_value(value, SAMPLE))
        except (ValueError, UnresolvedError) as error:
            yield finding((*path, name), str(error))
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            yield Finding(path, f"{must_give} '{name}', which is required")


def _is_open(value: Any) -> bool:
    """Whether the value is known only when a run starts: it refers to a parameter, a trigger or an earlier step."""
    texts = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(text, str) and (has_placeholder(text) or "${steps." in text) for text in texts)
