"""Typed parameters of jobs and sequences, and the placeholders that stand for their values.

``read_parameters`` is the one check of every start. ``fill`` puts values into the texts of a definition: a value stays
inside its own argument and is never text of a program. ``bind`` gives a SQL text with bound parameters.
"""

from jobfac.definitions.parameters.checks import variable
from jobfac.definitions.parameters.model import Declared, Parameter, fill_value
from jobfac.definitions.parameters.paths import fill_address, fill_path, fill_pattern
from jobfac.definitions.parameters.placeholders import (
    Context,
    Placeholder,
    UnresolvedError,
    bind,
    fill,
    has_placeholder,
    placeholders,
    resolve,
    whole,
)
from jobfac.definitions.parameters.reading import (
    MASK,
    Values,
    constants,
    is_late,
    needs_previous,
    read_parameters,
    secrets,
    split,
    typed_value,
)
from jobfac.definitions.parameters.values import Typed, Value, as_text

__all__ = [
    "MASK",
    "Context",
    "Declared",
    "Parameter",
    "Placeholder",
    "Typed",
    "UnresolvedError",
    "Value",
    "Values",
    "as_text",
    "bind",
    "constants",
    "fill",
    "fill_address",
    "fill_path",
    "fill_pattern",
    "fill_value",
    "has_placeholder",
    "is_late",
    "needs_previous",
    "placeholders",
    "read_parameters",
    "resolve",
    "secrets",
    "split",
    "typed_value",
    "variable",
    "whole",
]
