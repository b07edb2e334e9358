"""The guard against statements whose text varies with the length of a list."""

import pytest

from tests.tds_server.lists import varying

INSERT = "INSERT INTO t VALUES "
ROW = "(@P{0}, CAST(@P{1} AS NVARCHAR(max)), DATEADD(MINUTE, CAST(@P{2} AS INT), SYSUTCDATETIME()))"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM jobfac.run WHERE id IN (@P1)",
        "SELECT id FROM jobfac.run WHERE id IN (@P1, @P2) AND state = 'queued'",
        "DELETE FROM t WHERE a = @P1 AND b NOT IN (@P2,@P3)",
    ],
)
def test_a_list_of_parameters_is_found(text: str) -> None:
    assert varying([text]) == [text]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (INSERT + ROW.format(1, 2, 3), f"{INSERT}{ROW.format(1, 2, 3)}, {ROW.format(4, 5, 6)}"),
        ("SELECT 1 FROM t WHERE a = @P1 OR a = @P2", "SELECT 1 FROM t WHERE a = @P1 OR a = @P2 OR a = @P3"),
        ("SELECT CONCAT(@P1, @P2) AS a", "SELECT CONCAT(@P1, @P2, @P3) AS a"),
    ],
)  # fmt: skip
def test_texts_that_differ_in_a_length_are_found(one: str, other: str) -> None:
    assert varying([one, other, one]) == sorted([one, other])
    assert varying([one]) == []


def test_other_statements_are_not_found() -> None:
    assert varying([
        "SELECT id FROM t WHERE id IN (SELECT value FROM OPENJSON(@P1) WITH (value BIGINT '$') AS g)",
        "SELECT id FROM t WHERE state IN ('queued', 'blocked') AND a = @P1",
        "SELECT id FROM t WHERE state IN ('queued', 'blocked', 'running') AND a = @P1",
        "INSERT INTO t (a, b) VALUES (@P1, @P2)",
        "INSERT INTO t (a, b, c) VALUES (@P1, @P2, @P3)",
        "INSERT INTO t VALUES (1), (2)",
    ]) == []  # fmt: skip
