"""Values return unchanged from the server, through both drivers."""

import datetime as dt
import decimal
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from tests.tds_server import harness
from tests.tds_server.harness import TestServer

UTC = dt.UTC

VALUES = [
    pytest.param("BIGINT", 2**40, id="bigint"),
    pytest.param("BIGINT", -(2**63), id="smallest bigint"),
    pytest.param("INT", -5, id="int"),
    pytest.param("SMALLINT", 7, id="smallint"),
    pytest.param("BIT", True, id="bit"),
    pytest.param("BIT", False, id="false"),
    pytest.param("FLOAT", 1.5e-3, id="float"),
    pytest.param("DECIMAL(18, 4)", decimal.Decimal("-12345.6789"), id="decimal"),
    pytest.param("NVARCHAR(50)", "déjà vu 漢字 😀", id="nvarchar"),
    pytest.param("NVARCHAR(50)", "", id="empty"),
    pytest.param("NVARCHAR(50)", "trailing  ", id="spaces at the end"),
    pytest.param("NVARCHAR(MAX)", "", id="empty max"),
    pytest.param("NVARCHAR(MAX)", "ä" * 300_000, id="nvarchar(max)"),
    pytest.param("VARBINARY(MAX)", b"\x00\xff" * 100_000, id="varbinary(max)"),
    pytest.param("UNIQUEIDENTIFIER", uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"), id="guid"),
    pytest.param("DATE", dt.date(2026, 2, 28), id="date"),
    pytest.param("TIME(6)", dt.time(23, 59, 59), id="time"),
    pytest.param("DATETIME2(6)", dt.datetime(2026, 1, 2, 3, 4, 5, 123456), id="datetime2"),
    pytest.param("DATETIME2(3)", dt.datetime(1753, 1, 1, 0, 0, 0, 7000), id="datetime2(3)"),
    pytest.param("DATETIMEOFFSET(6)", dt.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC), id="datetimeoffset"),
]


def stored(engine: sa.Engine, kind: str, value: Any) -> Any:
    """Store a value in a column of this type; returns the value that is read back."""
    column = sa.Column("v", sa.types.NULLTYPE)
    table = sa.Table("kept", sa.MetaData(), column)
    with engine.connect() as conn:  # the transaction is rolled back
        conn.execute(sa.text(f"CREATE TABLE kept (v {kind} NULL)"))
        conn.exec_driver_sql("INSERT INTO kept (v) VALUES (?)", (value,))
        return conn.execute(sa.select(table.c.v)).scalar_one()


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_a_value_is_read_back(engine: sa.Engine, kind: str, value: Any) -> None:
    found = stored(engine, kind, value)
    assert (uuid.UUID(found) if kind == "UNIQUEIDENTIFIER" and isinstance(found, str) else found) == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    "kind", ["BIGINT", "BIT", "FLOAT", "DECIMAL(9, 2)", "NVARCHAR(9)", "NVARCHAR(MAX)", "DATETIME2(3)", "DATE"]
)
def test_null_is_read_back(engine: sa.Engine, kind: str) -> None:
    assert stored(engine, kind, None) is None


def test_a_time_is_rounded_to_the_columns_digits(engine: sa.Engine) -> None:
    assert stored(engine, "DATETIME2(3)", dt.datetime(2026, 1, 2, 3, 4, 5, 678901)) == dt.datetime(
        2026, 1, 2, 3, 4, 5, 679000
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1", 1),
        ("COUNT(*)", 1),
        ("COUNT_BIG(*)", 1),
        ("CAST(1 AS BIT)", True),
        ("N'a' + N'b'", "ab"),
        ("N'a' + NULL", None),
        ("CONCAT(N'a', NULL, 1)", "a1"),
        ("7 / 2", 3),
        ("ISNULL(NULL, N'x')", "x"),
        ("LEN(N'ab  ')", 2),
        ("DATALENGTH(N'ab')", 4),
        ("TRY_CAST(N'x' AS INT)", None),
        ("TRY_CAST(N'12' AS INT)", 12),
        ("ISJSON(N'{}')", 1),
        ("ISJSON(N'{')", 0),
        ("""JSON_VALUE(N'{"a": {"b": [5, 6]}}', '$.a.b[1]')""", "6"),
        ("DATEDIFF(SECOND, '2026-01-01T00:00:00.900', '2026-01-01T00:00:01.100')", 1),
        ("DATEDIFF_BIG(MILLISECOND, '2026-01-01', '2026-01-02')", 86_400_000),
        ("DATEADD(DAY, -1, CAST('2026-03-01' AS DATETIME2(0)))", dt.datetime(2026, 2, 28)),
        ("DATEADD(MILLISECOND, 1500, CAST('2026-03-01' AS DATETIME2(3)))", dt.datetime(2026, 3, 1, 0, 0, 1, 500000)),
        ("CONVERT(NVARCHAR(30), CAST('2026-03-01T04:05:06.789' AS DATETIME2(3)), 126)", "2026-03-01T04:05:06.789"),
        ("IIF(1 = 1, N'yes', N'no')", "yes"),
        ("CASE WHEN N'a_b' LIKE N'a!_b' ESCAPE N'!' THEN 1 ELSE 0 END", 1),
        ("CASE WHEN N'a\\b' LIKE N'a\\b' THEN 1 ELSE 0 END", 1),
        ("CAST(0x68656C6C6F AS VARCHAR(MAX))", "hello"),
        ("(SELECT COUNT(*) FROM OPENJSON(N'[1, \"a\", null]') AS j WHERE j.[type] <> 1)", 2),
        ("(SELECT j.value FROM OPENJSON(N'{\"k\": [5]}', '$.k') AS j)", "5"),
        ("(SELECT SUM(j.value) FROM OPENJSON(N'[5, 6, 6]') WITH (value BIGINT '$') AS j)", 17),
        ("(SELECT MAX(j.value) FROM OPENJSON(N'[\"a\", \"b\"]') WITH (value NVARCHAR(9) '$') AS j)", "b"),
        ('(SELECT SUM(j.n) FROM OPENJSON(N\'[{"n": 5}, {}, {"n": 6}]\') WITH (n BIGINT, t NVARCHAR(9)) AS j)', 11),
        ("AVG(v)", 3),
        ("SUM(v)", 3),
    ],
)
def test_an_expression_has_its_value(engine: sa.Engine, expression: str, expected: Any) -> None:
    with engine.connect() as conn:
        found = conn.exec_driver_sql(f"SELECT {expression} AS found FROM (VALUES (3)) AS given(v)").scalar_one()
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("encrypt", ["no", "yes"])
def test_the_clock_is_utc_and_the_session_may_be_encrypted(
    server: TestServer, database: str, driver: str, encrypt: str
) -> None:
    engine = sa.create_engine(harness.url(server.port, driver, database, encrypt=encrypt))
    with engine.connect() as conn:
        now = conn.exec_driver_sql("SELECT SYSUTCDATETIME()").scalar_one()
    engine.dispose()
    assert abs(now - dt.datetime.now(UTC).replace(tzinfo=None)) < dt.timedelta(seconds=5)
