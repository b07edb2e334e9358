"""Statements that a queue on SQL Server uses, through both drivers."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.mssql import DATETIME2

from tests.tds_server.tests import queue_table
from tests.tds_server.tests.queue_table import output, run


@pytest.fixture
def queue(engine: sa.Engine) -> sa.Engine:
    """The queue's tables with six queued rows. The fourth has a high priority."""
    queue_table.create(engine, 6)
    with engine.begin() as conn:
        conn.execute(run.update().where(run.c.id == 4).values(priority=5))
    return engine


def fetch(engine: sa.Engine, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with engine.begin() as conn:
        result = conn.execute(sa.text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else [(result.rowcount,)]


def test_a_claim_takes_the_first_rows_in_order(queue: sa.Engine) -> None:
    claimed = fetch(queue, queue_table.CLAIM, n=2, queue="default", worker="w")
    assert sorted(claimed) == [(1, 0, 1), (4, 0, 1)]
    assert fetch(queue, "SELECT id FROM jobfac.run WHERE worker = N'w' ORDER BY id") == [(1,), (4,)]


def test_a_claim_written_by_sqlalchemy(queue: sa.Engine) -> None:
    chosen = (
        sa.select(run)
        .with_hint(run, "WITH (ROWLOCK, UPDLOCK, READPAST)", "mssql")
        .where(run.c.state == "queued")
        .order_by(run.c.priority.desc(), run.c.id)
        .limit(3)
        .cte("next")
    )
    claim = sa.update(chosen).values(state="running", attempt=chosen.c.attempt + 1).returning(chosen.c.id)
    with queue.begin() as conn:
        assert sorted(conn.execute(claim).scalars()) == [1, 2, 4]


def test_a_claim_skips_locked_rows(queue: sa.Engine) -> None:
    with queue.begin() as first, queue.begin() as second:
        values = {"n": 2, "queue": "default", "worker": "w"}
        mine = first.execute(sa.text(queue_table.CLAIM), values).scalars().all()
        yours = second.execute(sa.text(queue_table.CLAIM), values | {"worker": "v"}).scalars().all()
    assert sorted(mine) == [1, 4]
    assert sorted(yours) == [2, 3]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE TOP (2) jobfac.run WITH (READPAST) SET attempt += 2 OUTPUT inserted.attempt WHERE id > 2",
            [(2,), (2,)],
        ),
        ("DELETE TOP (1) FROM jobfac.run OUTPUT deleted.id WHERE id = 5", [(5,)]),
        (
            "WITH d AS (SELECT TOP (2) * FROM jobfac.run WITH (READPAST) WHERE id > 1 ORDER BY id) DELETE "
            "FROM d OUTPUT deleted.id",
            [(2,), (3,)],
        ),
        (
            "WITH d AS (SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) AS n FROM jobfac.run WHERE id > 1) "
            "DELETE FROM d WHERE n > 2",
            [(3,)],
        ),
        ("UPDATE r SET r.worker = o.text FROM jobfac.run AS r JOIN jobfac.output AS o ON o.run_id = r.id", [(1,)]),
        (
            "UPDATE r SET worker = o.text FROM jobfac.run AS r LEFT JOIN jobfac.output AS o ON o.run_id = "
            "r.id WHERE r.id < 4",
            [(3,)],
        ),
        ("DELETE r FROM jobfac.run AS r LEFT JOIN jobfac.output AS o ON o.run_id = r.id WHERE o.id IS NULL", [(5,)]),
        ("DELETE jobfac.output", [(1,)]),
        (
            "UPDATE jobfac.run SET urgent = CASE WHEN id = 1 THEN 1 ELSE 0 END OUTPUT inserted.urgent WHERE id < 2",
            [(True,)],
        ),
        (
            "INSERT INTO jobfac.output (id, run_id, text) OUTPUT inserted.id, inserted.text VALUES (7, 1, NULL)",
            [(7, None)],
        ),
        ("INSERT INTO jobfac.output (id, run_id) SELECT id + 10, id FROM jobfac.run WHERE id <= 2", [(2,)]),
        ("SELECT TOP (2) id FROM jobfac.run WITH (NOLOCK) ORDER BY priority DESC, id DESC", [(4,), (6,)]),
        ("SELECT id FROM jobfac.run ORDER BY id OFFSET 2 ROWS FETCH NEXT 2 ROWS ONLY", [(3,), (4,)]),
        (
            "SELECT COUNT(*) FROM jobfac.run WITH (UPDLOCK, HOLDLOCK) WHERE queue = N'default' OPTION (RECOMPILE)",
            [(6,)],
        ),
        (
            "SELECT r.id, o.n FROM jobfac.run AS r CROSS APPLY (SELECT COUNT(*) AS n FROM jobfac.output AS o "
            "WHERE o.run_id = r.id) AS o WHERE r.id < 3 ORDER BY r.id",
            [(1, 1), (2, 0)],
        ),
        (
            "SELECT r.id, o.text FROM jobfac.run AS r OUTER APPLY (SELECT TOP 1 text FROM jobfac.output "
            "WHERE run_id = r.id) AS o WHERE r.id < 3 ORDER BY r.id",
            [(1, "x"), (2, None)],
        ),
        (
            "SELECT STRING_AGG(CAST(id AS NVARCHAR(MAX)), N',') WITHIN GROUP (ORDER BY id DESC) FROM jobfac.run",
            [("6,5,4,3,2,1",)],
        ),
        ("SELECT priority, COUNT(*) AS n FROM jobfac.run GROUP BY priority HAVING COUNT(*) > 1", [(0, 5)]),
        (
            "SELECT worker FROM (SELECT worker FROM jobfac.run UNION SELECT text FROM jobfac.output) AS u "
            "ORDER BY worker",
            [(None,), ("x",)],
        ),
        (
            "SELECT COUNT(*) FROM jobfac.run WHERE urgent = 0 AND queue LIKE N'd%' AND state COLLATE "
            "Latin1_General_BIN2 = N'queued'",
            [(6,)],
        ),
    ],
)
def test_a_statement_returns_its_rows(queue: sa.Engine, statement: str, expected: list[tuple[Any, ...]]) -> None:
    with queue.begin() as conn:
        conn.execute(output.insert().values(id=1, run_id=1, text="x"))
    assert fetch(queue, statement) == expected


def test_output_into_a_table_variable(queue: sa.Engine) -> None:
    found = fetch(
        queue,
        "SET NOCOUNT ON; DECLARE @t TABLE (id BIGINT, was NVARCHAR(20)); "
        "UPDATE jobfac.run SET state = N'done' OUTPUT inserted.id, deleted.state INTO @t WHERE id < 3; "
        "SELECT id, was FROM @t ORDER BY id",
    )
    assert found == [(1, "queued"), (2, "queued")]


def test_merge_updates_or_inserts(queue: sa.Engine) -> None:
    merge = (
        "MERGE INTO jobfac.run WITH (HOLDLOCK) AS t USING (SELECT :key AS k) AS s ON t.[key] = s.k "
        "WHEN MATCHED THEN UPDATE SET attempt = t.attempt + 1 "
        "WHEN NOT MATCHED THEN INSERT (queue, [key]) VALUES (N'm', s.k) OUTPUT $action, inserted.attempt;"
    )
    assert fetch(queue, merge, key="k") == [("INSERT", 0)]
    assert fetch(queue, merge, key="k") == [("UPDATE", 1)]


def test_many_rows_keep_their_order(queue: sa.Engine) -> None:
    rows = [{"queue": f"q{number}"} for number in range(2500)]
    with queue.begin() as conn:
        inserted = conn.execute(run.insert().returning(run.c.id, run.c.queue, sort_by_parameter_order=True), rows).all()
    assert [row.queue for row in inserted] == [row["queue"] for row in rows]
    assert [row.id for row in inserted] == sorted(row.id for row in inserted)


@pytest.mark.parametrize("fast", [False, True])
def test_arrays_of_parameters(queue: sa.Engine, fast: bool) -> None:
    if queue.driver == "pyodbc":
        queue.dialect.fast_executemany = fast  # type: ignore[attr-defined]
    rows = [
        {"id": number, "run_id": 1, "text": None if number % 7 == 0 else f"zeile {number}é"} for number in range(500)
    ]
    with queue.begin() as conn:
        conn.execute(output.insert(), rows)
        conn.execute(
            output.update().where(output.c.id == sa.bindparam("which")).values(text=sa.bindparam("new")),
            [{"which": 1, "new": "eins"}, {"which": 2, "new": None}],
        )
        assert conn.scalar(sa.select(sa.func.count()).select_from(output)) == 500
        found = conn.execute(sa.select(output.c.text).where(output.c.id < 4).order_by(output.c.id)).scalars().all()
    assert found == [None, "eins", None, "zeile 3é"]


def test_tables_are_reflected(queue: sa.Engine) -> None:
    inspector = sa.inspect(queue)
    columns = {column["name"]: column for column in inspector.get_columns("run", schema="jobfac")}
    assert isinstance(columns["id"]["type"], sa.BigInteger)
    assert columns["id"]["identity"] == {"start": 1, "increment": 1}
    assert (columns["worker"]["nullable"], columns["queue"]["nullable"]) == (True, False)
    assert repr(columns["queue"]["type"]).startswith("NVARCHAR(length=100")
    assert isinstance(columns["urgent"]["type"], sa.dialects.mssql.BIT)
    assert isinstance(columns["created_at"]["type"], DATETIME2)
    indexes = {index["name"]: index for index in inspector.get_indexes("run", schema="jobfac")}
    assert indexes["ix_run_claim"]["column_names"] == ["queue", "priority", "id"]
    assert indexes["ix_run_claim"]["dialect_options"]["mssql_include"] == ["attempt"]
    assert "'queued'" in indexes["ix_run_claim"]["dialect_options"]["mssql_where"]
    assert indexes["ux_run_key"]["unique"]
    assert inspector.get_pk_constraint("run", schema="jobfac")["constrained_columns"] == ["id"]
    assert inspector.get_foreign_keys("output", schema="jobfac")[0]["referred_table"] == "run"
    assert inspector.has_table("run", schema="jobfac")
    assert not inspector.has_table("nothing", schema="jobfac")


def test_definitions_can_be_altered(queue: sa.Engine) -> None:
    for statement in (
        "ALTER TABLE jobfac.run SET (LOCK_ESCALATION = DISABLE)",
        "ALTER INDEX ix_run_claim ON jobfac.run SET (ALLOW_PAGE_LOCKS = OFF)",
        "ALTER TABLE jobfac.run ADD note NVARCHAR(5) NULL, size INT NOT NULL CONSTRAINT df_size DEFAULT (3)",
        "ALTER TABLE jobfac.run ALTER COLUMN note NVARCHAR(40) NOT NULL",
        "CREATE NONCLUSTERED INDEX ix_note ON jobfac.run (note DESC) WHERE note <> N'' WITH (ONLINE = ON)",
        "DROP INDEX ix_note ON jobfac.run",
        "ALTER TABLE jobfac.run DROP COLUMN size",
        "CREATE ROLE jobfac_reader",
        "GRANT SELECT ON SCHEMA::jobfac TO jobfac_reader",
        (
            "CREATE OR ALTER VIEW jobfac.v_run AS SELECT TOP (3) id AS number, note FROM jobfac.run WHERE "
            "state = N'queued'"
        ),
        (
            "CREATE OR ALTER VIEW jobfac.v_run AS SELECT id, CAST(DATEDIFF(SECOND, created_at, "
            "SYSUTCDATETIME()) AS INT) AS age FROM jobfac.run"
        ),
    ):  # fmt: skip
        with queue.begin() as conn:
            conn.exec_driver_sql("DELETE FROM jobfac.run")
            conn.exec_driver_sql(statement)
    with queue.begin() as conn:
        conn.exec_driver_sql("INSERT INTO jobfac.run (note) VALUES (N'more than five')")
        assert conn.exec_driver_sql("SELECT age FROM jobfac.v_run").scalar_one() in (0, 1)


@pytest.mark.parametrize(
    ("number", "statement"),
    [
        (102, "SELECT FROM WHERE"),
        (137, "SELECT @nothing"),
        (195, "SELECT nothing(1)"),
        (207, "SELECT nothing FROM jobfac.run"),
        (208, "SELECT 1 FROM jobfac.nothing"),
        (245, "SELECT CAST(N'x' AS INT)"),
        (515, "INSERT INTO jobfac.run (queue) VALUES (NULL)"),
        (547, "INSERT INTO jobfac.run (state) VALUES (N'nothing')"),
        (547, "INSERT INTO jobfac.output (id, run_id) VALUES (1, 4711)"),
        (2601, "INSERT INTO jobfac.run ([key]) VALUES (N'a'), (N'a')"),
        (2627, "INSERT INTO jobfac.output (id, run_id) VALUES (1, 1), (1, 1)"),
        (2628, "UPDATE jobfac.run SET worker = REPLICATE(N'x', 51)"),
        (2714, "CREATE TABLE jobfac.run (id INT)"),
        (2812, "EXEC jobfac.nothing"),
        (8134, "SELECT 1 / 0"),
    ],
)
def test_an_error_has_its_number(queue: sa.Engine, number: int, statement: str) -> None:
    handled = (
        f"BEGIN TRY EXEC(N'{statement.replace(chr(39), chr(39) * 2)}'); SELECT 0; END TRY "
        "BEGIN CATCH SELECT ERROR_NUMBER(); END CATCH"
    )
    with queue.begin() as conn, pytest.raises(sa.exc.DBAPIError) as raised:
        conn.exec_driver_sql(statement)
    assert queue.driver != "pyodbc" or f"({number})" in str(raised.value)
    assert fetch(queue, f"SET NOCOUNT ON; {handled}") == [(number,)]


def test_nulls_are_equal_for_a_unique_index(queue: sa.Engine) -> None:
    with queue.begin() as conn:
        conn.exec_driver_sql("CREATE UNIQUE INDEX ux_run_worker ON jobfac.run (queue, worker) WHERE queue = N'unique'")
        conn.execute(run.insert().values(queue="unique", worker=None))
    with pytest.raises(sa.exc.IntegrityError), queue.begin() as conn:
        conn.execute(run.insert().values(queue="unique", worker=None))
