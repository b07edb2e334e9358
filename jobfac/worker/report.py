"""The report file: JSON lines by which a program, in any language, tells of its progress and its result."""

import contextlib
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from jobfac.database.types import truncate_utf16
from jobfac.programs import write_private

LONGEST_LINE = 64 * 1024
"""Bytes of one report; a longer line is passed over."""


class Report:
    """Reads what a program appended to its report file. Lines that are no report are passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress: float | None = None
        self.message: str | None = None
        self.result: str | None = None
        self.exit_message: str | None = None
        self.outputs: str | None = None
        self.changed = False  # progress or message, since the worker last looked
        self._position = 0

    def create_for(self, user: str) -> None:
        """Make the file beforehand, owned by the user as whom the program will run.

        Raises:
            StartError: only root may give a file to another user.
        """
        write_private(self.path, b"", user)

    def read(self, final: bool = False) -> None:
        """Take in whole lines that were appended since the last call; ``final``: a last one without its end too."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # not there, or what the program has put there instead
            return
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return
            text = os.pread(handle, 16 * LONGEST_LINE, self._position)
        finally:
            os.close(handle)
        end = text.rfind(b"\n") + 1
        if final or (end == 0 and len(text) > LONGEST_LINE):
            end = len(text)
        self._position += end
        for line in text[:end].splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        # RecursionError and OverflowError: brackets and numbers beyond all measure.
        with contextlib.suppress(ValueError, RecursionError, OverflowError):
            said = json.loads(line) if len(line) <= LONGEST_LINE else None
            if isinstance(said, dict):
                self._take_in(said)

    def _take_in(self, said: dict[str, Any]) -> None:
        progress = said.get("progress")
        if isinstance(progress, int | float) and not isinstance(progress, bool) and math.isfinite(progress):
            self.progress = min(1.0, max(0.0, float(progress)))
            self.changed = True
        for name in ("message", "result", "exit_message"):
            if isinstance(said.get(name), str):
                setattr(self, name, truncate_utf16(_whole(said[name]), 1000))
                self.changed = self.changed or name == "message"
        if isinstance(said.get("outputs"), dict):
            self.outputs = self._merged(said["outputs"])

    def _merged(self, more: dict[str, Any]) -> str:
        known = json.loads(self.outputs) if self.outputs else {}
        return _whole(json.dumps(known | more, ensure_ascii=False, allow_nan=False))

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # not there, or what the program has put there instead
            self.path.unlink()


def _whole(text: str) -> str:
    """The text with question marks for halves of characters, which JSON can spell and no database store."""
    return text.encode(errors="replace").decode()
