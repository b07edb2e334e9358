"""Runs scripts as the child program of a worker does: in this process, or as a process of its own."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import sqlalchemy as sa

from jobfac.sqljob.request import Request
from jobfac.sqljob.runner import Runner
from tests.support.engines import DRIVERS
from tests.tds_server import harness, postgres
from tests.tds_server.harness import TestServer

_numbers = itertools.count(1)


class Done(NamedTuple):
    """What a script wrote, and what it reported; ``message``: how it ended."""

    succeeded: bool
    message: str
    out: str
    err: str
    reports: list[dict[str, Any]]

    @property
    def outputs(self) -> dict[str, Any]:
        return {name: value for report in self.reports for name, value in report.get("outputs", {}).items()}

    @property
    def progress(self) -> list[float]:
        return [report["progress"] for report in self.reports if "progress" in report]


class Stage:
    """Runs scripts on one database."""

    def __init__(self, url: str, folder: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.folder = folder
        self._capture = capture
        self._report = folder / "report"
        patch.setenv("JOBFAC_REPORT", str(self._report))

    def runner(self, script: str, parameters: dict[str, Any] | None = None, **options: Any) -> Runner:
        return Runner(Request(sa.make_url(self.url), script, **options), parameters or {})

    def run(self, script: str, parameters: dict[str, Any] | None = None, **options: Any) -> Done:
        """Run a script in this process, to its end."""
        runner = self.runner(script, parameters, **options)
        runner.run()
        return self.done(runner)

    def done(self, runner: Runner) -> Done:
        captured = self._capture.readouterr()
        return Done(*runner.ended, captured.out, captured.err, self.reports())

    def reports(self) -> list[dict[str, Any]]:
        """What was reported since the last call."""
        if not self._report.exists():
            return []
        found = [json.loads(line) for line in self._report.read_text(encoding="utf-8").splitlines()]
        self._report.unlink()
        return found

    def begin(self, script: str, output: int = subprocess.PIPE, **body: Any) -> "subprocess.Popen[str]":
        """Run a script as a worker does, in a process of its own. ``output``: where it writes."""
        file = self.folder / "request"
        file.write_text(json.dumps({"text": script, **body}), encoding="utf-8")
        environment = {**os.environ, "JOBFAC_SQL_FILE": str(file), "JOBFAC_SQL_URL": self.url}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "jobfac.sqljob"],
            env=environment, stdout=output, stderr=output, text=True, cwd=self.folder,
        )  # fmt: skip


@pytest.fixture
def sqlite(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Stage:
    """On SQLite."""
    return Stage(f"sqlite:///{tmp_path}/data.db", tmp_path, capfd, monkeypatch)


@pytest.fixture
def pg_url(postgres_dsn: str) -> Iterator[str]:
    """A fresh database of PostgreSQL."""
    name = f"sqljob{next(_numbers)}"
    postgres.create_database(postgres_dsn, name, "template1")
    with psycopg.connect(f"{postgres_dsn} dbname={name}", autocommit=True) as connection:  # PostgreSQL's own default
        connection.execute(f'ALTER DATABASE "{name}" SET client_connection_check_interval = 0'.encode())
    home = psycopg.conninfo.conninfo_to_dict(postgres_dsn)["host"]
    yield f"postgresql+psycopg://postgres:not-asked-for@/{name}?host={home}"
    postgres.drop_database(postgres_dsn, name)


@pytest.fixture
def pg(pg_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Stage:
    """On PostgreSQL."""
    return Stage(pg_url, tmp_path, capfd, monkeypatch)


@pytest.fixture(params=DRIVERS)
def mssql(
    request: pytest.FixtureRequest,
    tds: TestServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """On the TDS test server, with each of Microsoft's drivers."""
    with tds.database(f"sqljob{next(_numbers)}", template=postgres.TEMPLATE) as name:
        url = harness.url(tds.port, request.param, name).render_as_string(hide_password=False)
        yield Stage(url, tmp_path, capfd, monkeypatch)
