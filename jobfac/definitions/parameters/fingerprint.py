"""What a start gave, as a short text: equal texts mean that two runs did the same work."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jobfac.definitions.parameters.model import Parameter
from jobfac.definitions.parameters.placeholders import has_placeholder
from jobfac.definitions.parameters.reading import constants

LENGTH = 32
"""Characters of a fingerprint."""

AROUND = ""
"""The name, which no parameter has, of the fingerprint of the sequence that passes on what it was given."""

ARGUMENTS, PAYLOAD, INSIDE = "(arguments)", "(payload)", "(inside)"
"""The names, which no parameter has, of the arguments, of the payload, and of those for the jobs in a sequence."""


def texts_given(
    arguments: Sequence[Any] | None, payload: Any, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a start gave beside parameters, as values for ``fingerprint``; empty: nothing.

    ``overrides``: those of a sequence's run.
    """
    inside = {name: value for name in ("arguments", "payloads") if (value := (overrides or {}).get(name))}
    found: dict[str, Any] = {INSIDE: inside} if inside else {}
    if arguments is not None:
        found[ARGUMENTS] = list(arguments)
    if payload is not None:  # it may have megabytes
        found[PAYLOAD] = hashlib.sha256(str(payload).encode("utf-8", "surrogatepass")).hexdigest()
    return found


def fingerprint(declared: Mapping[str, Parameter], given: Mapping[str, Any], is_template: bool) -> str:
    """Return a text that is equal for two starts that gave the same values.

    Defaults do not count, whether they are given or not, nor do sensitive values. A text of a definition counts as it
    stands, so ``${due.date}`` is the same on each day.

    Args:
        given: values by name, the fingerprint ``AROUND`` them, and ``texts_given``.
        is_template: the values are texts of a definition, whose placeholders are not filled in.
    """
    usual = constants(declared)
    said: dict[str, Any] = {}
    for name, value in given.items():
        parameter = declared.get(name)
        if value is None or (parameter is not None and parameter.sensitive):
            continue
        read = value if parameter is None else _read(parameter, value, is_template)
        if name not in usual or read != usual[name]:
            said[name] = read
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def _read(parameter: Parameter, value: Any, is_template: bool) -> Any:
    """Return the canonical form of a value, so that 5 and "5" are the same for a number."""
    texts = value if isinstance(value, list | tuple) else (value,)
    if is_template and any(isinstance(text, str) and has_placeholder(text) for text in texts):
        return value
    try:
        return parameter.read(value)
    except ValueError:  # the start is refused
        return value
