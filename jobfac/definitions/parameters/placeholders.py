"""Placeholders in the texts of a definition: ``${parameters.day}``, ``${due.date - 1d}``, ``${run.id}``.

A text is filled in one pass, so a value that looks like a placeholder stays as it is. ``$${due.date}`` is the literal
text ``${due.date}``. Other uses of ``${`` are none of these and stay unchanged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

from jobfac.definitions.parameters.values import Value, as_text
from jobfac.definitions.values import read_duration

SPACES = ("parameters", "due", "run", "previous", "trigger")
_PLACEHOLDER = re.compile(r"(\$?)\$\{\s*((" + "|".join(SPACES) + r")\.[^{}]*)\}")
_NAME = r"(?P<name>[A-Za-z0-9_.-]*?[A-Za-z0-9_])"
_OFFSET = re.compile(_NAME + r"(?:\s*(?P<sign>[+-])\s*(?P<length>\d[^+-]*+))?\s*", re.ASCII)
TIMES = ("due.date", "due.at", "previous.success.date", "previous.success.at")
FIXED = (*TIMES, "run.id", "trigger.path", "trigger.name", "trigger.size", "trigger.run.id", "trigger.run.job",
         "trigger.run.state")  # fmt: skip
OUTPUTS = "trigger.run.outputs."
"""The beginning of a reference to an output of the run that triggered this one."""


class UnresolvedError(Exception):
    """A placeholder that has no value. The message is a clause that names it."""


class Placeholder(NamedTuple):
    """A placeholder: what it refers to, such as ``due.date``, and the offset of a time."""

    name: str
    offset: timedelta = timedelta()

    @property
    def space(self) -> str:
        """The first word of the name."""
        return self.name.partition(".")[0]

    @property
    def parameter(self) -> str | None:
        """The name of the parameter that it refers to, if it is one."""
        space, _, name = self.name.partition(".")
        return name if space == "parameters" else None

    def __str__(self) -> str:
        return f"${{{self.name}}}"


@dataclass(frozen=True)
class Context:
    """The values that placeholders stand for.

    Attributes:
        due: aware, in the time zone whose date counts: when the run was due or, without a schedule, was started.
        previous: the same of the job's last successful run.
        trigger: what started the run: ``path``, ``name`` and ``size`` of a file, or ``run`` with ``id``, ``job``,
            ``state`` and ``outputs``.
    """

    due: datetime
    values: Mapping[str, Value | None] = field(default_factory=dict)
    run_id: int | None = None
    previous: datetime | None = None
    trigger: Mapping[str, Any] = field(default_factory=dict)


SAMPLE = Context(
    due=datetime(2027, 1, 31, 6, 30, tzinfo=UTC),
    run_id=1,
    previous=datetime(2027, 1, 30, 6, 30, tzinfo=UTC),
    trigger={"path": "/in/x.csv", "name": "x.csv", "size": 1, "run": {"id": 1, "job": "job", "state": "succeeded"}},
)
"""Values that show whether a default fits its parameter."""


def placeholders(text: str) -> list[Placeholder]:
    """Return the placeholders of a text, in order.

    Raises:
        UnresolvedError: one of them cannot be read.
    """
    return [_parsed(found[2]) for found in _PLACEHOLDER.finditer(text) if not found[1]]


def literal(text: str) -> str:
    """Return the text in which what looks like a placeholder stands for itself."""
    return _PLACEHOLDER.sub(lambda found: f"${found[0]}", text)


def has_placeholder(text: str) -> bool:
    """Whether the text has a placeholder, readable or not."""
    return any(not found[1] for found in _PLACEHOLDER.finditer(text))


def texts_between(text: str) -> list[str]:
    """Return what stands before, between and behind the placeholders of a text."""
    found, end = [""], 0
    for one in _PLACEHOLDER.finditer(text):
        found[-1] += text[end : one.start()] + (one[0][1:] if one[1] else "")
        found += [] if one[1] else [""]
        end = one.end()
    return [*found[:-1], found[-1] + text[end:]]


def _parsed(text: str) -> Placeholder:
    if text.startswith(OUTPUTS) and text != OUTPUTS:
        return Placeholder(text)  # the name of an output may hold anything
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise UnresolvedError(f"has ${{{text}}}, which is no name with an offset such as ${{due.date - 1d}}")
    name = found["name"]
    if name not in FIXED and not name.startswith("parameters."):
        raise UnresolvedError(f"has the unknown ${{{name}}}; known are ${{parameters.NAME}}, {_known()}")
    if found["length"] is None:
        return Placeholder(name)
    if name not in TIMES:
        raise UnresolvedError(f"has an offset in ${{{text}}}, which only {', '.join(TIMES)} take")
    try:
        offset = timedelta(seconds=read_duration(found["length"].strip()))
    except ValueError as error:
        raise UnresolvedError(f"has ${{{text}}}, whose offset {error}") from error
    if name.endswith(".date") and offset % timedelta(days=1):
        raise UnresolvedError(f"has ${{{text}}}; the offset of a date must be whole days, such as 1d or 1w")
    return Placeholder(name, -offset if found["sign"] == "-" else offset)


def _known() -> str:
    return ", ".join(f"${{{name}}}" for name in FIXED)


def fill(text: str, context: Context, convert: Callable[[Placeholder, str], str] | None = None) -> str:
    """Return the text with its placeholders replaced. ``convert`` checks or changes each value.

    Raises:
        UnresolvedError: a placeholder has no value.
    """

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        placeholder = _parsed(found[2])
        text = as_text(resolve(placeholder, context))
        return text if convert is None else convert(placeholder, text)

    return _PLACEHOLDER.sub(value, text) if "${" in text else text


def whole(text: str) -> Placeholder | None:
    """Return the placeholder that is all of the text, or None."""
    found = _PLACEHOLDER.fullmatch(text)
    return None if found is None or found[1] else _parsed(found[2])


def resolve(placeholder: Placeholder, context: Context) -> Value | None:
    """Return the value that a placeholder stands for.

    Raises:
        UnresolvedError: it has none.
    """
    name = placeholder.name
    if placeholder.parameter is not None:
        if placeholder.parameter not in context.values:
            raise UnresolvedError(f"refers to {placeholder}, but there is no such parameter")
        return context.values[placeholder.parameter]
    if name == "run.id":
        if context.run_id is None:
            raise UnresolvedError("refers to ${run.id}, which is not known yet")
        return context.run_id
    if name in TIMES:
        return _time(placeholder, context)
    return _of_trigger(placeholder, context.trigger)


def _time(placeholder: Placeholder, context: Context) -> str:
    moment = context.due if placeholder.space == "due" else context.previous
    if moment is None:
        raise UnresolvedError(f"refers to {placeholder}, but the job has not succeeded before; give a value")
    try:
        if placeholder.name.endswith(".date"):
            return (date(moment.year, moment.month, moment.day) + placeholder.offset).isoformat()
        # In real time, also over a clock change, with which Python moves the clock's hands alone.
        return (moment.astimezone(timezone(moment.utcoffset() or timedelta())) + placeholder.offset).isoformat()
    except OverflowError:
        raise UnresolvedError(f"refers to {placeholder} with an offset that leads beyond the calendar") from None


def _of_trigger(placeholder: Placeholder, trigger: Mapping[str, Any]) -> Value:
    found: Any = trigger
    name = placeholder.name
    keys = ["run", "outputs", name.removeprefix(OUTPUTS)] if name.startswith(OUTPUTS) else name.split(".")[1:]
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        raise UnresolvedError(f"refers to {placeholder}, which this start does not have")
    value: Value = found
    return value


def bind(text: str, context: Context, mark: Callable[[str], str]) -> tuple[str, dict[str, Placeholder]]:
    """Return a SQL text with a bound parameter in place of each placeholder, and what each of them stands for.

    ``mark`` writes a bound parameter, such as ``:p1``, by its name. The values are those of ``resolve``.
    """
    bound: dict[str, Placeholder] = {}

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        placeholder = _parsed(found[2])
        resolve(placeholder, context)
        name = next((name for name, other in bound.items() if other == placeholder), f"p{len(bound) + 1}")
        bound[name] = placeholder
        return mark(name)

    return _PLACEHOLDER.sub(value, text), bound
