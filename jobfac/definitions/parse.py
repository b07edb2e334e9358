"""From files or text to checked definitions, and back to text."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from jobfac.definitions.checks import check, children, unreachable
from jobfac.definitions.document import Document, read_document, write_document
from jobfac.definitions.models import AnyJob, Defaults, Job, Sequence, canonical
from jobfac.definitions.notify import Notify
from jobfac.definitions.parameters import Parameter
from jobfac.definitions.problems import DefinitionError, Finding, Path, Problem, explain, field_path
from jobfac.definitions.triggers.checks import followers
from jobfac.definitions.uses import Declarations
from jobfac.definitions.values import Model, read_id, shown, suggestion

Known = Mapping[str, Mapping[str, Any]]
"""Definitions that are stored already, canonical, by job id."""


@dataclass(frozen=True)
class Definitions:
    """The jobs and sequences of some files by id, the defaults by category, and what is odd but not wrong."""

    jobs: dict[str, AnyJob] = field(default_factory=dict)
    defaults: dict[str, Defaults] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Place:
    """Where in which document a definition stands."""

    document: Document
    path: Path
    job: str | None = None

    def problem(self, finding: Finding) -> Problem:
        line = self.document.line(self.path + finding.path)
        return Problem(finding.message, field_path(finding.path), self.job, self.document.file, line)


def load(*files: str | FilePath, known: Known | None = None) -> Definitions:
    """The definitions in YAML or JSON files, checked together and against those ``known``.

    Raises ``DefinitionError`` with everything that is wrong in any of them.
    """
    return reader(*files)(known or {})


def reader(*files: str | FilePath) -> Callable[[Known], Definitions]:
    """Read the files once; the function that is returned checks them, as often as it is called, as ``load`` does."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        try:
            documents.append(read_document(FilePath(file).read_text(encoding="utf-8-sig"), str(file)))
        except OSError as error:
            problems.append(Problem(f"cannot be read: {error.strerror}", file=str(file)))
        except UnicodeDecodeError as error:
            problems.append(Problem(f"is not UTF-8 text (byte {error.start}); save it as UTF-8", file=str(file)))
        except DefinitionError as error:
            problems.extend(error.problems)
    return lambda known: _assemble(documents, known, list(problems))


def loads(text: str, known: Known | None = None, file: str | None = None) -> Definitions:
    """As ``load``, from text; ``file`` names it in messages."""
    return _assemble([read_document(text, file)], known or {}, [])


def from_data(data: Any, known: Known | None = None) -> Definitions:
    """As ``load``, from what a file would hold, already taken out of its JSON or YAML."""
    return _assemble([Document(None, data, None)], known or {}, [])


def from_canonical(job: str, body: Mapping[str, Any], enabled: bool = True) -> AnyJob:
    """The model of one definition that stands alone, such as a stored one or the body of a request.

    Raises ``DefinitionError``. What other definitions it names is not checked; see ``from_data``.
    """
    place = _Place(Document(None, None, None), (), job)
    definition, problems = _validated(_model_for(body), {**body, "enabled": enabled}, place)
    if not isinstance(definition, AnyJob):
        raise DefinitionError(problems)
    return definition


def read_notify(entries: Any) -> tuple[Notify, ...]:
    """The ``notify`` entries that a start may bring along.

    Raises ``DefinitionError``.
    """
    body = {"notify": entries}
    defaults, problems = _validated(Defaults, body, _Place(Document(None, body, None), ()))
    if not isinstance(defaults, Defaults):
        raise DefinitionError(problems)
    return defaults.notify


def dump(definitions: Definitions) -> str:
    """YAML that ``loads`` reads back as the same definitions. What is disabled says so."""
    jobs = {job: canonical(definition) for job, definition in definitions.jobs.items()}
    for job, body in jobs.items():
        if not definitions.jobs[job].enabled:
            body["enabled"] = False
    whole: dict[str, Any] = {"jobs": jobs}
    if definitions.defaults:
        whole["defaults"] = {category: canonical(entry) for category, entry in definitions.defaults.items()}
    return write_document(whole)


def _assemble(documents: list[Document], known: Known, problems: list[Problem]) -> Definitions:
    jobs: dict[str, AnyJob] = {}
    defaults: dict[str, Defaults] = {}
    places: dict[str, _Place] = {}
    written = {name.lower(): name for name in known}
    unreadable = bool(problems)
    for document in documents:
        bodies, categories, found = _sections(document)
        problems.extend(found)
        for job, body in bodies.items():
            place = _Place(document, ("jobs", job), job)
            problems.extend(_id_problems(place, places, written))
            places.setdefault(job, place)
            definition, found = _validated(_model_for(body), body, place)
            problems.extend(found)
            if isinstance(definition, AnyJob):
                jobs[job] = definition
        for category, body in categories.items():
            place = _Place(document, ("defaults", category))
            entry, found = _validated(Defaults, body, place, f"defaults.{category}: ")
            problems.extend(found)
            if isinstance(entry, Defaults):
                defaults[category] = entry
    if not unreadable:  # otherwise what an unreadable file defines would be taken for unknown
        tree = children(jobs, {**known, **{job: {} for job in places}})
        declared = _declarations(jobs, known)
        following = followers(jobs, known)
        problems.extend(
            places[job].problem(found) for job in jobs for found in check(job, jobs[job], tree, declared, following)
        )
    problems.extend(_limits(jobs, places))
    if problems:
        raise DefinitionError(problems)
    sequences = {job: definition for job, definition in jobs.items() if isinstance(definition, Sequence)}
    odd = (places[job].problem(found) for job, sequence in sequences.items() for found in unreachable(sequence, tree))
    return Definitions(jobs, defaults, tuple(odd))


def _declarations(jobs: Mapping[str, AnyJob], known: Known) -> Declarations:
    """The parameters of a job by its id: those of its new definition, else of the stored one."""

    def declared(job: str) -> Mapping[str, Parameter] | None:
        if job in jobs:
            return jobs[job].parameters
        if job not in known:
            return None
        body = known[job].get("parameters", {})
        return {name: Parameter.model_validate(one) for name, one in body.items()}

    return declared


def _sections(document: Document) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """The bodies under ``jobs`` and under ``defaults``."""
    whole, place = document.value, _Place(document, ())
    sections, only = ("jobs", "defaults"), "; the keys are jobs and defaults"
    if not isinstance(whole, dict):
        return {}, {}, [place.problem(Finding((), f"must be a mapping with the key jobs, not {shown(whole)}"))]
    problems = [
        place.problem(Finding((key,), f"unknown key '{key}'{suggestion(key, sections) or only}"))
        for key in whole
        if key not in ("jobs", "defaults")
    ]
    for key in ("jobs", "defaults"):
        if not isinstance(whole.get(key, {}), dict):
            problems.append(place.problem(Finding((key,), f"{key} must be a mapping, not {shown(whole[key])}")))
    if not problems and "jobs" not in whole and "defaults" not in whole:
        problems.append(place.problem(Finding((), "must have the key jobs")))
    jobs, defaults = (entry if isinstance(entry, dict) else {} for entry in (whole.get("jobs"), whole.get("defaults")))
    return jobs, defaults, problems


def _id_problems(place: _Place, places: dict[str, _Place], written: dict[str, str]) -> Iterator[Problem]:
    job = str(place.job)
    try:
        read_id(job)
    except ValueError as error:
        yield place.problem(Finding((), f"its id {error}"))
    if job in places:
        other = places[job].problem(Finding((), ""))
        yield place.problem(Finding((), f"is defined in {other.file}:{other.line} too; remove one of them"))
    elif written.get(job.lower(), job) != job:
        twin = written[job.lower()]
        yield place.problem(Finding((), f"its id differs from '{twin}' only in case; rename one of them"))
    written.setdefault(job.lower(), job)


def _model_for(body: Any) -> type[AnyJob]:
    """A sequence is known by its steps; a body with neither steps nor a command is what its nearest key says."""
    keys = body if isinstance(body, Mapping) else {}
    if "command" in keys or "steps" in keys:
        return Job if "command" in keys else Sequence
    return Sequence if any("'steps'" in suggestion(key, ("command", "steps")) for key in keys) else Job


def _validated(model: type[Model], body: Any, place: _Place, prefix: str = "") -> tuple[Model | None, list[Problem]]:
    if isinstance(body, dict) and model is Job and "steps" in body:
        message = "has both command and steps; a job either runs a program or is a sequence"
        return None, [place.problem(Finding(("steps",), message))]
    try:
        return model.model_validate(body), []
    except ValidationError as error:
        relatives = {str(other.kind): other for other in (Job, Sequence) if model is not Defaults}
        findings = explain(error, model, body, relatives)
    problems = [place.problem(Finding(finding.path, prefix + finding.message)) for finding in findings]
    return None, problems


def _limits(jobs: Mapping[str, AnyJob], places: Mapping[str, _Place]) -> Iterator[Problem]:
    """A concurrency key means one limit, whichever job names it."""
    first: dict[str, tuple[str, int]] = {}
    for job, definition in jobs.items():
        rule = definition.concurrency
        if rule is None:
            continue
        other, limit = first.setdefault(rule.key, (job, rule.limit))
        if rule.limit != limit:
            message = f"concurrency.limit is {rule.limit} for the key '{rule.key}', but {limit} in '{other}'; use one"
            yield places[job].problem(Finding(("concurrency", "limit"), message))
