"""The report file: JSON lines by which a program, in any language, reports its progress, its outputs and its result."""

import contextlib
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from jobfac.database.types import truncate_utf16
from jobfac.definitions import write_size
from jobfac.programs import write_private
from jobfac.programs.masking import Mask

LIMIT = 16 * 1024 * 1024
"""Default for how many bytes of a report file are read."""

LONGEST_LINE = 512 * 1024
"""Bytes of one report; a longer line is passed over, which the run's reason says."""

LONGEST_OUTPUTS = 256 * 1024
"""Bytes of all outputs of an execution as JSON; outputs beyond it are refused, which the run's reason says."""

PIECE = 64 * 1024
"""Bytes that are read and taken in at once."""

PASS = 1024 * 1024
"""Bytes that one call of ``read`` takes in, unless it is told otherwise."""

REMEMBERED = 1024
"""Bytes before the position that are compared at the next read, to notice a file that was written anew."""


class Report:
    """Reads what a program appended to its report file. Lines that are no report are passed over.

    One thread at a time may read. A file that the program truncates, replaces or writes anew is read from its
    beginning; what was read before stays.

    Attributes:
        mask: hides the secrets of the execution in all that is taken in.
        changed: progress or message, since somebody last cleared this.
        incomplete: why not all of the file was read; None: all that was there so far.
        refused: why outputs were refused; None: none were.
        taken: bytes read in all.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        """``limit``: bytes that are read in all."""
        self.path = path
        self.mask = Mask(())
        self.progress: float | None = None
        self.message: str | None = None
        self.result: str | None = None
        self.exit_message: str | None = None
        self.changed = False
        self.incomplete: str | None = None
        self.refused: str | None = None
        self.taken = 0
        self._limit = limit
        self._file: tuple[int, int] | None = None  # device and inode
        self._position = 0  # in the file
        self._before = b""  # the last bytes before the position
        self._line = b""  # the beginning of a line whose end was not read yet
        self._skipping = False  # amidst a line that is too long
        self._outputs: dict[str, str] = {}  # by name, the value as JSON
        self._outputs_size = 0

    @property
    def outputs(self) -> str | None:
        """All outputs as a JSON object, None if none were reported."""
        if not self._outputs:
            return None
        return "{" + ", ".join(f"{_encoded(name)}: {value}" for name, value in self._outputs.items()) + "}"

    def create_for(self, user: str) -> None:
        """Make the file beforehand, owned by the user as whom the program will run.

        Raises:
            StartError: only root may give a file to another user.
        """
        write_private(self.path, b"", user)

    def read(self, final: bool = False, most: int = PASS) -> bool:
        """Take in what was appended since the last call; returns whether all of it was, so that nothing is left.

        Args:
            final: the program has ended: a last line without its end counts, too.
            most: bytes to take in, at least one piece.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # not there, or what the program has put there instead
            return True
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                return True
            self._find_position(handle, found)
            stop = self.taken + most
            while self._position < found.st_size:
                if self.taken >= self._limit:
                    self.incomplete = f"its report is longer than {write_size(self._limit)}; the rest was not read"
                    return True
                if self.taken >= stop:
                    return False
                if not (data := os.pread(handle, min(PIECE, self._limit - self.taken), self._position)):
                    break
                self._feed(data)
        finally:
            os.close(handle)
        if final:
            self._take(self._line)
            self._line = b""
        return True

    def _find_position(self, handle: int, found: os.stat_result) -> None:
        """Begin anew if this is another file than before, or the same with other content."""
        same = self._file in (None, (found.st_dev, found.st_ino)) and found.st_size >= self._position
        if same and self._before:
            same = os.pread(handle, len(self._before), self._position - len(self._before)) == self._before
        self._file = (found.st_dev, found.st_ino)
        if not same:
            self._position, self._before, self._line, self._skipping = 0, b"", b"", False

    def _feed(self, data: bytes) -> None:
        self._position += len(data)
        self.taken += len(data)
        self._before = (self._before + data)[-REMEMBERED:]
        *lines, self._line = (self._line + data).split(b"\n")
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        for line in lines:
            self._take(line)
        if self._skipping or len(self._line) > LONGEST_LINE:
            self._skipping, self._line = True, b""
            self._note_long_line()

    def _note_long_line(self) -> None:
        self.incomplete = f"a line of its report is longer than {write_size(LONGEST_LINE)} and was passed over"

    def _take(self, line: bytes) -> None:
        if len(line) > LONGEST_LINE:
            self._note_long_line()
            return
        # RecursionError and OverflowError: brackets and numbers beyond all measure.
        with contextlib.suppress(ValueError, RecursionError, OverflowError):
            said = json.loads(line)
            if isinstance(said, dict):
                self._take_in(self.mask.hide(said))

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
            self._merge(said["outputs"])

    def _merge(self, more: dict[str, Any]) -> None:
        """Add outputs, all of this line or none: the work is that of the line, whatever was reported before."""
        fresh = {_whole(name): _encoded(value) for name, value in more.items()}
        size = self._outputs_size
        for name, value in fresh.items():
            size += len(value.encode()) - len(self._outputs.get(name, "").encode())
            if name not in self._outputs:
                size += len(_encoded(name).encode()) + len(": , ")
        if size > LONGEST_OUTPUTS:
            self.refused = f"outputs beyond {write_size(LONGEST_OUTPUTS)} were refused"
            return
        self._outputs |= fresh
        self._outputs_size = size

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # not there, or what the program has put there instead
            self.path.unlink()


def _encoded(value: Any) -> str:
    """As JSON that any database stores. ValueError: NaN or infinite."""
    return _whole(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _whole(text: str) -> str:
    """The text with question marks for halves of characters, which JSON can spell and no database store."""
    return text.encode(errors="replace").decode()
