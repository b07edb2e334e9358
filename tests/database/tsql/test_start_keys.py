"""Starts with a key: the second of two equal ones waits for the first; different ones wait for nobody."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.support.factory import wait_for
from tests.support.tsql import SPELLINGS, THROUGH_TSQL, call, define, execute, refusal

pytestmark = THROUGH_TSQL

Starter = Callable[[sa.Connection, str], int]


def _by_program(conn: sa.Connection, key: str) -> int:
    return runs.start(conn, StartRequest("job", "me", key=key))


def _by_procedure(conn: sa.Connection, key: str) -> int:
    return int(call(conn, "start_job", job="job", key=key))


DOORS: dict[str, Starter] = {"program": _by_program, "procedure": _by_procedure}


@pytest.fixture(params=[(first, second) for first in DOORS for second in DOORS], ids=" then ".join)
def doors(request: pytest.FixtureRequest) -> tuple[Starter, Starter]:
    first, second = request.param
    return DOORS[first], DOORS[second]


def test_new_different_keys_of_a_job_do_not_wait_and_the_same_key_does(
    db: Database, doors: tuple[Starter, Starter]
) -> None:
    """A lock on the index would be one on the gap into which increasing keys, such as dates, all fall."""
    define(db, job={})
    first, second = doors
    found: list[int] = []
    with db.begin() as conn:
        began = first(conn, "2031-01-01 K😀")
        assert db.transact(second, "2031-01-02 K😀", retry_for=0) > began
        same = threading.Thread(target=lambda: found.append(db.transact(second, "2031-01-01 K😀", retry_for=0)))
        same.start()
        with pytest.raises(AssertionError):
            wait_for(lambda: not same.is_alive(), "an answer that must not come yet", 0.4)
    same.join(20)
    assert found == [began]


@pytest.mark.parametrize(("stored", "asked", "is_same"), SPELLINGS)
def test_the_procedure_takes_the_same_spellings_for_the_same_key(
    db: Database, stored: str, asked: str, is_same: bool
) -> None:
    define(db, job={})
    run_id = execute(db, "start_job", job="job", key=stored)
    again = dict.fromkeys(("arguments", "payload", "priority", "delay_seconds"))
    if is_same:
        execute(db, "check_repeat", run=run_id, key=asked, **again)
    else:
        sentence = refusal(db, "check_repeat", run=run_id, key=asked, **again)[1]
        assert sentence.startswith(f"The key '{asked}' was used for run {run_id}, which differs in the spelling of its")


def test_keys_that_differ_in_case_or_in_trailing_blanks_have_one_lock(db: Database) -> None:
    names = {name for job in ("job", "JOB") for key in "Kk" for name in StartRequest(job, "me", key=key).locks}
    names |= StartRequest("job", "me", key="k  ").locks
    assert len(names) == 1
    assert len(names.pop()) < 255
    others = {name for n in range(9) for name in StartRequest("job", "me", key="k" * 80 + str(n) + "k" * 80).locks}
    assert len(others) == 9
