"""Many processes at one queue: every row is claimed exactly once, whatever goes wrong."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from sqlserver import queue_table
from sqlserver.harness import TestServer
from sqlserver.queue_table import run

ROWS, PROCESSES = 3000, 8

CLAIMER = """
import sys, time
import sqlalchemy as sa
from sqlserver import queue_table

engine = sa.create_engine(sys.argv[1])
name = sys.argv[2]
claimed = sa.text("SELECT id FROM jobfac.run WHERE worker = :worker")
while True:
    try:
        with engine.begin() as conn:
            taken = conn.execute(sa.text(queue_table.CLAIM), {"n": 10, "queue": "default", "worker": name}).all()
    except sa.exc.DBAPIError:
        continue  # what a lost answer had claimed is this worker's all the same: it is in the table
    if not taken:
        break
with engine.connect() as conn:
    for number in conn.execute(claimed, {"worker": name}).scalars():
        print(number)
engine.dispose()
"""


@pytest.mark.parametrize(
    "faults",
    [[], ['error 1205 matching "UPDATE next" every 40', "drop before commit every 90", "drop after commit every 70"]],
    ids=["quiet", "with faults"],
)
def test_every_row_is_claimed_once(server: TestServer, engine: sa.Engine, faults: list[str]) -> None:
    queue_table.create(engine, ROWS)
    server.faults(*faults)
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", CLAIMER, url]
    tests = str(Path(__file__).parents[1])
    processes = [
        subprocess.Popen([*command, f"w{number}"], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": tests})
        for number in range(PROCESSES)
    ]
    claimed = [int(line) for process in processes for line in process.communicate(timeout=100)[0].split()]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert all(rule["fired"] for rule in server.stats()["faults"])
    server.faults()
    assert max(Counter(claimed).values()) == 1
    assert len(claimed) == ROWS
    with engine.connect() as conn:
        assert conn.execute(sa.select(sa.func.max(run.c.attempt), sa.func.count()).select_from(run)).one() == (1, ROWS)
