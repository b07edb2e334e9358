"""Microsoft's grammar finds invalid T-SQL and accepts valid T-SQL."""

import pytest

from tests.tds_server import grammar
from tests.tds_server.tests import queue_table

RIGHT = {
    "claim": queue_table.CLAIM.replace(":n", "?").replace(":queue", "?").replace(":worker", "?"),
    "named": "SELECT id FROM jobfac.run WHERE id = %(id_1)s AND queue LIKE N'%(x)s?'",
    "hint": "SELECT 1 FROM jobfac.run WITH (READPAST)\nSELECT 2 FROM jobfac.run WITH (NOLOCK)",
    "batches": (
        "CREATE OR ALTER VIEW jobfac.v AS\nWITH a AS (SELECT 1 AS x) SELECT x FROM a;\nGO\nWITH a AS "
        "(SELECT 1 AS x) SELECT x FROM a;\nGO\n"
    ),
    "index": "CREATE INDEX ix ON jobfac.run (id) WHERE state = N'queued' WITH (ALLOW_PAGE_LOCKS = OFF);",
}
WRONG = {
    "hint": "SELECT 1 FROM jobfac.run WITH (SKIPLOCKED)",
    "postgres": "SELECT id FROM jobfac.run LIMIT 1",
    "no table": "SELECT id FROM WHERE id = ?",
    "no semicolon": "DECLARE @x INT = 1\nWITH a AS (SELECT 1 AS x) SELECT x FROM a;",
    "procedure": "CREATE PROCEDURE jobfac.p AS BEGIN SELECT 1;",
}


def test_valid_statements_pass() -> None:
    assert grammar.check(RIGHT) == []


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_statement_is_found(name: str) -> None:
    found = grammar.check(RIGHT | {f"broken {name}": WRONG[name]})
    assert {violation.name for violation in found} == {f"broken {name}"}


def test_a_newer_form_is_refused_by_an_older_version() -> None:
    option = {"option": "ALTER INDEX pk ON jobfac.run SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);"}
    assert {violation.version for violation in grammar.check(option)} == {"2016"}


def test_a_violation_names_its_line() -> None:
    (found,) = grammar.check({"a": "SELECT 1;\nSELECT 2\nWITH a AS (SELECT 1 AS x) SELECT x FROM a;"}, ["2022"])
    assert found.message.startswith("line 3:")
