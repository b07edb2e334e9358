"""A client gives up a procedure by its timeout: the server sends no error, and no CATCH runs. Nothing may stay open.

Source: Microsoft, "TRY...CATCH": attentions, such as requests of a client to interrupt, are not caught.
"""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from tests.support.engines import HAS_ODBC
from tests.support.tsql import call, define, execute

pytestmark = [
    pytest.mark.mssql,
    pytest.mark.each_driver,
    pytest.mark.skipif(not HAS_ODBC, reason="needs pyodbc, whose connections take a timeout at any time"),
    pytest.mark.parametrize("url", ["pyodbc"], indirect=True),
]

CALLS = {
    "a start": ("EXEC jobfac.start_job @job = N'limited'", "EXEC jobfac.start_job @job = N'limited'"),
    "a stop": ("SELECT id FROM jobfac.run WITH (UPDLOCK)", "EXEC jobfac.stop_run @run = 1"),
}
"""What a transaction does that stays open, and a call that waits for it."""


@pytest.mark.parametrize("case", CALLS)
def test_a_procedure_that_timed_out_leaves_no_transaction_open(db: Database, case: str) -> None:
    import pyodbc

    first, waiting = CALLS[case]
    define(db, limited={"already_running": "queue"}, other={})
    execute(db, "stop_run", run=execute(db, "start_job", job="limited"))
    # As an application has it: autocommit, XACT_ABORT OFF.
    engine = sa.create_engine(db.engine.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as held, db.engine.connect() as somebody:
        application = held.connection.driver_connection
        assert application is not None
        somebody.exec_driver_sql(first)
        application.timeout = 1
        with pytest.raises(pyodbc.Error, match="timeout expired"):
            application.cursor().execute(waiting)
        application.timeout = 0
        assert application.cursor().execute("SELECT @@TRANCOUNT").fetchval() == 0
        somebody.rollback()
        application.cursor().execute("EXEC jobfac.start_job @job = N'other'")
    with db.read() as conn:
        assert conn.execute(sa.select(run.c.state).where(run.c.job == "other")).scalars().all() == ["queued"]


def test_a_procedure_leaves_the_setting_of_its_session_as_it_was(db: Database) -> None:
    define(db, a={})
    with db.begin() as conn:
        conn.exec_driver_sql("SET XACT_ABORT OFF")
        call(conn, "start_job", job="a")
        with pytest.raises(sa.exc.DBAPIError):
            conn.exec_driver_sql("SELECT 1 / 0")
        call(conn, "start_job", job="a")
    with db.read() as conn:
        assert len(conn.execute(sa.select(run.c.id)).all()) == 2
