"""Properties that only a real SQL Server can show: locking, plans, escalation, permissions and collation."""

import re
import threading
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import runs, workers
from jobfac.store.runs import Outcome, StartRequest
from jobfac.store.workers.claiming import Room
from tests.support.database import Hand, define


def _drain(db: Database, worker_id: int, taken: Counter[int]) -> None:
    """Claim and finish until nothing is left, as a worker's turns do."""

    def turn(conn: sa.Connection, outcomes: list[Outcome]) -> list[workers.Claimed]:
        workers.hold(conn, worker_id)
        runs.finish(conn, worker_id, outcomes, "w")
        return workers.claim(conn, worker_id, "w", {"default": 1}, Room(5, 5))

    claimed = db.transact(turn, [], retry_for=60.0)
    while claimed:
        taken.update(one.id for one in claimed)
        outcomes = [Outcome(one.id, one.attempt, RunState.SUCCEEDED, exit_code=0) for one in claimed]
        claimed = db.transact(turn, outcomes, retry_for=60.0)


@pytest.fixture(params=["ON", "OFF"])
def rcsi(real: Database, request: pytest.FixtureRequest) -> str:
    """Run the test with READ_COMMITTED_SNAPSHOT on and off."""
    real.close()
    with real.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        name = conn.exec_driver_sql("SELECT DB_NAME()").scalar_one()
        option = f"READ_COMMITTED_SNAPSHOT {request.param} WITH ROLLBACK IMMEDIATE"
        conn.exec_driver_sql(f"ALTER DATABASE [{name}] SET {option}")
    real.close()
    return str(request.param)


def test_sixteen_workers_claim_each_run_once_without_deadlocks(real: Database, rcsi: str) -> None:
    define(real, true={})
    ids = real.transact(runs.start_many, StartRequest("true", "test"), 5000)
    workers = [Hand(real, f"w{number}").id for number in range(16)]
    before = _deadlocks(real)
    taken: Counter[int] = Counter()
    threads = [threading.Thread(target=_drain, args=(real, worker, taken)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(ids)
    assert _deadlocks(real) == before


def _deadlocks(db: Database) -> int:
    with db.read() as conn:
        return int(
            conn.exec_driver_sql(
                "SELECT cntr_value FROM sys.dm_os_performance_counters "
                "WHERE counter_name LIKE 'Number of Deadlocks/sec%' AND instance_name = '_Total'"
            ).scalar_one()
        )


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else f"N'{value}'"


def test_the_claim_is_an_ordered_seek(real: Database) -> None:
    claim = real.dialect.claim(5)
    assert isinstance(claim, sa.ClauseElement)
    compiled = claim.compile(
        dialect=mssql.dialect(paramstyle="named"), schema_translate_map={None: "jobfac"}, render_schema_translate=True
    )
    given = compiled.params | {"p_queue": "default", "p_worker_id": 1, "p_worker": "w"}
    statement = re.sub(r"(?:__\[POSTCOMPILE_|:)(\w+)\]?", lambda found: _literal(given[found[1]]), str(compiled))
    with real.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("SET SHOWPLAN_TEXT ON")
        plan = "\n".join(str(row[0]) for row in conn.exec_driver_sql(statement))
        conn.exec_driver_sql("SET SHOWPLAN_TEXT OFF")
        conn.invalidate()
    assert re.search(r"Index Seek\(OBJECT:\(.*\[ix_run_claim\].*ORDERED FORWARD", plan), plan
    assert "Sort(" not in plan
    assert "Scan(" not in plan


def test_the_largest_batch_takes_no_table_lock(real: Database) -> None:
    define(real, true={})
    with real.begin() as conn:
        runs.start_many(conn, StartRequest("true", "test"), 6000)
        locks = conn.exec_driver_sql(
            "SELECT COUNT(*) FROM sys.dm_tran_locks WHERE request_session_id = @@SPID "
            "AND resource_type = 'OBJECT' AND request_mode IN ('X', 'U', 'S')"
        ).scalar_one()
    assert locks == 0


def test_names_are_compared_without_case(real: Database) -> None:
    define(real, Orders={})
    run_id = real.transact(runs.start, StartRequest("orders", "test"))
    assert real.query(runs.get, run_id).job == "Orders"


ALLOWED = {
    "jobfac_reader": {"SELECT * FROM jobfac.v_runs": True, "EXEC jobfac.enable_job @job = N'true'": False},
    "jobfac_operator": {"SELECT * FROM jobfac.v_runs": True, "EXEC jobfac.enable_job @job = N'true'": True},
    "jobfac_worker": {
        "UPDATE jobfac.run SET priority = priority WHERE id = 0": True,
        "CREATE TABLE jobfac.intruder (id INT)": False,
    },
}


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_has_exactly_its_permissions(real: Database, role: str) -> None:
    define(real, true={})
    user = f"test_{uuid.uuid4().hex[:8]}"
    with real.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(f"CREATE USER {user} WITHOUT LOGIN; ALTER ROLE {role} ADD MEMBER {user};")
        try:
            for text, may in ALLOWED[role].items():
                conn.exec_driver_sql(f"EXECUTE AS USER = '{user}'")
                refusal = _refusal(conn, text)
                conn.exec_driver_sql("REVERT")
                assert refusal is None if may else "permission" in str(refusal).lower(), f"{role}: {text}: {refusal}"
        finally:
            conn.exec_driver_sql(f"DROP USER {user}")


def _refusal(conn: sa.Connection, text: str) -> Exception | None:
    try:
        conn.exec_driver_sql(text).close()
    except sa.exc.DBAPIError as error:
        return error.orig if isinstance(error.orig, Exception) else error
    return None
