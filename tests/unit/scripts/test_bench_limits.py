"""The limits that figures are compared with store what they say."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from scripts.bench.limits import Durable, Shared


@pytest.mark.parametrize("limit", [Durable, Shared])
def test_every_claim_and_outcome_is_stored(
    tmp_path: Path, limit: Callable[[Path, int], Callable[[int, Path], None]]
) -> None:
    work = limit(tmp_path, 12)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: work(number, tmp_path), range(12)))
    with closing(sqlite3.connect(tmp_path / "limit.db")) as db:
        found = db.execute("SELECT state, count(*) FROM run WHERE started <= ended GROUP BY state").fetchall()
    assert found == [("done", 12)]
