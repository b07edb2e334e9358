"""Placeholders in paths: a value names something below the folder that the definition names, never beyond it."""

import os.path
import re
from collections.abc import Callable
from pathlib import PurePath
from urllib.parse import quote

from jobfac.definitions.parameters.placeholders import Context, Placeholder, UnresolvedError, fill, has_placeholder

_WILDCARD = re.compile(r"([?\[])")


def fill_pattern(pattern: str, context: Context) -> str:
    """Return a pattern of paths with its placeholders replaced. A value is never a wildcard.

    Raises:
        UnresolvedError: as ``fill_path``.
    """
    return _filled(pattern, context, lambda placeholder, value: _WILDCARD.sub(r"[\1]", _checked(placeholder, value)))


def fill_address(url: str, context: Context) -> str:
    """Return a URL with its placeholders replaced; a value stays inside its part of the URL.

    Raises:
        UnresolvedError: a placeholder has no value, or the path would lead to another one by a part that is `..`.
    """
    filled = fill(url, context, lambda placeholder, value: quote(value, safe=""))
    if _dots(filled) != _dots(url):
        raise UnresolvedError(f"would become {filled!r}, which is another path; give a name without dots alone")
    return filled


def fill_path(path: str, context: Context) -> str:
    """Return the path with its placeholders replaced.

    Raises:
        UnresolvedError: a value leads out of the folder that stands before the first placeholder, or has a character
            that no name of a file should have.
    """
    return _filled(path, context, _checked)


def _filled(path: str, context: Context, convert: Callable[[Placeholder, str], str]) -> str:
    if not has_placeholder(path):
        return fill(path, context)
    filled = fill(path, context, convert)
    folder = path[: path.index("${")].rpartition("/")[0]
    if folder and not PurePath(os.path.normpath(filled)).is_relative_to(os.path.normpath(folder)):
        raise UnresolvedError(f"leads to {filled!r}, out of the folder {folder!r}; give a plain name")
    # Dots of two values, or of a value and the definition, make `..`; an empty value leaves a slash at the beginning.
    if _dots(filled) != _dots(path) or PurePath(filled).is_absolute() != PurePath(path).is_absolute():
        raise UnresolvedError(f"leads to {filled!r}, out of its folder; give a plain name")
    return filled


def _dots(path: str) -> int:
    """How often the path leads to the folder above."""
    return re.split(r"[/\\?#]", path).count("..")


def _checked(placeholder: Placeholder, value: str) -> str:
    parts = value.replace("\\", "/").split("/")
    if ".." in parts or value.startswith(("/", "\\", "~")):
        raise UnresolvedError(f"would leave its folder: {placeholder} is {value!r}; give a plain name")
    if any(ord(sign) < 32 or sign in "*\x7f" for sign in value):
        raise UnresolvedError(f"cannot hold the characters of {placeholder}, {value!r}; give a plain name")
    return value
