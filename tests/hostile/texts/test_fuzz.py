"""Random reports, spool folders and files cause no traceback and no hang.

Short by default; FUZZ_SECONDS=60 sets the duration.
"""

import json
import os
import string
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.programs import Spool, StartError, recover
from jobfac.programs.files.spool import parse_name
from jobfac.worker.executions.report import LONGEST_OUTPUTS, Report
from jobfac.worker.spool_folder import SpoolFolder
from tests.support.database import Hand, define, start

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = 60 if not SECONDS else round(SECONDS * 100)
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(st.text(max_size=5), inside, max_size=5),
    max_leaves=20,
)
words = st.sampled_from(["progress", "message", "result", "exit_message", "outputs"])
lines = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(words, json_values, max_size=5).map(lambda said: json.dumps(said).encode()),
    st.integers(1, 3000).map(lambda depth: b"[" * depth),
    st.integers(1, 400).map(lambda digits: b'{"progress": ' + b"9" * digits + b"}"),
)


@fuzz
@given(st.lists(st.tuples(lines, st.sampled_from([b"\n", b"", b"\r\n", b"\0"])), max_size=20), st.booleans())
def test_random_reports_are_read(said: list[tuple[bytes, bytes]], truncates: bool) -> None:
    with TemporaryDirectory() as folder:
        report = Report(Path(folder, "report"))
        for line, end in said:
            with Path(report.path).open("wb" if truncates else "ab") as file:
                file.write(line + end)
            report.read()
        while not report.read(final=True):
            pass
        assert report.progress is None or 0.0 <= report.progress <= 1.0
        for text in (report.message, report.exit_message, report.result):
            assert text is None or (len(text) <= 1000 and text.encode().decode() == text)
        if report.outputs is not None:
            assert len(report.outputs.encode()) <= LONGEST_OUTPUTS
            assert isinstance(json.loads(report.outputs), dict)


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """A database that knows the worker of the folder, and a run that it had."""
    db = Database(sqlite_url)
    define(db, job={})
    start(db, "job")
    Hand(db, "dead").take()
    yield db
    db.close()


names = st.one_of(
    st.sampled_from(
        ["lock", "lock.new", "1-1.stdout", "1-1.stderr", "01-1.stdout", "9" * 30 + "-1.stdout", "..stdout"]
    ),
    st.text(string.ascii_letters + string.digits + "-.\n\u0663\u20ac ", min_size=1, max_size=30).filter(
        lambda name: name not in (".", "..")
    ),
)
things = st.sampled_from(["file", "folder", "link", "loop", "pipe", "hard link", "without rights"])


def put(path: Path, thing: str, content: bytes) -> None:
    """Create an arbitrary object in the spool."""
    if os.path.lexists(path):
        return
    if thing == "folder":
        path.mkdir()
    elif thing == "link":
        path.symlink_to("/etc/passwd")
    elif thing == "loop":
        path.symlink_to(path.name)
    elif thing == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(content)
        if thing == "hard link":
            os.link(path, path.with_name("twin")) if not path.with_name("twin").exists() else None
        if thing == "without rights":
            path.chmod(0)


@fuzz
@given(st.lists(st.tuples(names, things, st.binary(max_size=100)), max_size=8), st.booleans())
def test_random_content_of_a_dead_workers_folder_is_skipped_or_recovered(
    sqlite: Database, left: list[tuple[str, str, bytes]], with_lock: bool
) -> None:
    with TemporaryDirectory() as place:
        spool = Path(place, "spool")
        folder = SpoolFolder(spool, "mine", "w1")
        folder.ensure()
        dead = spool / "dead"
        dead.mkdir(mode=0o700)
        if with_lock:
            (dead / "lock").touch()
        for name, thing, content in left:
            put(dead / name, thing, content)
            put(spool / name, thing, content)
        for found, path in recover(dead):
            assert parse_name(path) == found
            try:
                Spool(path, 100).close(delete=False)
            except StartError:
                continue
        folder.clear_dead(sqlite)
        assert (spool / "mine/lock").exists()
        if with_lock:
            assert not dead.exists(), "what can be read is stored, the rest is of no use"
        folder.close()


keys = st.sampled_from(
    ["jobs", "defaults", "command", "steps", "schedules", "cron", "at", "retry", "notify", "output", "environment",
     "labels", "timeout", "limit", "<<", "name", "timezone", "dates", "times", "after", "blackout", "calendar", "job"]
) | st.text(max_size=5)  # fmt: skip
shaped: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["* * * * *", "30m", "1GiB", "06:30", "Europe/Berlin", "env:X", "2027-01-01", "12/24"]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(keys, inside, max_size=6),
    max_leaves=30,
)  # fmt: skip


def refused_or_read(text: str) -> None:
    try:
        read = d.loads(text)
    except d.DefinitionError as error:
        said = [str(problem) for problem in error.problems]
    else:
        said = ["fine"]
        assert d.loads(d.dump(read)).jobs == read.jobs
    assert said
    assert all(said)


@fuzz
@given(st.dictionaries(st.text(max_size=8), shaped, max_size=4))
def test_random_jobs_are_read_or_refused(jobs: dict[str, Any]) -> None:
    refused_or_read(json.dumps({"jobs": jobs}))


@fuzz
@given(st.text(string.printable + "&*<>[]{}:-\t\u0085\ufeff\U0001f600", max_size=200))
def test_random_files_are_read_or_refused(text: str) -> None:
    refused_or_read(text)
