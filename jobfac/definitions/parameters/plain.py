"""Decide which values cannot be the text of a program: numbers, dates, and words of letters and digits."""

import re
from collections.abc import Mapping
from functools import lru_cache

from jobfac.definitions.parameters.model import Parameter
from jobfac.definitions.parameters.placeholders import Placeholder

_NUMBERS = ("integer", "number", "boolean")
_PLAIN_TRIGGERS = ("trigger.size", "trigger.run.id", "trigger.run.job", "trigger.run.state")

_SIMPLE = r"(?:[A-Za-z0-9_:,-]|\\[dw.-])"
_CLASS = r"\[(?:[A-Z]-[A-Z]|[a-z]-[a-z]|[0-9]-[0-9]|[A-Za-z0-9_.:,+]|\\[dw.+-]|-(?=\])|(?<=\[)-)+\]"
_PLAIN_PATTERN = re.compile(rf"(?:{_SIMPLE}|{_CLASS}|\((?:\?:)?|\)|\||[*+?]|\{{[0-9,]+\}}|\^|\$)*+")
"""A regular expression of letters, digits and the characters _ . : , + - alone, with its groups and repetitions. Those
characters neither end a word or a text in quotes nor begin a statement, an option's value or a path."""


def is_plain(placeholder: Placeholder, declared: Mapping[str, Parameter]) -> bool:
    """Whether no value of a placeholder can be text of a program, so that it may become a part of one.

    ``declared``: the parameters to which it may refer. The words of a choice are the author's.
    """
    if placeholder.parameter is None:
        return placeholder.space != "trigger" or placeholder.name in _PLAIN_TRIGGERS
    if placeholder.parameter not in declared:
        return True  # reported elsewhere
    parameter = declared[placeholder.parameter]
    if parameter.many:
        return parameter.type in _NUMBERS
    return parameter.type != "text" or (parameter.pattern is not None and is_plain_pattern(parameter.pattern))


@lru_cache(maxsize=1024)
def is_plain_pattern(pattern: str) -> bool:
    """Whether a regular expression matches only words of letters, digits and the characters _ . : , + -."""
    return _PLAIN_PATTERN.fullmatch(pattern) is not None
