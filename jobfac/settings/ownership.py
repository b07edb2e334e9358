"""Whose files decide which programs run: a ``jobfac.toml`` that was found, and the file of a SQLite database."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path


def foreign_owner(path: Path) -> str | None:
    """Return the owner of a file that neither this user, nor root, nor the owner of its folder owns; otherwise None.

    In a folder such as /tmp, another user can leave a file for whoever works there.
    """
    try:
        return _foreign(path, path.stat())
    except OSError:  # it does not exist, or opening it reports why not
        return None


def _foreign(path: Path, found: os.stat_result) -> str | None:
    folder = path.absolute().parent.stat().st_uid
    return None if found.st_uid in (0, os.geteuid(), folder) else _user(found.st_uid)


def owner_fault(path: Path, found: os.stat_result) -> str | None:
    """Return why the settings that were opened at the path are not used, as a sentence; None: they are."""
    if (owner := _foreign(path, found)) is None:
        return None
    return (
        f"{path} in this folder belongs to {owner} and could run any program here: remove it, or name it in "
        "JOBFAC_CONFIG if you trust it."
    )


def database_fault(path: Path) -> str | None:
    """Return why other users could decide what a SQLite database contains, as a sentence; None: they could not.

    SQLite takes the files beside a database whose names begin with its name for its own journals, and copies their
    content into the database.
    """
    if (owner := foreign_owner(path)) is not None:
        return (
            f"The database {path} belongs to {owner}, who could run any program here: use another, or run jobfac as "
            "that user."
        )
    for name, mode in open_to_others(path):
        if mode & 0o002:
            return (
                f"The database {path} is not used: anybody may write to {name} (mode {mode:04o}), and so run any "
                f"program here. Stop every role, and `chmod 600 {path}*`."
            )
    for place in dict.fromkeys((path.absolute(), Path(os.path.realpath(path)))):
        for above in place.parents:
            mode = above.stat().st_mode if above.is_dir() else 0
            if mode & 0o002 and (above == place.parent or not mode & stat.S_ISVTX):
                return (
                    f"The database {path} is not used: anybody may change '{above}', in which it lies, and so place a "
                    "journal beside it. Choose a folder of your own."
                )
    return None


def open_to_others(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the file of a SQLite database and those beside it that other users may use, each with its mode."""
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        try:
            mode = stat.S_IMODE(name.stat().st_mode)
        except OSError:  # SQLite removes those beside it when the last program closes it
            continue
        if mode & 0o077:
            yield name, mode


def _user(number: int) -> str:
    try:
        return f"user '{pwd.getpwuid(number).pw_name}'"
    except KeyError:
        return f"user {number}"
