"""A second user of the machine in a chaos run: what it needs, what it could do, and what it has changed."""

import os
import pwd
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MEDDLER = Path(__file__).with_name("meddler.py")
SECRET = "root's own"

THEIRS = "theirs"
"""The job that runs as nobody. Its program writes no journal."""


def is_possible() -> bool:
    """Whether this process is root and there is the user nobody."""
    with suppress(KeyError):
        return os.geteuid() == 0 and pwd.getpwnam("nobody").pw_uid != 0
    return False


def job(folder: Path) -> dict[str, Any]:
    """A job of nobody, in a directory and with an output file that nobody replaces. It prints the secret if it can."""
    return {
        "command": ["/bin/sh", "-c", "cat secret 2>/dev/null; true"],
        "user": "nobody",
        "directory": str(folder / "theirs/work"),
        "output": {"stderr": {"append": str(folder / "theirs/out.log")}},
        "retention": "1h",
    }


class Stranger:
    """The meddling process, and what belongs to root beside it."""

    def __init__(self, folder: Path) -> None:
        """Make the folders and start to meddle. ``folder``: that of the database."""
        self._folder = folder
        folder.chmod(0o755)  # nobody may look at it
        (folder / "theirs/work").mkdir(parents=True)
        user = pwd.getpwnam("nobody")
        for path in (folder / "theirs", folder / "theirs/work"):
            os.chown(path, user.pw_uid, user.pw_gid)
        inside = folder / "closed/inside"
        inside.mkdir(parents=True)
        (folder / "closed").chmod(0o700)
        (inside / "secret").write_text(SECRET)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o600)
        self._said = folder / "meddler.log"
        with self._said.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(MEDDLER), str(folder)], stdout=file, stderr=file, cwd="/"
            )

    def violations(self, output: bytes) -> list[str]:
        """End the process; returns what it could do. ``output``: everything that its job has printed."""
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        wrong = sorted(set(self._said.read_text().splitlines()))
        if ended is not None:
            wrong.append(f"the meddling user ended by itself with {ended}")
        if (self._folder / "secret").read_text() != SECRET:
            wrong.append("a job of nobody has written to a file of root")
        if SECRET.encode() in output:
            wrong.append("a job of nobody has read a file in a closed folder of root")
        if sorted(path.name for path in (self._folder / "closed/inside").iterdir()) != ["secret"]:
            wrong.append("a job of nobody has made a file in a closed folder of root")
        return wrong
