"""Remember on the disk what texts were translated to, as Python does with its modules.

Every process of the tests sends nearly the same statements, and to translate one costs more than to execute it.
"""

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
PACKAGE = Path(__file__).parents[1]


def _version() -> str:
    """A text that is another one as soon as anything changes that translates."""
    sources = sorted(PACKAGE.rglob("*.py"))
    parts = [sys.version, version("sqlglot"), *(path.read_text(encoding="utf-8") for path in sources)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


FOLDER = PACKAGE.parents[1] / ".build" / "translations" / _version()


def remembered(function: Function) -> Function:
    """Have a function of texts remember its results, which must depend on its arguments alone. Errors are not kept."""

    @lru_cache(maxsize=4096)
    @wraps(function)
    def found(*arguments: Any) -> Any:
        key = repr((function.__module__, function.__name__, arguments)).encode("utf-8", "surrogatepass")
        path = FOLDER / hashlib.sha256(key).hexdigest()[:32]
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            return pickle.loads(path.read_bytes())
        made = function(*arguments)
        with contextlib.suppress(OSError):
            _write(path, pickle.dumps(made))
        return made

    return cast(Function, found)


def _write(path: Path, content: bytes) -> None:
    """Write a file that no other process sees before it is whole."""
    if not path.parent.exists():
        shutil.rmtree(path.parents[1], ignore_errors=True)  # of other versions
        path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
