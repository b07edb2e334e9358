"""A parameter as a definition declares it: its type, its limits, and the value that holds without another."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator

from jobfac.definitions.parameters.placeholders import (
    SAMPLE,
    Context,
    Placeholder,
    UnresolvedError,
    fill,
    placeholders,
)
from jobfac.definitions.parameters.values import Kind, Limits, Value, read_value
from jobfac.definitions.values import Flag, Many, Model, Text, read_text, shown, whole

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)

IN_DEFAULTS = ("due", "run", "previous", "trigger")
"""What a default may refer to."""


def _read_name(value: Any) -> str:
    name = read_text(value)
    if not _NAME.fullmatch(name):
        raise ValueError(f"must be a letter and up to 63 letters, digits or '_', not {shown(name)}")
    return name


LONGEST_PATTERN = 5000
"""Characters of a pattern. To look at a long one takes a time that grows with the square of their number."""


def _read_pattern(value: Any) -> str:
    pattern = read_text(value)
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(
            f"must be a regular expression of at most {LONGEST_PATTERN:,} characters, not {len(pattern):,}"
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression, not {shown(pattern)}: {error}") from error
    return pattern


def _read_number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise ValueError(f"must be a number, not {shown(value)}")
    return value


def read_given(value: Any) -> Any:
    """Return a value as a person writes it, a list as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(map(read_given, value))
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"must be text, a number, true, false or a list of these, not {shown(value)}")


ParameterName = Annotated[
    str,
    PlainValidator(_read_name, json_schema_input_type=Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]),
    Field(title="name"),
]
Pattern = Annotated[str, PlainValidator(_read_pattern, json_schema_input_type=str), Field(title="regular expression")]
Number = Annotated[int | float, PlainValidator(_read_number, json_schema_input_type=int | float), Field(title="number")]
Scalar = str | int | float | bool
Given = Annotated[
    Any,
    PlainValidator(read_given, json_schema_input_type=Scalar | list[Scalar]),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
    Field(title="value"),
]
"""A value as a person writes it, or a list of such values."""


class Parameter(Model):
    """A value that a start may give, checked before the run exists."""

    type: Kind = Field(
        default="text", description="The type of the value. A datetime has an offset, a duration is written as 1h30m."
    )
    many: Flag = Field(default=False, description="The value is a list of these.")
    required: Flag = Field(default=False, description="A start must give it. Without it and a default it may be empty.")
    default: Given | None = Field(
        default=None,
        description="The value if none is given. It may contain ${due.date}, ${due.at}, ${run.id}, "
        "${previous.success.date}, ${trigger.path} or ${trigger.run.id}; times take an offset, as in ${due.date - 1d}.",
        examples=["${due.date}"],
    )
    description: Text | None = Field(default=None, description="What it is for.", examples=["The day to load"])
    choices: Many[Text] = Field(default=(), description="Of a choice: its words.", examples=[["eu", "us"]])
    pattern: Pattern | None = Field(
        default=None,
        description="For text: a regular expression for the whole value.",
        examples=["[A-Z]{3}"],
    )
    most: Annotated[int, whole(1, 1_000_000)] | None = Field(
        default=None, description="Of a text: its characters at most.", examples=[200]
    )
    minimum: Number | None = Field(default=None, description="For integer and number: the minimum.", examples=[1])
    maximum: Number | None = Field(default=None, description="For integer and number: the maximum.")
    sensitive: Flag = Field(
        default=False, description="Masked in output; shown to operators alone, and not stored where views read."
    )

    @property
    def limits(self) -> Limits:
        """What a value must keep to."""
        return Limits(self.type, self.many, self.choices, self.pattern, self.most, self.minimum, self.maximum)

    def read(self, value: Any) -> Value:
        """Return the value in its canonical form.

        Raises:
            ValueError: the value does not fit; the text says what would.
        """
        return read_value(self.limits, value)

    def default_placeholders(self) -> list[Placeholder]:
        """Return what the default refers to."""
        texts = self.default if isinstance(self.default, tuple) else (self.default,)
        return [found for text in texts if isinstance(text, str) for found in placeholders(text)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for keys, kinds in (
            (("choices",), ("choice",)),
            (("pattern", "most"), ("text",)),
            (("minimum", "maximum"), ("integer", "number")),
        ):
            for key in keys:
                if getattr(self, key) not in (None, ()) and self.type not in kinds:
                    raise ValueError(f"has {key}, which only the type {' or '.join(kinds)} takes")
        if self.type == "choice" and not self.choices:
            raise ValueError("is a choice without choices; list them, such as choices: [eu, us]")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"has a minimum ({self.minimum}) above its maximum ({self.maximum})")
        if self.required and self.default is not None:
            raise ValueError("is required and has a default; remove one of them")
        self._check_default()
        return self

    def _check_default(self) -> None:
        if self.default is None:
            return
        try:
            found = self.default_placeholders()
            if not any(one.space in ("trigger", "parameters") for one in found):
                self.read(fill_value(self.default, SAMPLE))
        except (UnresolvedError, ValueError) as error:
            raise ValueError(f"has a default that {error}") from error
        for one in found:
            if one.space not in IN_DEFAULTS:
                raise ValueError(f"has a default with {one}; a default may refer to {', '.join(IN_DEFAULTS)} only")


def _unique(declared: dict[str, Parameter]) -> dict[str, Parameter]:
    known: dict[str, str] = {}
    for name in declared:
        twin = known.setdefault(name.upper(), name)
        if twin != name:
            raise ValueError(f"has '{name}' and '{twin}', which differ only in case; rename one of them")
    return declared


Declared = Annotated[dict[ParameterName, Parameter], AfterValidator(_unique)]
"""Parameters by name. No two names differ only in case, because environment variables are made of them."""


def fill_value(value: Any, context: Context) -> Any:
    """Return a value with the placeholders in its texts replaced."""
    if isinstance(value, tuple | list):
        return [fill_value(one, context) for one in value]
    return fill(value, context) if isinstance(value, str) else value
