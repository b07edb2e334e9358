"""The worker's side of the guardian: reports the running programs to it, and replaces it when it has died."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from jobfac.programs.children import children
from jobfac.programs.failures import StartError, check_installation, explain
from jobfac.programs.guardian import clock

SCRIPT = Path(__file__).with_name("guardian.py")
CAPACITY = 1 << 20  # bytes of the pipe; large, because a pipe that stays full counts as a dead guardian
PATIENCE, BEGINS = 0.5, 5.0  # seconds for which a full pipe is waited for, usually and while the guardian starts


class Guardian:
    """A guardian process, and a copy of its state.

    Any thread may call every method. No method blocks much longer than the start of a process takes. The next call
    replaces a guardian that has died, or that is stopped and lets the pipe fill up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, int] = {}  # marker -> leader; 0: about to be started
        self._until: float | None = None
        self._wanted = False  # between start() and close()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    @property
    def pid(self) -> int | None:
        """The guardian's PID; None if there is no guardian."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the guardian process. Raises StartError."""
        with self._lock:
            self._wanted = True
            if self._process is None:
                self._launch()

    def about_to_start(self, markers: Iterable[str]) -> None:
        """Call before these programs are started.

        Raises:
            StartError: there is no guardian, and none can be started.
        """
        with self._lock:
            fresh = list(markers)
            self._wanted = True
            self._groups |= dict.fromkeys(fresh, 0)
            try:
                self._send(f"+ {marker}" for marker in fresh)
            except StartError:
                for marker in fresh:
                    del self._groups[marker]
                raise

    def started(self, leaders: Iterable[tuple[str, int]]) -> None:
        """Call after the start, with the marker and the PID of each program."""
        with self._lock, contextlib.suppress(StartError):
            fresh = list(leaders)
            self._groups |= fresh
            self._send(f"= {marker} {pid}" for marker, pid in fresh)

    def ended(self, markers: Iterable[str]) -> None:
        """Call when these programs and their leftover processes have ended, or when they could not be started."""
        with self._lock, contextlib.suppress(StartError):
            gone = list(markers)
            for marker in gone:
                self._groups.pop(marker, None)
            self._send(f"- {marker}" for marker in gone)

    def renewed(self, seconds: float) -> None:
        """Record that the worker trusts its lease for ``seconds`` from now."""
        with self._lock, contextlib.suppress(StartError):
            self._until = clock() + seconds
            self._send([f"until {self._until}"])

    def close(self) -> None:
        """Stop the guardian. It kills no program."""
        with self._lock:
            self._wanted = False
            if self._process is None:
                return
            with contextlib.suppress(OSError):
                os.write(self._pipe, b"bye\n")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
            self._discard()

    def _send(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines).encode()
        if text and self._wanted and (self._process is None or not self._write(text)):
            self._discard()
            self._launch()

    def _write(self, text: bytes, patience: float = PATIENCE) -> bool:
        """Write all of it. False: the guardian has died, or has read nothing for ``patience`` seconds."""
        reader = select.poll()
        reader.register(self._pipe, select.POLLOUT)
        try:
            while text and reader.poll(patience * 1000):
                text = text[os.write(self._pipe, text) :]
        except OSError:
            return False
        return not text

    def _launch(self) -> None:
        """Start a guardian and send it the lease and all programs."""
        try:
            check_installation()
            read_end, self._pipe = os.pipe()
        except OSError as error:
            raise StartError(f"the guardian cannot be started: {error.strerror or error}") from error
        command = [sys.executable, "-I", str(SCRIPT)]
        if sys.platform == "linux":
            command.insert(2, "-S")  # not on other systems, where it needs psutil
        environment = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
        try:
            os.set_blocking(self._pipe, False)
            if sys.platform == "linux":
                with contextlib.suppress(OSError):  # the user's quota of pipe memory is used up: keep the small pipe
                    fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, CAPACITY)
            with children.lock:
                self._process = subprocess.Popen(
                    command,
                    stdin=read_end,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                )
                children.add_helper(self._process.pid)
        except OSError as error:
            os.close(self._pipe)
            raise StartError(explain(command, environment, "/", None, error)) from error
        finally:
            os.close(read_end)
        lines = [] if self._until is None else [f"until {self._until}"]
        for marker, leader in self._groups.items():
            lines += [f"+ {marker}"] if leader == 0 else [f"= {marker} {leader}"]
        self._write("".join(f"{line}\n" for line in lines).encode(), BEGINS)

    def _discard(self) -> None:
        """Kill the guardian before closing the pipe. Otherwise it would treat the closed pipe as the worker's death."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        children.remove_helper(self._process.pid)
        os.close(self._pipe)
        self._process = None
