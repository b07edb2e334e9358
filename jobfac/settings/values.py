"""The values of settings: read from text, and checked against their type and limits."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from jobfac.errors import JobfacError, Kind
from jobfac.settings.passwords import without_password


class SettingsError(JobfacError):
    """A setting has an unusable value. The text names the setting and the values it accepts."""

    kind = Kind.MISCONFIGURED


def checked(setting: "dataclasses.Field[Any]", given: Any, text: bool = False) -> Any:
    """The value, checked against the setting's type and limits; ``text``: it comes from an environment variable.

    Raises:
        ValueError: the type or range is wrong. The text says which values are accepted.
    """
    kind, limits = type(setting.default), setting.metadata
    value = _read(given, kind) if text else given
    if isinstance(value, str) and "words" in limits:
        value = value.lower()
    if kind is float and type(value) is int:
        value = float(value)
    right = type(value) is kind and value in limits.get("words", (value,))
    if right and kind in (int, float):
        right = limits.get("least", -math.inf) <= value <= limits.get("most", sys.float_info.max)
        right = right and value > limits.get("above", -math.inf)
    if not right:
        shown = f"'{given}'" if isinstance(given, str) else json.dumps(given, default=str, ensure_ascii=False)
        but = "" if limits.get("secret") else f", not {without_password(shown)}"
        raise ValueError(f"must be {wanted(kind, limits)}{but}.")
    return value


def _read(text: str, kind: type) -> Any:
    """The text of an environment variable converted to ``kind``, or unchanged if it cannot be converted."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words.get(text.lower(), text) if kind is bool else kind(text)
    except ValueError:
        return text


def wanted(kind: type, limits: Mapping[str, Any]) -> str:
    """The values a setting accepts, as a phrase for error messages."""
    if words := [word for word in limits.get("words", ()) if word]:
        return f"{', '.join(words[:-1])} or {words[-1]}"
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text in quotes")
    if "above" in limits:
        wanted += f" greater than {limits['above']}"
    if "least" in limits:
        wanted += f" from {limits['least']}" if "most" in limits else f" of at least {limits['least']}"
    if "most" in limits:
        wanted += f" {'to' if 'least' in limits else 'and at most'} {limits['most']}"
    return wanted
