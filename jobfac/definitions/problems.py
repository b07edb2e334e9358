"""Problems of definitions, with messages that tell the author what to change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jobfac.definitions.values import Model, shown, suggestion
from jobfac.errors import JobfacError, Kind

MOST_PROBLEMS = 100
"""Problems of one definition that are named. Each takes a search for what its author may have meant."""

MAY_HOLD_SECRETS = frozenset({"call", "environment", "notify"})
"""Keys below which an address or a key may stand in the place of a list or a mapping. No problem shows it."""

Path = tuple[str | int, ...]
"""The keys and list positions that lead from a definition (or a file) to a value."""


@dataclass(frozen=True)
class Problem:
    """A problem of a definition. ``message`` names the ``field`` and says what is valid.

    ``file``, ``line`` (from 1) and ``job`` are None if they do not apply.
    """

    message: str
    field: str = ""
    job: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = self.file or ("" if self.line is None else "line")
        if self.line is not None:
            place += f":{self.line}" if self.file else f" {self.line}"
        return ": ".join(part for part in (place, f"job '{self.job}'" if self.job else "", self.message) if part)


class DefinitionError(JobfacError):
    """Definitions are not valid. ``problems``: all problems. The text of the error has a line for each."""

    kind = Kind.INVALID

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Finding:
    """A problem at a path within a definition, without the file and line."""

    path: Path
    message: str


def field_path(path: Path) -> str:
    """Return a path as text, such as ``schedules[0].cron`` for ("schedules", 0, "cron")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def finding(path: Path, message: str) -> Finding:
    """Return the finding whose sentence begins with the path."""
    return Finding(path, f"{field_path(path)} {message}")


def explain(
    error: ValidationError, model: type[Model], body: Any, relatives: Mapping[str, type[Model]]
) -> list[Finding]:
    """Return the first findings for a ``body`` that is not a valid ``model``.

    ``relatives``: other models by name, to recognise keys that belong to them.
    """
    findings, suggested = [], set()
    for detail in error.errors(include_url=False)[:MOST_PROBLEMS]:
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts only valid entries, and has an error for each of the others
        path = _path(detail, body)
        if detail["type"] == "extra_forbidden":
            known = _model_at(model, path[:-1])
            unknown = str(path[-1])
            hint = suggestion(unknown, known.model_fields)
            keys = hint or f"; the keys are {', '.join(known.model_fields)}"
            suggested.add((*path[:-1], hint.partition("'")[2].partition("'")[0]))
            findings.append(Finding(path, _unknown_key(path, keys, {} if path[:-1] else relatives)))
        else:
            subject, message = field_path(path), _message(detail, hides=not MAY_HOLD_SECRETS.isdisjoint(path))
            if detail["loc"][-1:] == ("[key]",):
                subject += " has a wrong key: it"
            findings.append(Finding(path, f"{subject} {message}" if subject else message))
    # A misspelled key is reported once, and not also as missing.
    misspelled = {finding(path, "must be given") for path in suggested}
    return [one for one in findings if one not in misspelled]


def _unknown_key(path: Path, hint: str, relatives: Mapping[str, type[Model]]) -> str:
    key, place = path[-1], field_path(path[:-1])
    for name, relative in relatives.items():
        if key in relative.model_fields:
            return f"key '{key}' is only for a {name}"
    return f"unknown key '{key}'{f' in {place}' if place else ''}{hint}"


def _message(detail: ErrorDetails, hides: bool) -> str:
    value = detail["input"]
    of_other_type = "a text" if hides and isinstance(value, str) else shown(value)
    match detail["type"]:
        case "missing":
            return "must be given"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "literal_error":
            words = detail["ctx"]["expected"].replace("'", "")
            choices = words.replace(" or ", ", ").split(", ")
            return f"must be {words}, not {shown(value)}{suggestion(str(value), choices)}"
        case "too_short":
            return "must not be empty"
        case "tuple_type":
            return f"must be a list, not {of_other_type}"
        case "model_type" if detail["ctx"]["class_name"] == "Secret":  # what is given may be the secret itself
            return 'must be a reference to a secret, such as {secret: "env:NAME"}'
        case "model_type" if detail["ctx"]["class_name"] == "Signature":
            return 'must be a mapping, such as {github: {secret: "env:NAME"}}'
        case "model_type" if detail["ctx"]["class_name"] == "Sql":  # perhaps the URL with its password
            return "must be a mapping with connection, and with text or file"
        case "dict_type" | "model_type":
            return f"must be a mapping, not {of_other_type}"
        case _:
            return f"is not valid: {detail['msg']}"


def _path(detail: ErrorDetails, body: Any) -> Path:
    """Return the path of an error in the body. Pydantic's location also has branches of unions and validator names."""
    location = detail["loc"]
    if location and location[-1] == "[key]":
        location = location[:-2]
    path: list[str | int] = []
    for part in location:
        inside = part in body if isinstance(body, dict) else isinstance(body, list | tuple) and isinstance(part, int)
        if inside:
            body = body[part]
        elif not (detail["type"] == "missing" and part is location[-1]):
            continue
        path.append(part)
    return tuple(path)


def _model_at(model: type[Model], path: Path) -> type[Model]:
    """Return the model of the mapping at ``path`` below ``model``."""
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
