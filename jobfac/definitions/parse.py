"""Read definitions from files or text, check them, and write them as YAML."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from jobfac.control_characters import check_name
from jobfac.definitions.checks import across, check, children, doubts, fleets
from jobfac.definitions.document import Document, read_document, write_document
from jobfac.definitions.models import AnyJob, Defaults, Job, Sequence, canonical
from jobfac.definitions.notify import Notify, unsent
from jobfac.definitions.parameters import Parameter
from jobfac.definitions.parameters.uses import Commands, Declarations
from jobfac.definitions.patterns.moments import ANY_ZONE
from jobfac.definitions.problems import MOST_PROBLEMS, DefinitionError, Finding, Path, Problem, explain, field_path
from jobfac.definitions.shell_words import for_a_shell
from jobfac.definitions.triggers.checks import followers, on_circles
from jobfac.definitions.values import Model, read_id, shown, suggestion
from jobfac.machine.bounded import read_text

Known = Mapping[str, Mapping[str, Any]]
"""Stored definitions in their canonical form, by job id."""


@dataclass(frozen=True)
class Definitions:
    """Valid definitions: jobs and sequences by id, and defaults by category.

    ``warnings``: definitions that are valid but probably not intended.
    """

    jobs: dict[str, AnyJob] = field(default_factory=dict)
    defaults: dict[str, Defaults] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Place:
    """The place of a definition in a document."""

    document: Document
    path: Path
    job: str | None = None

    def problem(self, finding: Finding) -> Problem:
        line = self.document.line(self.path + finding.path)
        return Problem(finding.message, field_path(finding.path), self.job, self.document.file, line)


def load(*files: str | FilePath, known: Known | None = None) -> Definitions:
    """Read YAML or JSON files and check their definitions together with the ``known`` ones.

    Raises:
        DefinitionError: with the problems of all files.
    """
    return reader(*files)(known or {})


def reader(*files: str | FilePath) -> Callable[[Known], Definitions]:
    """Read the files once, and return a function that checks them as ``load`` does. It may be called repeatedly."""
    texts, problems = _read_files(files)
    return _reader_of(texts, problems)


def read_texts(*files: str | FilePath) -> dict[str, str]:
    """Return the texts of files by their names.

    Raises:
        DefinitionError: a file cannot be read or is not UTF-8 text.
    """
    texts, problems = _read_files(files)
    if problems:
        raise DefinitionError(problems)
    return texts


def text_reader(texts: Mapping[str, str]) -> Callable[[Known], Definitions]:
    """As ``reader``, for texts by the names of their files."""
    return _reader_of(texts, [])


def _read_files(files: Iterable[str | FilePath]) -> tuple[dict[str, str], list[Problem]]:
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            texts[str(file)] = read_text(file, "utf-8-sig")
        except OSError as error:
            problems.append(Problem(f"cannot be read: {error.strerror}", file=str(file)))
        except UnicodeDecodeError as error:
            problems.append(Problem(f"is not UTF-8 text (byte {error.start}); save it as UTF-8", file=str(file)))
    return texts, problems


def _reader_of(texts: Mapping[str, str], problems: list[Problem]) -> Callable[[Known], Definitions]:
    documents: list[Document] = []
    for name, text in texts.items():
        try:
            documents.append(read_document(text, name))
        except DefinitionError as error:
            problems.extend(error.problems)
    return lambda known: _assemble(documents, known, list(problems))


def loads(text: str, known: Known | None = None, file: str | None = None) -> Definitions:
    """As ``load``, from text. ``file``: its name in messages."""
    return _assemble([read_document(text, file)], known or {}, [])


def from_data(data: Any, known: Known | None = None) -> Definitions:
    """As ``load``, from the decoded JSON or YAML of a file."""
    return _assemble([Document(None, data, None)], known or {}, [])


def from_canonical(job: str, body: Mapping[str, Any], enabled: bool = True, any_zone: bool = False) -> AnyJob:
    """Return the model of a single definition, such as a stored one. References to other definitions are not checked.

    ``any_zone``: this machine need not know the time zones of schedules, because no due time of them is looked for.

    Raises:
        DefinitionError: the definition is not valid.
    """
    place = _Place(Document(None, None, None), (), job)
    context = ANY_ZONE if any_zone else None
    definition, problems = _validated(_model_for(body), {**body, "enabled": enabled}, place, context=context)
    if not isinstance(definition, AnyJob):
        raise DefinitionError(problems)
    return definition


def from_stored(job: str, text: str, enabled: bool = True, any_zone: bool = False) -> AnyJob:
    """As ``from_canonical``, from the JSON text that is stored.

    Raises:
        DefinitionError: the text is no JSON, or the definition is not valid for this version of jobfac.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError([Problem(f"is stored as text that is no JSON: {error}", job=job)]) from None
    if not isinstance(body, dict):
        raise DefinitionError([Problem(f"is stored as {shown(body)}, not as a mapping", job=job)])
    return from_canonical(job, body, enabled, any_zone)


def stored_body(text: str) -> dict[str, Any]:
    """Return the JSON object of a stored definition, whether it is valid or not; empty: it is none."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def stored_defaults(text: str | None) -> Defaults:
    """Return the defaults of a category from the JSON text that is stored; None: it has none.

    Raises:
        DefinitionError: they are not valid for this version of jobfac.
    """
    if text is None:
        return Defaults()
    try:
        return Defaults(notify=read_notify(json.loads(text).get("notify", [])))
    except (ValueError, AttributeError, RecursionError) as error:
        raise DefinitionError([Problem(f"the defaults of its category cannot be read: {error}")]) from None


def read_notify(entries: Any) -> tuple[Notify, ...]:
    """Return the ``notify`` entries of a start.

    Raises:
        DefinitionError: an entry is not valid.
    """
    body = {"notify": entries}
    defaults, problems = _validated(Defaults, body, _Place(Document(None, body, None), ()))
    if not isinstance(defaults, Defaults):
        raise DefinitionError(problems)
    return defaults.notify


def dump(definitions: Definitions) -> str:
    """Return YAML that ``loads`` reads as the same definitions, including whether they are enabled."""
    jobs = {job: canonical(definition) for job, definition in definitions.jobs.items()}
    for job, body in jobs.items():
        if not definitions.jobs[job].enabled:
            body["enabled"] = False
    document: dict[str, Any] = {"jobs": jobs}
    if definitions.defaults:
        document["defaults"] = {category: canonical(entry) for category, entry in definitions.defaults.items()}
    return write_document(document)


def _assemble(documents: list[Document], known: Known, problems: list[Problem]) -> Definitions:
    jobs: dict[str, AnyJob] = {}
    defaults: dict[str, Defaults] = {}
    places: dict[str, _Place] = {}
    ids = {name.lower(): name for name in known}
    unreadable = bool(problems)
    for document in documents:
        bodies, categories, found = _sections(document)
        problems.extend(found)
        for job, body in bodies.items():
            place = _Place(document, ("jobs", job), job)
            problems.extend(_id_problems(place, places, ids))
            places.setdefault(job, place)
            definition, found = _validated(_model_for(body), body, place)
            problems.extend(found)
            if isinstance(definition, AnyJob):
                jobs[job] = definition
        for category, body in categories.items():
            place = _Place(document, ("defaults", category))
            entry, found = _validated(Defaults, body, place, f"defaults.{category}: ")
            problems.extend([*found, *_category_problems(place, category)])
            if isinstance(entry, Defaults):
                problems.extend(place.problem(one) for one in unsent(entry.notify))
                defaults[category] = entry
    if not unreadable:  # the jobs of an unreadable file would be reported as unknown
        tree = children(jobs, {**known, **{job: {} for job in places}})
        following, on_each = followers(jobs, known), fleets(jobs, known)
        others = _declarations(jobs, known), _commands(jobs, known), following, on_circles(tree, following)
        for job in jobs:
            found_in = islice(check(job, jobs[job], tree, on_each, *others), MOST_PROBLEMS)
            problems.extend(places[job].problem(one) for one in found_in)
        problems.extend(places[job].problem(one) for job, one in islice(across(jobs, known), MOST_PROBLEMS))
    problems.extend(_limits(jobs, places))
    if problems:
        raise DefinitionError(problems)
    warnings = tuple(places[job].problem(found) for job, one in jobs.items() for found in doubts(one, tree, on_each))
    raw = {job: places[job].document.value["jobs"][job] for job in jobs}
    warnings += tuple(places[job].problem(found) for job, body in raw.items() for found in for_a_shell(body))
    return Definitions(jobs, defaults, warnings)


def _declarations(jobs: Mapping[str, AnyJob], known: Known) -> Declarations:
    """The parameters of a job by its id: those of its new definition, else of the stored one."""

    def declared(job: str) -> Mapping[str, Parameter] | None:
        if job in jobs:
            return jobs[job].parameters
        if job not in known:
            return None
        body = known[job].get("parameters", {})
        try:
            return {name: Parameter.model_validate(one) for name, one in body.items()}
        except ValidationError:  # a newer jobfac has stored it: its start checks what it is given
            return None

    return declared


def _commands(jobs: Mapping[str, AnyJob], known: Known) -> Commands:
    """The command of a program by its id: that of its new definition, else of the stored one."""

    def command(job: str) -> tuple[str, ...]:
        if job in jobs:
            return () if getattr(jobs[job], "shell", False) else getattr(jobs[job], "command", ())
        body = known.get(job, {})
        return () if body.get("shell") else tuple(body.get("command", ()))

    return command


def _sections(document: Document) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """Return the mappings under ``jobs`` and under ``defaults``, and their problems."""
    value, place = document.value, _Place(document, ())
    sections, keys = ("jobs", "defaults"), "; the keys are jobs and defaults"
    if not isinstance(value, dict):
        return {}, {}, [place.problem(Finding((), f"must be a mapping with the key jobs, not {shown(value)}"))]
    problems = [
        place.problem(Finding((key,), f"unknown key '{key}'{suggestion(key, sections) or keys}"))
        for key in value
        if key not in sections
    ]
    for key in sections:
        if not isinstance(value.get(key, {}), dict):
            problems.append(place.problem(Finding((key,), f"{key} must be a mapping, not {shown(value[key])}")))
    if not problems and "jobs" not in value and "defaults" not in value:
        problems.append(place.problem(Finding((), "must have the key jobs")))
    jobs, defaults = (entry if isinstance(entry, dict) else {} for entry in map(value.get, sections))
    return jobs, defaults, problems


def _id_problems(place: _Place, places: dict[str, _Place], ids: dict[str, str]) -> Iterator[Problem]:
    """Check an id. ``ids``: the known ids by their lower case."""
    job = str(place.job)
    try:
        read_id(job)
    except ValueError as error:
        yield place.problem(Finding((), f"its id {error}"))
    if job in places:
        other = places[job].problem(Finding((), ""))
        yield place.problem(Finding((), f"is defined in {other.file}:{other.line} too; remove one of them"))
    elif ids.get(job.lower(), job) != job:
        twin = ids[job.lower()]
        yield place.problem(Finding((), f"its id differs from '{twin}' only in case; rename one of them"))
    ids.setdefault(job.lower(), job)


def _category_problems(place: _Place, category: str) -> Iterator[Problem]:
    try:
        check_name(category)
    except ValueError as error:
        yield place.problem(Finding((), f"defaults: the name of a category {error}"))


def _model_for(body: Any) -> type[AnyJob]:
    """Return ``Sequence`` for a body with steps. A body without steps, command and sql is what its most similar key
    says."""
    keys = body if isinstance(body, Mapping) else {}
    runs = "command" in keys or "sql" in keys
    if runs or "steps" in keys:
        return Job if runs else Sequence
    return Sequence if any("'steps'" in suggestion(key, ("command", "steps")) for key in keys) else Job


def _validated(
    model: type[Model], body: Any, place: _Place, prefix: str = "", context: Mapping[str, Any] | None = None
) -> tuple[Model | None, list[Problem]]:
    if isinstance(body, dict) and model is Job and "steps" in body:
        runs = "command" if "command" in body else "sql"
        message = f"has both {runs} and steps; a job either runs something or is a sequence"
        return None, [place.problem(Finding(("steps",), message))]
    try:
        return model.model_validate(body, context=context), []
    except ValidationError as error:
        relatives = {str(other.kind): other for other in (Job, Sequence) if model is not Defaults}
        findings = explain(error, model, body, relatives)
    problems = [place.problem(Finding(finding.path, prefix + finding.message)) for finding in findings]
    return None, problems


def _limits(jobs: Mapping[str, AnyJob], places: Mapping[str, _Place]) -> Iterator[Problem]:
    """Check that all jobs with the same concurrency key have the same limit."""
    first: dict[str, tuple[str, int]] = {}
    for job, definition in jobs.items():
        rule = definition.concurrency
        if rule is None:
            continue
        other, limit = first.setdefault(rule.key, (job, rule.limit))
        if rule.limit != limit:
            message = f"concurrency.limit is {rule.limit} for the key '{rule.key}', but {limit} in '{other}'; use one"
            yield places[job].problem(Finding(("concurrency", "limit"), message))
