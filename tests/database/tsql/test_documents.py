"""Every SQL block of the documents runs, and returns the columns of the sample that follows it.

The scripts of SQL jobs (the page ``sql``) run in ``tests/sqljob/test_sqlserver.py``.
"""

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.guide import TOPICS, page
from jobfac.states import RunState
from jobfac.store import schedules
from tests.support.database import Hand, start
from tests.support.engines import DRIVERS, REAL
from tests.support.tsql import execute
from tests.tds_server import grammar

ROOT = Path(__file__).parents[3]
DOCUMENTS = {topic: page(topic) for topic in TOPICS if topic != "sql"} | {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "sql/README.md")
}

NOT_HERE = {
    "ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT ON;": "waits until nobody else uses the database",
    "CREATE USER [SHOP\\jobfac] FOR LOGIN [SHOP\\jobfac];": "needs a Windows login",
    "SELECT SUM(p.used_page_count) * 8.0 / NULLIF((SELECT COUNT(*) FROM jobfac.run), 0) AS kilobytes_a_run": (
        "reads a view of the server's storage"
    ),
}
"""Blocks that cannot run on the test server, by their beginning, and why. Only their grammar is checked."""


class Block(NamedTuple):
    """A SQL block of a document, and the sample result that follows it."""

    document: str
    text: str
    sample: str

    @property
    def runs(self) -> bool:
        return not self.text.startswith(tuple(NOT_HERE))


BLOCKS = [
    Block(name, *found)
    for name, text in DOCUMENTS.items()
    for found in re.findall(r"^```sql\n(.*?)^```(?:\s+```text\n(.*?)```)?", text, re.DOTALL | re.MULTILINE)
]

COLUMNS = {
    "README.md": [["job", "state", "worker", "reason"]],
    "tsql": [
        ["state", "exit_code", "reason"],
        ["problem", "subject", "since", "remedy"],
        ["id", "job", "state", "reason"],
    ],
}
"""What the blocks of the documents without samples return."""


def headings(sample: str) -> list[list[str]]:
    """Return the column names of each sample result: the line above the dashes."""
    lines = sample.splitlines()
    return [above.split() for above, below in itertools.pairwise(lines) if re.fullmatch(r"[- ]+", below)]


def results(db: Database, text: str) -> list[list[str]]:
    """Return the column names of each result of a batch."""
    if "@id" in text and "DECLARE @id" not in text:
        text = f"DECLARE @id BIGINT;\n{text}"
    with db.singles.connect() as conn:
        cursor = conn.connection.cursor()
        cursor.execute(text)
        found: list[list[str]] = []
        more: Any = True
        while more:
            if cursor.description:
                found.append([column[0] for column in cursor.description])
                cursor.fetchall()
            more = cursor.nextset()
        cursor.close()
    return found


def stage(db: Database) -> dict[str, str]:
    """Store what the documents presuppose; returns what this database has in place of their numbers."""
    nightly = [{"name": "nightly", "cron": "30 2 * * *"}]
    jobs = {
        "orders-export": {"command": ["true"]},
        "crm-sync": {"command": ["true"], "schedules": nightly},
        "report": {"command": ["true"]},
    }
    for job, definition in d.from_data({"jobs": jobs}).jobs.items():
        db.transact(schedules.put, job, definition, "tester")
    hand = Hand(db)
    failed = start(db, "crm-sync")
    hand.end(hand.take(), RunState.FAILED, exit_code=3)
    hold = execute(db, "hold", reason="the next one has the next number")
    execute(db, "release", hold=hold)
    runs = {"1595": failed, "1591": failed, "1599": start(db, "orders-export")}
    return {
        **{number: str(run) for number, run in runs.items()},
        "@worker = 2": f"@worker = {hand.id}",
        "@hold = 1": f"@hold = {hold + 1}",
    }


@pytest.mark.parametrize("url", [*DRIVERS[:1], *(["real"] if REAL else [])], indirect=True)
def test_every_block_runs_and_returns_the_columns_of_its_sample(db: Database) -> None:
    here = stage(db)
    returned: dict[str, list[list[str]]] = {}
    for document, text, sample in (block for block in BLOCKS if block.runs):
        runnable = re.sub(r"\b(1591|1595|1599)\b|@(worker = 2|hold = 1)\b", lambda found: here[found[0]], text)
        columns = results(db, runnable)
        if sample:
            assert columns == headings(sample), text
        else:
            returned.setdefault(document, []).extend(columns)
    assert {name: returned[name] for name in COLUMNS} == COLUMNS


@pytest.mark.parametrize("url", DRIVERS[:1], indirect=True)
def test_the_report_of_busy_workers_counts_each_run_once(db: Database) -> None:
    stage(db)
    Hand(db)  # a second life under the same name
    (text,) = [block.text for block in BLOCKS if "AS busy_percent" in block.text]
    with db.read() as conn:
        assert [row.runs for row in conn.exec_driver_sql(text)] == [1]


def test_the_blocks_that_cannot_run_have_a_valid_grammar() -> None:
    left_out = [block.text for block in BLOCKS if not block.runs]
    assert len(left_out) == len(NOT_HERE), "a reason without its block"
    assert grammar.check({text.partition("\n")[0]: text for text in left_out}) == []
