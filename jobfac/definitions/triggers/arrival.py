"""Files that start a job or that a step waits for: which names count, and when a file is complete."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from jobfac.definitions.parameters.placeholders import has_placeholder
from jobfac.definitions.values import PositiveDuration, read_text, shown, write_duration

STABLE = 10.0
"""Default for how long a file must not have changed, in seconds."""

LONGEST = 1000
"""The greatest length of a path, in characters."""

_ABSOLUTE = re.compile(r"/|[A-Za-z]:[/\\]|\\\\")


def read_pattern(value: Any) -> str:
    """Return an absolute path, in which ``*``, ``?`` and ``[...]`` stand for parts of a name and ``**`` for folders."""
    text = read_text(value)
    if not _ABSOLUTE.match(text):
        raise ValueError(f"must be an absolute path such as /in/*.csv, not {shown(text)}; a worker has its own folder")
    if text.endswith(("/", "\\")):
        raise ValueError(f"must name files, not the folder {shown(text)}; add a name such as *.csv")
    if len(text) > LONGEST:
        raise ValueError(f"must be a path of at most {LONGEST} characters, not {len(text)}")
    return text


def read_fixed_pattern(value: Any) -> str:
    """Return what ``read_pattern`` returns, of a path without placeholders."""
    text = read_pattern(value)
    if has_placeholder(text):
        raise ValueError(f"has a placeholder, but no run exists yet that gives it a value; use * in {shown(text)}")
    return text


def _at_least_a_second(seconds: float) -> float:
    if seconds < 1:
        raise ValueError(
            f"must be at least 1s, the finest time that all file systems keep, not {write_duration(seconds)}"
        )
    return seconds


Pattern = Annotated[str, PlainValidator(read_pattern, json_schema_input_type=str), Field(title="path")]
FixedPattern = Annotated[str, PlainValidator(read_fixed_pattern, json_schema_input_type=str), Field(title="path")]
StableFor = Annotated[PositiveDuration, AfterValidator(_at_least_a_second)]
"""How long a file must not have changed, in seconds."""
