"""What a DBA or a disk does to the server: jobfac waits for it, and says what must be mended."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import answers
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import runs, workers
from jobfac.store.runs import StartRequest
from jobfac.store.workers.claiming import Room
from jobfac.worker.loop import database as loop
from jobfac.worker.loop.pulse import Pulse
from tests.support.database import Hand, define
from tests.support.engines import DRIVERS

pytestmark = [pytest.mark.each_driver, pytest.mark.parametrize("url", DRIVERS, indirect=True)]

Faults = Callable[..., None]


@pytest.mark.parametrize("number", [601, 845, 3908, 3966])
def test_a_fault_of_the_server_passes(db: Database, faults: Faults, number: int) -> None:
    define(db, a={})
    faults(f'error {number} matching "INSERT INTO jobfac.run " at 1')
    assert len(db.transact(runs.start_many, StartRequest("a", "me"), 2)) == 2


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (334, "a table of jobfac has a trigger; have a DBA drop it"),
        (824, "a page of it is damaged or cannot be read; have a DBA restore it"),
        (829, "a page of it is damaged or cannot be read; have a DBA restore it"),
        (7139, "have a DBA set the server's option 'max text repl size .B.' to -1"),
        (
            8622,
            "an index of jobfac is missing, disabled or offline; have a DBA rebuild it, or set the database to "
            "PARAMETERIZATION SIMPLE if it is FORCED",
        ),
        (8653, "an index of jobfac is missing, disabled or offline; have a DBA rebuild it"),
        (8655, "an index of jobfac is missing, disabled or offline; have a DBA rebuild it"),
    ],
)
def test_a_worker_waits_until_a_dba_has_mended_the_tables(
    db: Database, faults: Faults, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """By an unknown error that stays for a minute a worker ends, and with it every worker at the same time."""
    monkeypatch.setattr(loop, "UNKNOWN_FOR", -1.0)
    define(db, a={})
    run_id = db.transact(runs.start, StartRequest("a", "me"))
    hand = Hand(db)
    works = loop.LoopDatabase(db, Pulse(), lambda: None)
    faults(f'error {number} matching "WITH next AS" always')

    def claim(conn: sa.Connection) -> list[int]:
        workers.hold(conn, hand.id)
        return [one.id for one in workers.claim(conn, hand.id, hand.name, {"default": 1}, Room(1, 1))]

    for _ in range(2):
        with pytest.raises(Unreachable, match=says):
            works.transact(claim, retry_for=1.0)
    faults()
    assert works.transact(claim, retry_for=1.0) == [run_id]


def test_a_login_that_a_firewall_refuses_is_tried_again_later(db: Database, faults: Faults) -> None:
    db.close()
    faults("error 40615 login always")
    with pytest.raises(Unreachable, match="Cannot open server 'testserver' requested by the login"):
        db.query(lambda conn: conn.exec_driver_sql("SELECT 1").scalar(), retry_for=1.0)


def test_a_server_that_takes_the_login_and_then_hangs_is_given_up(
    url: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first connection with a connection string pyodbc asks what types there are, and waits without a limit."""
    monkeypatch.setattr(answers, "CONNECTING", 2.0)
    monkeypatch.setattr(answers, "ANSWER", 2.0)
    faults("silence 60 always")
    given = sa.make_url(url)
    first = given.update_query_dict({"APP": "the first one"}) if given.get_driver_name() == "pyodbc" else given
    db = Database(first.render_as_string(hide_password=False))
    with pytest.raises(Unreachable):
        db.query(workers.workers, retry_for=0)
    db.close()


def test_a_login_that_fails_for_a_reason_in_another_language_is_tried_again(db: Database, faults: Faults) -> None:
    """mssql-python gives no number, and a login speaks its own language until it is in."""
    db.close()
    faults("error 55555 login first 1")
    assert db.query(lambda conn: conn.execute(sa.text("SELECT 1")).scalar_one()) == 1
    db.close()
    faults("error 55555 login always")
    with pytest.raises(Unreachable, match="Error 55555, injected by the fault script"):
        db.query(lambda conn: conn.execute(sa.text("SELECT 1")).scalar_one(), retry_for=0.1)
