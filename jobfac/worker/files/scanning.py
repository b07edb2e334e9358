"""Find the files that a pattern names, with their sizes and times. No database and no state."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple


class Seen(NamedTuple):
    """A file as it was found: bytes, and the time of modification in nanoseconds since 1970."""

    size: int
    modified: int


class Listing(NamedTuple):
    """A folder that was read to its end.

    Attributes:
        place: the disk and the number of the folder there. A drive that is mounted or unmounted there changes it.
            Empty: unknown.
        names: of all that the pattern names there, also of what is no file or could not be looked at.
    """

    place: str
    names: frozenset[str]


class Scan(NamedTuple):
    """The result of a scan.

    Attributes:
        files: what was found, by path.
        folders: where it looked, as far as these folders exist.
        problems: why something could not be looked at, as clauses.
        listings: the folders that were read to their end, by path.
    """

    files: dict[str, Seen]
    folders: frozenset[str]
    problems: list[str]
    listings: Mapping[str, Listing] = MappingProxyType({})


def scan(pattern: str) -> Scan:
    """Return the files that an absolute pattern names: ``*``, ``?``, ``[...]``, and ``**`` for any folders.

    A name that begins with a dot is only found by a pattern that does. Links to files count, folders do not. ``**``
    follows no links to folders. What other users put there, such as a folder that cannot be read, a loop of links or a
    path that is too long, is a problem of that folder only.
    """
    path = Path(pattern)
    folder, name = (path, "*") if path.name == "**" else (path.parent, path.name)
    files: dict[str, Seen] = {}
    listings: dict[str, Listing] = {}
    disks: dict[int, int] = {}
    problems: list[str] = []
    for place in _folders(folder, problems):
        try:
            before, names = _identity(place, disks), set[str]()
            files.update(_inside(place, name, names, problems))
            same = before if _identity(place, disks) == before else ""
            listings[place] = Listing(same, frozenset(names))
        except OSError as error:
            problems.append(f"{shown(place)} cannot be read: {error.strerror or error}")
    return Scan(files, frozenset(listings), problems, listings)


def _identity(folder: str, disks: dict[int, int]) -> str:
    """Return the disk and the number of a folder. ``disks``: the disks by device, since each costs a call to a server.

    Another disk may have the same device and number: the next one that is mounted, and the top folder of each.
    """
    found = os.stat(folder)  # noqa: PTH116 (hot)
    if not found.st_ino:
        return ""
    if sys.platform != "win32" and found.st_dev not in disks:
        disks[found.st_dev] = os.statvfs(folder).f_fsid
    return f"{found.st_dev}:{found.st_ino}:{disks.get(found.st_dev, 0)}"


def shown(path: str) -> str:
    """Return a path as text for messages: bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def folder_of(pattern: str) -> str:
    """Return the innermost folder that a pattern names without a wildcard."""
    parts = Path(pattern).parts[:-1]
    return str(Path(*parts[: _first_wildcard(parts)]))


def _first_wildcard(parts: Sequence[str]) -> int:
    """Return the place of the first part with a wildcard; the number of parts if there is none."""
    return next((place for place, part in enumerate(parts) if _is_pattern(part)), len(parts))


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _folders(pattern: Path, problems: list[str]) -> Iterator[str]:
    """Yield the folders that a pattern names, each once, without recursion: a tree may be deeper than Python's stack.

    A folder above them that cannot be read is a problem, unless it is no folder or has gone.
    """
    parts = pattern.parts
    first = _first_wildcard(parts)
    wants_hidden = any(part.startswith(".") for part in parts[first:])
    waiting = [(str(Path(*parts[:first])), first)]
    known = set(waiting)
    while waiting:
        place, at = waiting.pop()
        if at == len(parts):
            yield place
            continue
        try:
            following = list(_next(place, parts, at, wants_hidden))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problems.append(f"{shown(place)} cannot be read: {error.strerror or error}")
            continue
        waiting += [one for one in following if one not in known]
        known.update(following)


def _next(place: str, parts: Sequence[str], at: int, wants_hidden: bool) -> Iterator[tuple[str, int]]:
    """Yield the folders in ``place`` that part ``at`` of a pattern names, and which part they have to match next."""
    part = parts[at]
    if not _is_pattern(part):
        below = os.path.join(place, part)  # noqa: PTH118 (hot)
        if os.path.isdir(below):  # noqa: PTH112 (hot)
            yield below, at + 1
        return
    if part == "**":
        yield place, at + 1
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not wants_hidden:
                continue
            if part == "**":
                if entry.is_dir(follow_symlinks=False):
                    yield entry.path, at
            elif fnmatch(entry.name, part) and _is_folder(entry):
                yield entry.path, at + 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or a link into a folder that may not be entered
        return False


def _inside(folder: str, name: str, names: set[str], problems: list[str]) -> Iterator[tuple[str, Seen]]:
    """Yield the files of one folder; add the names of all that matches. Raises ``OSError`` if it cannot be read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _matches(entry.name, name):
                continue
            names.add(entry.name)
            try:
                if not entry.is_file():
                    continue
                found = entry.stat()
                entry.path.encode()
            except FileNotFoundError:  # it has gone meanwhile
                continue
            except OSError as error:
                problems.append(f"{shown(entry.path)} cannot be read: {error.strerror or error}")
                continue
            except UnicodeEncodeError:
                problems.append(f"{os.fsencode(entry.path)!r} is left out, because its name is not UTF-8; rename it")
                continue
            yield entry.path, Seen(found.st_size, found.st_mtime_ns)


def _matches(found: str, name: str) -> bool:
    if not _is_pattern(name):
        return os.path.normcase(found) == os.path.normcase(name)
    return fnmatch(found, name) and (not found.startswith(".") or name.startswith("."))
