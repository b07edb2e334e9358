"""Placeholders in paths: a value names something below the folder that the definition names, never beyond it."""

import os.path
from pathlib import PurePath

from jobfac.definitions.parameters.placeholders import Context, Placeholder, UnresolvedError, fill, has_placeholder


def fill_path(path: str, context: Context) -> str:
    """Return the path with its placeholders replaced.

    Raises:
        UnresolvedError: a value leads out of the folder that stands before the first placeholder, or has a character
            that no name of a file should have.
    """
    if not has_placeholder(path):
        return fill(path, context)
    filled = fill(path, context, _checked)
    folder = path[: path.index("${")].rpartition("/")[0]
    if folder and not PurePath(os.path.normpath(filled)).is_relative_to(os.path.normpath(folder)):
        raise UnresolvedError(f"leads to {filled!r}, out of the folder {folder!r}; give a plain name")
    return filled


def _checked(placeholder: Placeholder, value: str) -> str:
    parts = value.replace("\\", "/").split("/")
    if ".." in parts or value.startswith(("/", "\\", "~")):
        raise UnresolvedError(f"would leave its folder: {placeholder} is {value!r}; give a plain name")
    if any(ord(sign) < 32 or sign in "*\x7f" for sign in value):
        raise UnresolvedError(f"cannot hold the characters of {placeholder}, {value!r}; give a plain name")
    return value
