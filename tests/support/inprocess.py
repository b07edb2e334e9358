"""Runs jobfac as its users do, but without starting a Python interpreter for each command and role."""

import contextlib
import faulthandler
import gc
import importlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from jobfac.cli import main
from jobfac.worker import failpoints
from tests.support.factory import Factory

APART = {"up", "worker", "scheduler", "api", "try"}
"""Commands that change their process, so each runs in its own process."""

gc.set_threshold(50_000, 20, 20)  # in the process of the tests, in that from which roles are copied, and in the copies

nursery = multiprocessing.get_context("forkserver")
nursery.set_forkserver_preload(
    [
        "__main__",
        "tests.support.inprocess",
        "tests.tds_server.driver_memory",
        "jobfac.cli.commands.roles",
        "jobfac.cli.client.local",
        "jobfac.scheduler.scheduler",
        "jobfac.worker",
        "jobfac.api",
        "mssql_python",
        "pyodbc",
    ]
)


class Forked:
    """A process forked from one that has imported nearly everything. Its interface is that of ``Popen``.

    Its output is appended to ``out`` and ``err``.
    """

    def __init__(self, words: tuple[str, ...], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
        self.args = ["jobfac", *words]
        out.touch()
        err.touch()
        self._err = err
        self._process = nursery.Process(target=_play, args=(self.args, environment, folder, out, err), daemon=True)
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it is alive."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the same as ``returncode``."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; returns the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal. Does nothing if the process has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send TERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send KILL."""
        self.send_signal(signal.SIGKILL)

    def write_stacks(self) -> None:
        """Let the process write the stacks of its threads to ``err``, unless it has ended or does not obey in 2 s."""
        before = self._err.stat().st_size
        self.send_signal(signal.SIGUSR2)
        end = time.monotonic() + 2.0
        while self.poll() is None and self._err.stat().st_size == before and time.monotonic() < end:
            time.sleep(0.05)


def _play(words: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    """Make the forked process look like a new one, and run the command."""
    os.setsid()
    # Who runs the tests in the background may have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    streams: tuple[str | Path, ...] = (os.devnull, out, err)
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    # The streams of the process that was copied remember whether their files could seek.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    faulthandler.register(signal.SIGUSR2)
    importlib.reload(failpoints)  # it read the environment of the process that was copied
    gc.freeze()  # collections skip what was imported
    sys.argv = words
    main()


class InProcess(Factory):
    """Runs commands in the test's own process, and roles in forked processes. Captures exit code and output."""

    def run(self, *words: str, code: int | None = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Do the same as ``Factory.run``. A command in its own process gets no stdin."""
        status, out, err = self._apart(words) if APART & set(words[:1]) else self._here(words, stdin or "")
        assert code is None or status == code, f"{words}: exit {status}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, status, out, err)

    def _apart(self, words: tuple[str, ...]) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            status = Forked(words, self.environment, self.folder, out, err).wait(120)
            return status, out.read_text("utf-8", "surrogateescape"), err.read_text("utf-8", "surrogateescape")

    def _here(self, words: tuple[str, ...], stdin: str) -> tuple[int, str, str]:
        out, err = _stream(), _stream()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.multiple(sys, argv=["jobfac", *words], stdin=io.StringIO(stdin), stdout=out, stderr=err),
            contextlib.chdir(self.folder),
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code
        return int(status or 0), _text(out), _text(err)

    def begin(self, words: tuple[str, ...], environment: dict[str, str], log: Path) -> Forked:
        """Do the same as ``Factory.begin``."""
        return Forked(words, environment, self.folder, log, log)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
