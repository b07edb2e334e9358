"""The guide for DBAs: every statement with a sample result runs, and returns the columns of the sample."""

import itertools
import re
from typing import Any

import pytest

from jobfac import definitions as d
from jobfac.database import sql_files
from jobfac.database.engine import Database
from jobfac.guide import page
from jobfac.states import RunState
from jobfac.store import schedules
from tests.support.database import Hand, start
from tests.support.engines import DRIVERS

GUIDE = (sql_files.folder("mssql").parent / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```sql\n([^`]*)```\s+```text\n([^`]*)```", GUIDE)


def headings(sample: str) -> list[list[str]]:
    """Return the column names of each sample result: the line above the dashes."""
    lines = sample.splitlines()
    return [above.split() for above, below in itertools.pairwise(lines) if re.fullmatch(r"[- ]+", below)]


def results(db: Database, text: str) -> list[list[str]]:
    """Return the column names of each result of a batch."""
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


@pytest.mark.parametrize("url", DRIVERS[:1], indirect=True)
def test_every_sample_shows_the_columns_of_its_statements(db: Database) -> None:
    nightly = [{"name": "nightly", "cron": "30 2 * * *"}]
    jobs = {"orders-export": {"command": ["true"]}, "crm-sync": {"command": ["true"], "schedules": nightly}}
    for job, definition in d.from_data({"jobs": jobs}).jobs.items():
        db.transact(schedules.put, job, definition, "tester")
    hand = Hand(db)
    failed = start(db, "crm-sync")
    hand.end(hand.take(), RunState.FAILED, exit_code=3)
    ids = {"1595": failed, "1591": failed, "1599": start(db, "orders-export")}
    assert len(SHOWN) > 15
    for text, sample in SHOWN:
        runnable = re.sub(r"\b(1591|1595|1599)\b", lambda number: str(ids[number[0]]), text)
        assert results(db, runnable) == headings(sample), text


@pytest.mark.parametrize("url", DRIVERS[:1], indirect=True)
def test_the_statements_of_the_page_for_tsql_work(db: Database) -> None:
    jobs = {"orders-export": {"command": ["true"]}}
    for job, definition in d.from_data({"jobs": jobs}).jobs.items():
        db.transact(schedules.put, job, definition, "tester")
    start_and_look, health_and_failures = re.findall(r"```sql\n(.*?)```", page("tsql"), re.DOTALL)
    assert results(db, start_and_look)[-1] == ["state", "exit_code", "reason"]
    assert results(db, health_and_failures) == [
        ["problem", "subject", "since", "remedy"], ["id", "job", "state", "reason"],
    ]  # fmt: skip
