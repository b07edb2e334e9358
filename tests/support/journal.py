"""What runs say of themselves: a program that writes down its start and its end, and the reading of that."""

from pathlib import Path
from typing import Any, NamedTuple

WITNESS = Path(__file__).parent / "programs" / "witness.sh"


class Line(NamedTuple):
    """``word``: ``start`` (``value`` is the process number), ``end`` (the exit code), or ``overlap``."""

    word: str
    run: int
    attempt: int
    value: int


class Journal:
    """The folder in which the witnesses of one database write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def job(self, seconds: float = 0, code: int = 0, later: float | None = None, **more: Any) -> dict[str, Any]:
        """The definition of a job that takes so long (in ``later`` attempts so long) and ends with this code."""
        environment = {"JOURNAL": str(self.folder)} | more.pop("environment", {})
        command = [str(WITNESS), f"{seconds:g}", str(code), f"{seconds if later is None else later:g}"]
        return {"command": command, "environment": environment, **more}

    def lines(self, word: str = "") -> list[Line]:
        """Everything so far, in the order in which it happened, or only lines that begin with ``word``."""
        path = self.folder / "log"
        text = path.read_text() if path.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [Line(first, *map(int, rest)) for first, *rest in found if first.startswith(word)]

    def count(self) -> int:
        """How many lines there are."""
        path = self.folder / "log"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def doubled(self) -> list[Line]:
        """Executions of a run that began while another one of it was alive."""
        return self.lines("overlap")
