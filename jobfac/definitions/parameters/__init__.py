"""Typed parameters of jobs and sequences, and the placeholders that stand for their values.

``read_parameters`` is the one check of every start. ``fill`` puts values into the texts of a definition: a value stays
inside its own argument and is never text of a program. ``bind`` gives a SQL text with bound parameters.
"""

from jobfac.definitions.parameters.fingerprint import AROUND, fingerprint, texts_given
from jobfac.definitions.parameters.model import Declared, Parameter, fill_value
from jobfac.definitions.parameters.paths import fill_address, fill_path, fill_pattern
from jobfac.definitions.parameters.placeholders import (
    Context,
    UnresolvedError,
    bind,
    fill,
    has_placeholder,
    placeholders,
    resolve,
    texts_between,
    whole,
)
from jobfac.definitions.parameters.reading import (
    Values,
    constants,
    needs_previous,
    read_parameters,
    secrets,
    split,
)
from jobfac.definitions.parameters.remedies import variable
from jobfac.definitions.parameters.values import as_text

__all__ = [
    "AROUND", "Context", "Declared", "Parameter", "UnresolvedError", "Values", "as_text", "bind", "constants", "fill",
    "fill_address", "fill_path", "fill_pattern", "fill_value", "fingerprint", "has_placeholder", "needs_previous",
    "placeholders", "read_parameters", "resolve", "secrets", "split", "texts_between", "texts_given", "variable",
    "whole",
]  # fmt: skip
