"""A terminal in which `jobfac top` runs, and a bash in which the commands of the documentation are typed."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.factory import Factory, wait_for


class Terminal:
    """Runs `jobfac top` in its own pseudo-terminal."""

    def __init__(self, factory: Factory, *words: str, columns: int = 100, rows: int = 30) -> None:
        self.screen, inside = pty.openpty()
        self.resize(columns, rows)
        # COLUMNS and LINES describe the terminal that runs the tests.
        environment = {k: v for k, v in factory.environment.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobfac", "top", *words],
            env=environment | {"TERM": "xterm-256color"},
            cwd=factory.folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(inside)
        self.painted = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def shows(self, words: str) -> None:
        """Wait until these words have appeared on the screen since the last call."""
        wait_for(lambda: words in self.read(), f"'{words}' on the screen")
        self.painted = b""

    def read(self) -> str:
        while select.select([self.screen], [], [], 0)[0]:
            try:
                self.painted += os.read(self.screen, 65536)
            except OSError:  # the command has exited
                break
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.painted.decode(errors="replace"))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.screen, keys)

    def press(self, key: bytes) -> int:
        """Press a key that ends the command; returns the exit code."""
        os.write(self.screen, key)
        wait_for(lambda: [self.read(), self.process.poll() is not None][1], "it has left")
        return self.process.wait()


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # otherwise Ctrl-C reaches no process
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background passes it on as ignored


@contextmanager
def terminal(factory: Factory, *words: str) -> Iterator[Terminal]:
    shown = Terminal(factory, *words)
    try:
        yield shown
    finally:
        shown.process.kill()
        shown.process.wait()
        os.close(shown.screen)


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without jobfac's settings, and with its commands in PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | more


def typed(block: str) -> str:
    """The lines of a console block without their prompts."""
    return re.sub(r"^\$ ", "", block, flags=re.MULTILINE)


def type_into_bash(
    script: str, folder: Path, timeout: float = 150.0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder; ``variables`` are added to the environment."""
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(**variables), capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
