"""The report file: JSON lines in which a program, in any language, reports its progress, outputs and result."""

import contextlib
import errno
import json
import math
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jobfac.database.types import truncate_utf16
from jobfac.definitions import write_size
from jobfac.machine.disk import FAILING
from jobfac.programs import other_user, write_private
from jobfac.programs.masking import NOTHING_HIDDEN

LIMIT = 16 * 1024 * 1024
"""Default limit of the bytes read from a report file."""

LONGEST_LINE = 512 * 1024
"""Maximum bytes of one line. A longer line is skipped, and the run's reason says so."""

DEEPEST = 64
"""Maximum levels of lists and objects in an output. Every reader of a run needs the stack for them, and SQL Server's
JSON functions read 128 levels. Deeper outputs are refused; the run's reason says so."""

LONGEST_OUTPUTS = 256 * 1024
"""Maximum bytes of all outputs of an execution as JSON. Outputs beyond it are refused; the run's reason says so."""

BLANK = " \t\r\0\ufeff"
"""Characters around the objects of a line: of line ends, of a file that was truncated while it was written, and of
another encoding's beginning."""

PIECE = 64 * 1024
"""Bytes of one read."""

PASS = 1024 * 1024
"""Default limit in bytes of one call of ``read``."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""Errors of a file that the program has removed, or replaced with something else: it reports nothing."""

PASSES = FAILING - GONE | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}
"""Errors of the machine, after which the file may be readable again."""

PATIENCE = 30.0
"""Seconds for which a file is tried that cannot be read."""

REMEMBERED = 1024
"""Bytes before the position that the next read compares, to detect a file that was rewritten."""


class Report:
    """Reads what a program appends to its report file. Skips lines that are not JSON objects, and notes that.

    One thread at a time may read. A file that the program truncates, replaces or rewrites is read from its start.
    Values that were read before are kept.

    Attributes:
        mask: hides the secrets of the execution in every value.
        changed: progress or message has changed; the reader of these resets it.
        is_blocked: the machine cannot read the file at the moment; a later call may.
        is_foreign: it belongs to another user, who may let its readers wait.
        is_at_end: all of it was read after the end of the program.
        taken, limit: total bytes read, and the most.
    """

    def __init__(self, path: str | Path, limit: int = LIMIT) -> None:
        """``limit``: maximum total bytes to read."""
        self.path = str(path)
        self.mask = NOTHING_HIDDEN
        self.progress: float | None = None
        self.message: str | None = None
        self.result: str | None = None
        self.exit_message: str | None = None
        self.changed = self.is_blocked = self.is_at_end = self.is_foreign = False
        self.turn: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()  # in which it parses
        self.taken = 0
        self._blocked_until: float | None = None
        self._incomplete: str | None = None
        self._refused: str | None = None
        self._skipped: str | None = None  # a line that may have held anything
        self._may_be_result = False  # such a line came after the last result
        self.limit = limit
        self._file: tuple[int, int] | None = None  # device and inode
        self._position = 0  # in the file
        self._before = b""  # the last bytes before the position
        self._line = b""  # the start of an incomplete line
        self._skipping = False  # inside a line that is too long
        self._outputs: dict[str, str] = {}  # by name, the value as JSON
        self._outputs_size = 0

    @property
    def incomplete(self) -> str | None:
        """Why a part of the file was not read that may contain the result; None: no part."""
        return self._incomplete or (self._skipped if self._may_be_result else None)

    @property
    def refused(self) -> str | None:
        """Why outputs were refused, or a line was skipped that does not count as ``incomplete``; None: none was."""
        return self._refused or (None if self._may_be_result else self._skipped)

    @property
    def outputs(self) -> str | None:
        """All outputs as a JSON object; None if the program reported none."""
        if not self._outputs:
            return None
        return "{" + ", ".join(f"{_encoded(name)}: {value}" for name, value in self._outputs.items()) + "}"

    def create_for(self, user: str) -> None:
        """Create the file before the start, owned by the user that the program will run as.

        Raises:
            StartError: only root may give a file to another user.
        """
        write_private(Path(self.path), b"", user)
        self.is_foreign = other_user(user) is not None

    def read(self, final: bool = False, most: int = PASS) -> bool:
        """Read what was appended since the last call, up to ``most`` bytes; returns whether everything was read.

        ``final``: the program has ended, so a last line without a newline counts, too.
        """
        try:
            done = self._read(most)
        except OSError as error:  # before the end the next call reads what this one could not
            self.is_at_end = final and self._is_over(error)
            return not final or self.is_at_end
        self.is_blocked, self._blocked_until = False, None
        if final and done:
            if self._line:
                with self.turn:
                    self._take([self._line])
            self._line, self.is_at_end = b"", True
        return done

    def _is_over(self, error: OSError) -> bool:
        """Whether to try no more to read the file after the program's end."""
        now = time.monotonic()
        self._blocked_until = self._blocked_until or now + PATIENCE
        self.is_blocked = error.errno in PASSES and now < self._blocked_until
        if not self.is_blocked and error.errno not in GONE:
            self._incomplete = f"its report could not be read: {error.strerror}"
        return not self.is_blocked

    def _read(self, most: int) -> bool:
        handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):  # the program has replaced it
                return True
            self._find_position(handle, found)
            stop = self.taken + most
            while self._position < found.st_size:
                if self.taken >= self.limit:
                    self._incomplete = f"its report is longer than {write_size(self.limit)}; the rest was not read"
                    return True
                if self.taken >= stop:
                    return False
                if not (data := os.pread(handle, min(PIECE, self.limit - self.taken), self._position)):
                    break
                with self.turn:
                    self._feed(data)
        finally:
            os.close(handle)
        return True

    def _find_position(self, handle: int, found: os.stat_result) -> None:
        """Start again at 0 if the file was replaced or its content was rewritten."""
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
        self._take(lines)
        if self._skipping or len(self._line) > LONGEST_LINE:
            self._skipping, self._line = True, b""
            self._note_long_line()

    def _note_long_line(self) -> None:
        self._incomplete = f"a line of its report is longer than {write_size(LONGEST_LINE)} and was skipped"

    def _take(self, lines: Sequence[bytes]) -> None:
        """Take over what these lines say. They are masked together: one by one costs a minute for a million lines."""
        found = [values for line in lines for values in self._parse(line)]
        try:
            masked = self.mask.hide(found)
        except RecursionError:  # of one of them
            masked = [self._masked(one) for one in found]
        for values in masked:
            if values is None:
                self._may_be_result = True
            else:
                self._apply(values)

    def _parse(self, line: bytes) -> Sequence[dict[str, Any] | None]:
        """Return the objects of a line: one, or several if the program has left out a line end; None for anything else.

        That may be a failure, with a message in quotes that the program did not escape, for example.
        """
        if len(line) > LONGEST_LINE:
            self._note_long_line()
            return ()
        text = line.decode(errors="replace").strip(BLANK)
        found: list[dict[str, Any] | None] = []
        has_nul = "\\u0000" in text  # looked for once: a line may have very many objects
        try:
            found.extend(_without_nul(one) if has_nul else one for one in _objects(text))
        except RecursionError:
            self._note_deep_line()
        except ValueError:
            self._skipped = "a line of its report is not a JSON object and was skipped"
            found.append(None)
        return found

    def _masked(self, values: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            masked: dict[str, Any] | None = self.mask.hide(values)
        except RecursionError:
            self._note_deep_line()
            return None
        return masked

    def _note_deep_line(self) -> None:
        self._incomplete = "a line of its report is nested too deeply and was skipped"

    def _apply(self, values: dict[str, Any]) -> None:
        progress = _fraction(values.get("progress"))
        if progress is not None:
            self.progress = progress
            self.changed = True
        for name in ("message", "result", "exit_message"):
            if isinstance(values.get(name), str):
                setattr(self, name, truncate_utf16(_without_surrogates(values[name]), 1000))
                self.changed = self.changed or name == "message"
        result = values.get("result")
        if isinstance(result, str):
            self._may_be_result = False
        elif result is not None:  # it is neither succeeded nor failed, which counts as a failure
            self.result = truncate_utf16(json.dumps(result), 1000)
        if isinstance(values.get("outputs"), dict):
            self._merge(values["outputs"])

    def _merge(self, more: dict[str, Any]) -> None:
        """Add all outputs of this line, or none. The cost depends on the line only, not on earlier outputs."""
        if _is_deep(more):
            self._refused = f"outputs with more than {DEEPEST} levels were refused"
            return
        try:
            fresh = {_without_surrogates(name): _encoded(value) for name, value in more.items()}
        except ValueError:
            self._refused = "outputs with a number that is not finite were refused"
            return
        size = self._outputs_size
        for name, value in fresh.items():
            size += len(value.encode()) - len(self._outputs.get(name, "").encode())
            if name not in self._outputs:
                size += len(_encoded(name).encode()) + len(": , ")
        if size > LONGEST_OUTPUTS:
            self._refused = f"outputs beyond {write_size(LONGEST_OUTPUTS)} were refused"
            return
        self._outputs |= fresh
        self._outputs_size = size

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # missing, or replaced by the program with something else
            os.unlink(self.path)  # noqa: PTH108 (making a Path takes longer)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text. Control characters in their texts are allowed.

    Raises:
        ValueError: there is something else; the objects before it have been yielded.
        RecursionError: one is nested too deeply.
    """
    position = 0
    while position < len(text):
        if text[position] != "{":
            raise json.JSONDecodeError("not an object", text, position)
        value, position = _DECODER.raw_decode(text, position)
        yield value
        while position < len(text) and text[position] in BLANK:
            position += 1


_DECODER = json.JSONDecoder(strict=False)


def _fraction(progress: Any) -> float | None:
    """Return a progress from 0 to 1; None: it is none."""
    if not isinstance(progress, int | float) or isinstance(progress, bool):
        return None
    try:
        return min(1.0, max(0.0, float(progress))) if math.isfinite(progress) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _is_deep(outputs: dict[str, Any]) -> bool:
    """Whether an output has more than ``DEEPEST`` levels of lists and objects."""
    level: list[Any] = list(outputs.values())
    for _ in range(DEEPEST):
        level = [one for value in level if isinstance(value, dict | list) for one in _inside(value)]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _encoded(value: Any) -> str:
    """Encode as JSON that every database can store. Raises ValueError for NaN and infinity."""
    return _without_surrogates(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _without_nul(value: Any) -> Any:
    """Replace NUL characters with question marks: not every database and not every JSON function can take them.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    if isinstance(value, str):
        return value.replace("\0", "?")
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(one) for name, one in value.items()}
    return value


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates with question marks. JSON can contain them, but no database can store them."""
    return text.encode(errors="replace").decode()
