"""Checks the size limits of files, functions and folders; part of `make lint`.

    python scripts/limits.py

The limits: a Python file has at most 350 lines, a function at most 50, a folder of ``jobfac``, ``tests`` or ``scripts``
at most 15 files, and ``jobfac`` itself at most eight loose modules. Migrations, which are generated, and the pages of
the guide are excepted. The exit code is 1 if something is larger; each excess is a line.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

FILE_LINES = 350
FUNCTION_LINES = 50
FOLDER_FILES = 15
LOOSE_MODULES = 8
GENERATED = "jobfac/database/migrations/versions/"
GUIDE = "jobfac/guide/"
OPEN: set[str] = set()
"""Known excesses, which do not fail the check. Remove an entry when its excess is gone. Do not add entries."""


class Excess(NamedTuple):
    """``where``: a file, a file and a function (``path:name``), or a folder (``path/``)."""

    where: str
    sentence: str


def excesses(root: Path, names: Iterable[str]) -> Iterator[Excess]:
    """Every file, function and folder above its limit; ``names`` are paths relative to ``root``."""
    paths = sorted(names)
    for name in paths:
        if name.endswith(".py") and not name.startswith(GENERATED):
            yield from _in_file(name, (root / name).read_text(encoding="utf-8"))
    yield from _in_folders(paths)


def _in_file(name: str, text: str) -> Iterator[Excess]:
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield Excess(name, f"{name} has {lines} lines; at most {FILE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                sentence = f"{name}:{node.lineno} {node.name} has {length} lines; at most {FUNCTION_LINES}"
                yield Excess(f"{name}:{node.name}", sentence)


def _in_folders(paths: list[str]) -> Iterator[Excess]:
    counted = [
        name
        for name in paths
        if name.startswith(("jobfac/", "tests/", "scripts/")) and not name.startswith((GENERATED, GUIDE))
    ]
    for folder, number in sorted(Counter(str(Path(name).parent) for name in counted).items()):
        if number > FOLDER_FILES:
            yield Excess(f"{folder}/", f"{folder}/ has {number} files at one level; at most {FOLDER_FILES}")
    loose = [name for name in counted if Path(name).match("jobfac/*.py") and not Path(name).name.startswith("__")]
    if len(loose) > LOOSE_MODULES:
        sentence = f"jobfac/ has {len(loose)} loose modules; at most {LOOSE_MODULES}: {', '.join(loose)}"
        yield Excess("jobfac", sentence)


def main() -> int:
    """Print the excesses of git's files and the obsolete entries of ``OPEN``; returns the exit code."""
    root = Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = list(excesses(root, [name for name in listed.split("\0") if name and (root / name).exists()]))
    failures = [one.sentence for one in found if one.where not in OPEN]
    failures += [
        f"{where} is within its limit: remove it from OPEN" for where in sorted(OPEN - {one.where for one in found})
    ]
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
