"""Waiting for work on SQL Server: inside the server, or by polling from outside."""

import time
from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.dialects import (
    DIRTY,
    HOLD_WEIGHT,
    PASS,
    Survey,
    WorkSignal,
    hold_number,
    read_survey,
    work_expression,
)
from jobfac.database.dialects.answers import LONGEST_WAIT
from jobfac.database.sequence_tables import LOOKED_FOR
from jobfac.database.tables import SCHEMA, WATCHED
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState, WorkerState

PAUSE = "00:00:00.040"
"""The poll interval of a wait inside the server; the median pickup takes half of it."""


def sql_literal(name: str) -> sa.BindParameter[int]:
    """A number written into the SQL text: pyodbc closes a parametrized statement in an extra round trip."""
    return sa.bindparam(name, type_=sa.BigInteger(), literal_execute=True)


_WAIT = sa.text(
    f"""\
SET NOCOUNT ON;
DECLARE @until DATETIME2(3) = DATEADD(MILLISECOND, CAST(:milliseconds AS INT), SYSUTCDATETIME());
DECLARE @work INT = 0;
WHILE @work = 0 AND SYSUTCDATETIME() < @until
BEGIN
    SET @work = {work_expression(f"{SCHEMA}.", "SYSUTCDATETIME()", PASS)};
    IF @work = 0 WAITFOR DELAY '{PAUSE}';
END;
SET NOCOUNT OFF;
SELECT @work AS work, w.state, w.token, (SELECT COUNT(*) FROM {SCHEMA}.queue {PASS})
    + {HOLD_WEIGHT} * (SELECT COALESCE(SUM({hold_number("h.id")}), 0) FROM {SCHEMA}.start_hold AS h {PASS}
        WHERE h.freed = 0 AND h.released_at IS NULL AND (h.until IS NULL OR h.until > SYSUTCDATETIME())) AS queues,
    (SELECT COUNT(*) FROM {SCHEMA}.run {DIRTY} WHERE worker_id = :worker_id AND state IN ({sql_literals(HELD)}))
        AS held,
    (SELECT COUNT(*) FROM {SCHEMA}.worker {DIRTY} WHERE state = '{WorkerState.ACTIVE}') AS fleet,
    (SELECT COALESCE(SUM(id), 0) FROM {SCHEMA}.schedule {PASS} WHERE {WATCHED})
    + (SELECT COALESCE(SUM(id), 0) FROM {SCHEMA}.visit {PASS} WHERE {LOOKED_FOR}) AS watches,
    r.id, r.attempt, r.stop
FROM (SELECT 1 AS one) AS o
LEFT JOIN {SCHEMA}.worker AS w {PASS} ON w.id = :worker_id
LEFT JOIN {SCHEMA}.run AS r {PASS}
    ON r.worker_id = w.id AND r.state IN ({sql_literals(HELD)}) AND r.state = '{RunState.STOPPING}';"""
).bindparams(
    sql_literal("milliseconds"),
    sa.bindparam("queues", type_=sa.Unicode(), expanding=True, literal_execute=True),
    sql_literal("worker_id"),
    sql_literal("stopping"),
)


class ServerWaiter:
    """Waits inside the server: one round trip lasts up to ``seconds``, and it notices work within ``PAUSE``."""

    busy_seconds = 0.5
    polls_a_second = 20.0

    def __init__(self, engine: sa.Engine) -> None:
        self.survey: Survey | None = None
        self._engine = engine

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> WorkSignal:
        with self._engine.connect() as conn:
            values = {
                "milliseconds": int(min(seconds, LONGEST_WAIT) * 1000),
                "queues": list(queues) or [""],
                "worker_id": worker_id,
                "stopping": stopping,
            }
            rows = conn.execute(_WAIT, values).all()
            self.survey = None if rows[0].state is None else read_survey(rows)
            return WorkSignal(rows[0].work)

    def interrupt(self) -> None:
        """Does nothing: a wait inside the server ends at its time limit."""

    def close(self) -> None:
        """Does nothing: the waiter holds no resources between two waits."""


_EDITION = "SELECT CAST(SERVERPROPERTY('EngineEdition') AS INT)"

AZURE_SQL_DATABASE = 5
"""EngineEdition of Azure SQL Database. It allows few waiting batches: each holds one of the database's workers.
Source: Microsoft, "SERVERPROPERTY" and "Resource limits for single databases"."""


class PollingWaiter(ServerWaiter):
    """Polls from outside, at growing intervals while there is no work; for servers that allow few waiting batches."""

    SHORTEST = 0.05
    LONGEST = 1.0

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> WorkSignal:
        end = time.monotonic() + seconds
        pause = self.SHORTEST
        while (left := end - time.monotonic()) > 0:
            if found := super().wait(queues, worker_id, stopping, 0.001):
                return found
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, self.LONGEST)
        return WorkSignal.NOTHING


class ChoosingWaiter(ServerWaiter):
    """Chooses by the server's edition: polls Azure SQL Database and waits inside any other server."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.choice: ServerWaiter | None = None  # None: the edition is not known yet

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> WorkSignal:
        if self.choice is None:
            with self._engine.connect() as conn:
                edition = conn.exec_driver_sql(_EDITION).scalar()
            self.choice = (PollingWaiter if edition == AZURE_SQL_DATABASE else ServerWaiter)(self._engine)
        found = self.choice.wait(queues, worker_id, stopping, seconds)
        self.survey = self.choice.survey
        return found
