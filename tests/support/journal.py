"""The journal of job programs: a program that records its start and end, and a reader of these records."""

from pathlib import Path
from typing import Any, NamedTuple

WITNESS = Path(__file__).parent / "programs" / "witness.sh"


class Line(NamedTuple):
    """A journal line. ``word``: ``start`` (``value`` is the PID), ``end`` (the exit code), or ``overlap``."""

    word: str
    run: int
    attempt: int
    value: int


class Journal:
    """The folder that the job programs of one database write to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def job(self, seconds: float = 0, code: int = 0, later: float | None = None, **more: Any) -> dict[str, Any]:
        """Return the definition of a job that runs ``seconds`` (later attempts: ``later``) and exits with ``code``."""
        environment = {"JOURNAL": str(self.folder)} | more.pop("environment", {})
        command = [str(WITNESS), f"{seconds:g}", str(code), f"{seconds if later is None else later:g}"]
        return {"command": command, "environment": environment, **more}

    def lines(self, word: str = "") -> list[Line]:
        """Return all lines so far, in order, or only those that begin with ``word``."""
        path = self.folder / "log"
        text = path.read_text() if path.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [Line(first, *map(int, rest)) for first, *rest in found if first.startswith(word)]

    def count(self) -> int:
        """Return the number of lines."""
        path = self.folder / "log"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def doubled(self) -> list[Line]:
        """Return the executions that began while another execution of the same run was alive."""
        return self.lines("overlap")
