"""Drives the factory as its users do, but for the start of a Python for every command."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from factory import Factory
from jobfac.cli import main

ROLES = {"up", "worker", "scheduler", "api"}
"""They change the process that they run in, so they have one of their own."""


class InProcess(Factory):
    """Commands run in the test's own process, from their words to their exit code and all that they print."""

    def run(self, *words: str, code: int | None = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """As ``Factory.run``."""
        if ROLES & set(words[:1]):
            return super().run(*words, code=code, stdin=stdin)
        out, err = _stream(), _stream()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.multiple(sys, argv=["jobfac", *words], stdin=io.StringIO(stdin or ""), stdout=out, stderr=err),
            contextlib.chdir(self.folder),
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code
        done = subprocess.CompletedProcess(words, int(status or 0), _text(out), _text(err))
        assert code is None or done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
