"""Find the files that a pattern names, with their sizes and times. No database and no state."""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """A file as it was found: bytes, and the time of modification in nanoseconds since 1970."""

    size: int
    modified: int


class Scan(NamedTuple):
    """The result of a scan.

    Attributes:
        files: what was found, by path.
        folders: where it looked, as far as these folders exist.
        problems: why something could not be looked at, as clauses.
    """

    files: dict[str, Seen]
    folders: frozenset[str]
    problems: list[str]


def scan(pattern: str) -> Scan:
    """Return the files that an absolute pattern names: ``*``, ``?``, ``[...]``, and ``**`` for any folders.

    A name that begins with a dot is only found by a pattern that does. Links to files count, folders do not.
    """
    path = Path(pattern)
    folder, name = (path, "*") if path.name == "**" else (path.parent, path.name)
    files: dict[str, Seen] = {}
    folders: set[str] = set()
    problems: list[str] = []
    for place in _folders(folder):
        try:
            files.update(_inside(place, name, problems))
            folders.add(str(place))
        except OSError as error:
            problems.append(f"{place} cannot be read: {error.strerror or error}")
    return Scan(files, frozenset(folders), problems)


def folder_of(pattern: str) -> str:
    """Return the innermost folder that a pattern names without a wildcard."""
    parts = Path(pattern).parts[:-1]
    first = next((place for place, part in enumerate(parts) if _is_pattern(part)), len(parts))
    return str(Path(*parts[:first]))


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _folders(pattern: Path) -> Iterator[Path]:
    parts = pattern.parts
    first = next((place for place, part in enumerate(parts) if _is_pattern(part)), len(parts))
    base = Path(*parts[:first])
    if first == len(parts):
        yield base
        return
    wants_hidden = any(part.startswith(".") for part in parts[first:])
    for place in base.glob("/".join(parts[first:])):
        is_hidden = any(part.startswith(".") for part in place.relative_to(base).parts)
        if place.is_dir() and (wants_hidden or not is_hidden):
            yield place


def _inside(folder: Path, name: str, problems: list[str]) -> Iterator[tuple[str, Seen]]:
    """Yield the files of one folder. Raises ``OSError`` if the folder cannot be read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _matches(entry.name, name):
                continue
            try:
                if not entry.is_file():
                    continue
                found = entry.stat()
                entry.path.encode()
            except FileNotFoundError:  # it has gone meanwhile
                continue
            except OSError as error:
                problems.append(f"{entry.path} cannot be read: {error.strerror or error}")
                continue
            except UnicodeEncodeError:
                problems.append(f"{os.fsencode(entry.path)!r} is left out, because its name is not UTF-8; rename it")
                continue
            yield entry.path, Seen(found.st_size, found.st_mtime_ns)


def _matches(found: str, name: str) -> bool:
    if not _is_pattern(name):
        return os.path.normcase(found) == os.path.normcase(name)
    return fnmatch(found, name) and (not found.startswith(".") or name.startswith("."))
