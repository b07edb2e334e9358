"""Keeps a program's output in a file until it is stored, with bounded disk and memory use.

A file has advantages over a pipe: the program never blocks, no output is lost when the worker dies, and a grandchild
that keeps the file open delays nothing. One limitation remains: a program that reopens its own output and truncates it
(`> /dev/stdout`) erases what was not read yet. A seal at the beginning of the file shows it, and the output says so.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from jobfac.machine.disk import FAILING
from jobfac.programs.failures import StartError, explain_file
from jobfac.programs.files.abandoned import abandoned
from jobfac.programs.files.private import open_own
from jobfac.programs.files.room import HOLE, Space, Use
from jobfac.programs.masking import NOTHING_HIDDEN, Mask

CHUNK = 256 * 1024  # maximum bytes of one chunk
BATCH = 16 * CHUNK  # default limit in bytes of one read()
FLOOD = 4 * 1024 * 1024  # a stream that grows by at least this many bytes between two reads is flooding
BLOCK = 4096
SEAL = b"\0jobfac\n"
"""The first bytes of the file, before the stream. They are missing if the program has emptied its file."""

EMPTIED = (
    b"[jobfac: the program emptied its output here, as '> /dev/stdout', '> /dev/stderr' and 'tee /dev/stderr' do: "
    b"lines may be missing, here and below. Use '>&1', '>&2' and 'tee -a'.]\n"
)
"""Said once in a stream. What is emptied later is noticed, too, but a program may do it with each line."""

SHOWN = 16
"""The number of bytes at the end of a file that show whether it was made shorter, and written to, since."""

MOST = 10**15 - 1
"""The end of a stream at the latest, in bytes. A program that writes nothing may still make its file, and so offsets,
longer than a database can count. Nothing beyond it is kept."""


class Chunk(NamedTuple):
    """Bytes of a stream, and their offset in it."""

    offset: int
    data: bytes


class Spool:
    """One output stream of one execution. Offsets are positions in what the program wrote.

    At most `limit` bytes are stored: the first `limit // 2` bytes (the head) and the rest from the end (the tail). The
    bytes between them are the cut, which shows as a gap between the chunks. `fd` is for this process alone. One thread
    at a time may use a spool. `is_sealed`: the program has not emptied the file.

    Raises:
        StartError: the file cannot be created, or there is no space.
    """

    def __init__(self, path: str | Path, limit: int, mask: Mask = NOTHING_HIDDEN) -> None:
        self.path = str(path)
        self.head = limit // 2
        self.tail = limit - self.head
        self.flooding = False
        """Whether the program wrote so much between the last two reads that the next one should come soon."""
        self._mask = mask
        self._known = 0  # the size at the last read
        self._position = 0  # everything before it was returned or is in the cut
        self._base = 0  # offset in the stream where the file begins; above 0 after a truncation, below 0 with a seal
        self._length = 0  # last known length of the file
        self._carry = b""  # the bytes right before the base that are still needed
        self._freed = self.head
        self._seen = 0  # bytes that the file took when its space was last freed
        self._can_punch = True
        self._open = True
        self._fault: str | None = None  # why the disk cannot tell the length; None: it can
        self._is_given_up = False
        self.fd, is_new = open_own(path)
        self.is_sealed = self._seal() if is_new else self._peek(0, len(SEAL)) in (SEAL, None)
        self._is_marked = False  # whether the output says that it was emptied
        self._end = b""  # the last bytes of the file when its length was last checked
        if self.is_sealed:
            self._base, self._length = -len(SEAL), len(SEAL)

    @property
    def size(self) -> int:
        """Bytes that the program had written when the file was last checked."""
        return self._base + self._length

    @property
    def keep_from(self) -> int | None:
        """Start of the tail. Stored chunks that lie entirely between head and tail must be deleted. None: no cut.

        A chunk that reaches into the tail stays whole, so up to half of the limit more may be stored.
        """
        start = self.size - self.tail
        return start if start > self.head else None

    @property
    def unread(self) -> int:
        """Bytes written so far that have to be stored and were not returned yet."""
        self._update_length()
        head = max(0, min(self.head, self.size) - self._position)
        return head + max(0, self.size - max(self._position, self.head, self.size - self.tail))

    def read(self, final: bool = False, most: int = BATCH) -> list[Chunk]:
        """Return at most `most` new bytes to store, with masked secrets. Repeat until the result is empty.

        Bytes at the end that may be the start of a secret are held back, unless the program has ended (`final`).
        """
        if self._is_given_up:
            return []
        self._update_length()
        self.flooding, self._known = self.size - self._known >= FLOOD, self.size
        if self._position >= self.size:
            return self._farewell() if final else []
        chunks: list[Chunk] = []
        if self._position < self.head:
            chunks += self._take(self._position, self.head, most, final)
        if self._position >= self.head:
            room = most - sum(len(chunk.data) for chunk in chunks)
            chunks += self._take(max(self._position, self.size - self.tail), self.size, room, final)
        if not self._can_punch:
            self._start_over()
        return chunks

    def use(self) -> Use:
        """Return what the file takes on the disk, as far as it can be told without reading it."""
        found = os.fstat(self.fd)
        first, freed = self._blocks(self._cut_start, self._freed)
        needed = max(0, found.st_size - max(0, freed - first))
        return Use(found.st_blocks * 512, needed, found.st_size)

    def space(self) -> Space:
        """Return what is needed to free the cut by a thread that does not use the spool meanwhile (see `Space.free`).

        Raises:
            OSError: there is no free descriptor, or the disk fails.
        """
        self._update_length()
        first, last = self._blocks(self._cut_start, self.size - self.tail - self._mask.reach)
        freed = min(last, self._blocks(self._cut_start, self._freed)[1])
        return Space(os.dup(self.fd), self._base, first, freed, last, self._seen)

    def was_freed(self, space: Space) -> None:
        """Take over what the thread has done. If it could not free the cut, `read` starts the file over."""
        self._freed, self._seen = max(self._freed, space.base + space.freed), space.seen
        self._can_punch = space.can_punch

    def open_for_program(self) -> int:
        """Open the file once more, for the program; returns the descriptor, which the caller closes.

        A descriptor of its own, because a program may change the flags of what it has inherited: with O_DIRECT this
        process could not read any more.

        Raises:
            OSError: the file cannot be opened.
        """
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self, delete: bool, is_left: bool = False) -> None:
        """Close the file, and delete it if `delete` is set. A repeated call does nothing.

        Args:
            is_left: the program may have left processes that still write to it.
        """
        if self._open:
            self._open = False
            if delete:
                with contextlib.suppress(OSError):  # missing, or replaced by the program with something else
                    os.unlink(self.path)  # noqa: PTH108 (making a Path takes longer)
            if is_left:
                abandoned.keep(self.fd)
            else:
                with contextlib.suppress(OSError):  # of a failing disk; the descriptor is closed nevertheless
                    os.close(self.fd)

    def _seal(self) -> bool:
        """Write the seal into a new file. So a full disk is met here, and not only by the program."""
        try:
            os.write(self.fd, SEAL)
        except OSError as error:
            os.close(self.fd)
            with contextlib.suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108 (making a Path takes longer)
            raise StartError(explain_file("the spool file", Path(self.path), error)) from error
        return True

    def _update_length(self) -> None:
        """Update the length of the file. If the program emptied the file, all of its content counts as new."""
        length = self._file_length()
        if length < self._length or not self._is_whole():
            self._begin_anew()
            length = self._file_length()  # the base has moved, so less may be left until the end
        if length != self._length:
            number = min(SHOWN, self.tail, length)
            self._end = self._peek(length - number, number) or b""
            self._length = length

    def _is_whole(self) -> bool:
        """Whether the file still has what it had, as far as its seal or its former end shows it."""
        if self.is_sealed and self._peek(0, len(SEAL)) not in (SEAL, None):
            return False
        return not self._end or self._peek(self._length - len(self._end), len(self._end)) in (self._end, None)

    def _peek(self, start: int, length: int) -> bytes | None:
        """Return bytes of the file; None: the disk cannot read them."""
        try:
            return os.pread(self.fd, length, start)
        except OSError as error:
            if error.errno not in FAILING:  # it costs the output of one program, not its worker
                raise
            return None

    def _begin_anew(self) -> None:
        """Let the file's content follow on what it had before, with a sentence between if it is the first time."""
        end = self.size
        mark = b"" if self._end.endswith(b"\n") or end == 0 else b"\n"
        mark += EMPTIED
        self._carry = b"" if self._is_marked or end + len(mark) > MOST else mark
        self._base = end + len(self._carry)
        self._position = max(self._position, end)
        self._freed = max(self.head, self._base)
        self._is_marked, self.is_sealed = True, False
        self._length, self._end = 0, b""

    def _file_length(self) -> int:
        """Return the length of the file; the last known one if the disk cannot tell it."""
        try:
            length = os.fstat(self.fd).st_size
        except OSError as error:
            if error.errno not in FAILING:
                raise
            self._fault = error.strerror
            return self._length
        self._fault = None
        return min(length, MOST - self._base)

    def _farewell(self) -> list[Chunk]:
        """Return a sentence if the disk cannot tell in the end whether there is more output; read no more then."""
        if self._fault is None:
            return []
        self._is_given_up = True
        sentence = f"[jobfac: the rest of the output cannot be read: {self._fault}]\n"
        return [Chunk(self.size, sentence.encode())]

    def _take(self, start: int, stop: int, room: int, final: bool) -> list[Chunk]:
        """Return the bytes in [start, stop) that exist, fit into `room` and are not held back; advance past them."""
        stop = min(stop, self.size, start + room)
        # A secret may begin before this range or end after it.
        before = max(0, start - self._mask.reach)
        raw = self._raw(before, min(self.size, stop + self._mask.reach))
        ready = len(raw) if final else len(raw) - self._mask.unfinished(raw)
        data = self._mask.apply(raw)[start - before : max(0, min(stop - before, ready))]
        self._position = start + len(data)
        return [Chunk(start + at, data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]

    def _raw(self, start: int, stop: int) -> bytes:
        """Return the stream's bytes in [start, stop). Zeros replace bytes that are no longer known."""
        known = self._base - len(self._carry)
        parts = [bytes(max(0, min(known, stop) - start)), self._carry[max(0, start - known) : max(0, stop - known)]]
        start = max(start, self._base)
        while start < stop and (part := self._part(start, stop - start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _part(self, start: int, length: int) -> bytes:
        """Return bytes from the file; if the disk cannot read them, a sentence instead, filled up with zeros."""
        try:
            return os.pread(self.fd, length, start - self._base)
        except OSError as error:
            if error.errno not in FAILING:
                raise
            sentence = f"[jobfac: {length:,} bytes of the output cannot be read: {error.strerror}]\n"
            return sentence.encode().ljust(length, b"\0")[:length]

    @property
    def _cut_start(self) -> int:
        """The offset in the stream from which on its file holds bytes that may be cut."""
        return max(self.head, self._base) + self._mask.reach

    def _blocks(self, start: int, stop: int) -> tuple[int, int]:
        """Return where in the file the whole blocks of a part of the stream begin and end."""
        return -(-(start - self._base) // BLOCK) * BLOCK, (stop - self._base) // BLOCK * BLOCK

    def _start_over(self) -> None:
        """Truncate the file if much of it is cut; the program continues at its start.

        Bytes written during the truncation are lost.
        """
        if min(self._position, self.size - self.tail) - self._mask.reach - max(self._freed, self._base) < HOLE:
            return
        end = self._base + self._file_length()
        needed = max(self._position, end - self.tail) - self._mask.reach
        carry = self._raw(needed, end)
        try:
            os.ftruncate(self.fd, 0)
        except OSError as error:
            if error.errno not in FAILING:
                raise
            return
        self._carry = carry
        self._base = self._freed = end
        self._length = 0
        self.is_sealed, self._end = False, b""


class SpoolName(NamedTuple):
    """The execution and the stream of a spool file."""

    run: int
    attempt: int
    stream: str


def spool_path(folder: Path, run: int, attempt: int, stream: str) -> str:
    """Return the path of a file of an execution, such as that of its stdout, in a folder of its own.

    Who removes a file has the lock of its folder while he waits for a program that writes to the file. In a folder for
    all executions nobody could start a program meanwhile.
    """
    return f"{folder}/{run}-{attempt}.{stream}"  # each start makes some, and a Path takes ten times as long


def parse_name(path: Path) -> SpoolName | None:
    """Do the inverse of `spool_path`. Returns None for any other name, including numbers that no run can have."""
    found = re.fullmatch(r"([1-9][0-9]{0,17})-([1-9][0-9]{0,8})\.(stdout|stderr)", path.name)
    return SpoolName(int(found[1]), int(found[2]), found[3]) if found else None


def recover(folder: Path) -> list[tuple[SpoolName, Path]]:
    """Return the spool files that a dead worker left in its folder, ordered by run; empty if there is no folder.

    A `Spool` on such a path reads the file from its start. Head and tail are still in the file. Workers of earlier
    versions had all files in one folder.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        inside = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    paths = (path for one in (folder, *inside) for path in one.iterdir())
    return sorted((name, path) for path in paths if (name := parse_name(path)))
