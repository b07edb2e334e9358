"""A bash in which `jobfac` starts as a copy of a process that has imported it.

The documentation's commands are typed as they stand, with pipes, files and background jobs. `jobfac` in PATH is a small
program: it tells this process its arguments, folder and environment, and the command runs in a forked process on the
files of the small program.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.factory import Factory
from tests.support.inprocess import Forked
from tests.support.terminal import environment

STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: server.sendall(b"%d\\n" % number))
request = dict(pid=os.getpid(), words=sys.argv[1:], folder=os.getcwd(), environment=dict(os.environ))
server.sendall(json.dumps(request).encode() + b"\\n")
sys.exit(int(server.makefile().readline()))
"""


class Shell:
    """A folder whose bash runs ``jobfac`` without the start of a Python interpreter and without its imports."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """``variables`` are added to the environment of every script."""
        self.folder = folder
        self.programs = folder / ".programs"
        self.programs.mkdir()
        self.jobfac = self.programs / "jobfac"
        self.environment = environment(**variables)
        self.environment["PATH"] = f"{self.programs}:{self.environment['PATH']}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._address = f"\0jobfac-{os.getpid()}-{id(self)}"
        self._processes: list[Forked] = []

    def __enter__(self) -> Self:
        self._socket.bind(self._address)
        self._socket.listen()
        self.program("jobfac", STAND_IN.format(python=sys.executable, address=self._address))
        threading.Thread(target=self._accept, name="shell", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for process in self._processes:
            process.kill()
            process.wait()

    def program(self, name: str, text: str) -> None:
        """Put a program into PATH, before all others of its name."""
        path = self.programs / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def type(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script; its standard error is part of ``stdout``."""
        words = ["bash", "-c", script]
        with (self.folder / ".output").open("w+") as output:
            done = subprocess.run(
                words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=120, check=False,
            )  # fmt: skip
        text = (self.folder / ".output").read_text("utf-8", "replace")
        return subprocess.CompletedProcess(words, done.returncode, text)

    def begin(self, factory: Factory, *words: str) -> "subprocess.Popen[bytes]":
        """Begin a command on a factory, with a pipe as its standard output."""
        command = [str(self.jobfac), *words]
        return subprocess.Popen(command, cwd=factory.folder, env=factory.environment, stdout=subprocess.PIPE)

    def _accept(self) -> None:
        while True:
            try:
                asking, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(asking,), name="command", daemon=True).start()

    def _serve(self, asking: socket.socket) -> None:
        """Run the command of one request, pass signals on to it, and answer with its exit code."""
        with asking, asking.makefile() as lines:
            if not (line := lines.readline()):
                return  # a signal ended the program before it had asked
            request = json.loads(line)
            out, err = (Path(f"/proc/{request['pid']}/fd/{number}") for number in (1, 2))
            process = Forked(tuple(request["words"]), request["environment"], Path(request["folder"]), out, err)
            self._processes.append(process)
            threading.Thread(target=_pass_on, args=(lines, process), name="signals", daemon=True).start()
            code = process.wait(120)
            asking.sendall(b"%d\n" % (code if code >= 0 else 128 - code))


def _pass_on(lines: Iterator[str], process: Forked) -> None:
    for line in lines:
        process.send_signal(int(line))


@contextmanager
def shell(folder: Path, **variables: str) -> Iterator[Shell]:
    """A shell in a folder."""
    with Shell(folder, **variables) as opened:
        yield opened
