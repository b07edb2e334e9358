"""The recipes of CONTRIBUTING, executed in a copy of the package: they name every file that has to change."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

OPERATION = '''

def count(db: Database, by: Caller) -> int:
    """How many workers are alive. Changes nothing, so it may be repeated."""
    from jobfac.store import workers

    return len(db.query(workers.workers, True))
'''

HANDLER = '''

@ENDPOINTS.add("GET", "/v1/workers/count", responses={200: dict})
def count(request: ApiRequest) -> ApiResponse:
    """Count the workers that are alive."""
    return ApiResponse({"count": operations.count(request.db, request.by)})
'''

COMMAND = '''

@app.command()
def count() -> None:
    """How many workers are alive."""
    from jobfac.cli.common import database, local_caller
    from jobfac.operations import workers

    with database() as db:
        typer.echo(workers.count(db, local_caller()))
'''

MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("run", sa.Column("ticket", sa.Unicode(100)))
"""
SHOW_OPENAPI = """
import json
from jobfac.api import openapi
from jobfac.api.app import TABLE
print(json.dumps(openapi.document(TABLE)))
"""

RULE = """
    if schedule.hourly is not None:
        times = Times(minutes=(schedule.hourly,))
        return rule_of(schedule.model_copy(update={"hourly": None, "times": times}))
"""

RUN = """
import contextlib, io, json, sys
from jobfac.cli import main
texts = []
for command in sys.argv[1:]:
    sys.argv = ["jobfac", *command.split()]
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)) as out:
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    texts.append(out.buffer.getvalue().decode())
print(json.dumps(texts))
"""


class Copy:
    """A copy of the package with its own database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "jobfac", folder / "jobfac")  # with what is compiled: it is found by the files' times
        shutil.copytree(ROOT / "sql", folder / "sql")
        self.changed: set[str] = set()

    def append(self, path: str, text: str) -> None:
        """Append text to a file, which is created if it is missing."""
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write(text)
        self.changed.add(path)

    def insert(self, path: str, anchor: str, text: str) -> None:
        """Insert text after an anchor in a file."""
        before = (self.folder / path).read_text(encoding="utf-8")
        assert anchor in before, f"{path} has no {anchor!r}"
        (self.folder / path).write_text(before.replace(anchor, anchor + text, 1), encoding="utf-8")
        self.changed.add(path)

    def python(self, *words: str) -> str:
        """Run this Python with the copy as its package; returns standard output."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=kept | {"PYTHONPATH": str(self.folder)},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobfac(self, *commands: str) -> list[str]:
        """Run commands in one process; returns the standard output of each."""
        return [str(text) for text in json.loads(self.python("-c", RUN, *commands))]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_an_endpoint_with_its_command_needs_three_files(copy: Copy) -> None:
    copy.append("jobfac/operations/workers.py", OPERATION)
    copy.append("jobfac/api/resources/workers.py", HANDLER)
    copy.append("jobfac/cli/commands/workers.py", COMMAND)
    assert len(copy.changed) == 3
    assert copy.jobfac("db upgrade", "workers count")[1] == "0\n"
    document = json.loads(copy.python("-c", SHOW_OPENAPI))
    assert document["paths"]["/v1/workers/count"]["get"]["security"] == [{"key": []}]


def test_a_column_of_a_run_needs_three_files(copy: Copy) -> None:
    versions = sorted((copy.folder / "jobfac/database/migrations/versions").glob("*.py"))
    head = re.search(r'^revision = "(\w+)"', versions[-1].read_text(encoding="utf-8"), re.MULTILINE)
    assert head is not None
    copy.insert(
        "jobfac/database/tables.py", 'sa.Column("outputs", Long),', '\n    sa.Column("ticket", sa.Unicode(100)),'
    )
    copy.append("jobfac/database/migrations/versions/9999_ticket.py", MIGRATION.format(head=head[1]))
    copy.insert("jobfac/views/runs.py", "    retry_of: int | None\n", "    ticket: str | None\n")
    assert len(copy.changed) == 3
    copy.append("jobs.yaml", "jobs: {hello: {command: [echo, hello]}}")
    copy.jobfac("db upgrade", "apply jobs.yaml", "start hello")
    with sqlite3.connect(copy.folder / "jobfac.db") as database:
        database.execute("UPDATE run SET ticket = 'INC-4711'")
    database.close()
    assert json.loads(copy.jobfac("runs show 1 --json")[0])["ticket"] == "INC-4711"


def test_a_form_of_schedule_needs_two_files(copy: Copy) -> None:
    schedule = "jobfac/definitions/schedule.py"
    key = "hourly: Annotated[int, whole(0, 59)] | None = Field("
    copy.insert(schedule, "    name: Id | None = Field(", f"default=None)\n    {key}")
    copy.insert(schedule, '"every": self.every,', ' "hourly": self.hourly,')
    copy.insert("jobfac/recurrence/rule.py", 'share one object."""', RULE)
    assert len(copy.changed) == 2
    copy.append("jobs.yaml", "jobs: {hello: {command: [echo, hello], schedules: [{hourly: 15}]}}")
    *_, times, schema = copy.jobfac(
        "db upgrade", "apply jobs.yaml", "schedule preview hello --count 3 --json", "schema"
    )
    assert [one["due_at"][14:16] for one in json.loads(times)] == ["15", "15", "15"]
    assert "hourly" in json.loads(schema)["$defs"]["Schedule"]["properties"]
