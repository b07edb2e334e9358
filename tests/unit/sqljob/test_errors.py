"""Errors of drivers in words: their texts as the drivers make them, also where several come at once."""

from typing import Any, NamedTuple

import pyodbc
import pytest
from sqlalchemy.dialects import mssql
from sqlalchemy.dialects.mssql.pyodbc import MSDialect_pyodbc

from jobfac.sqljob.mssql import SqlServer
from jobfac.sqljob.scripts import split
from jobfac.worker.executions.fingerprints import secrets_of

PREFIX = "[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]"


class Cursor(NamedTuple):
    messages: list[tuple[str, str]]


def server() -> tuple[SqlServer, list[str]]:
    said: list[str] = []
    return SqlServer(None, mssql.dialect(), said.append), said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"[23000] {PREFIX}Violation of KEY 'a'. (2627) (SQLExecDirectW)", "Msg 2627: Violation of KEY 'a'."),
        (
            f"[42000] {PREFIX}Cannot open backup device 'x'. (3201) (SQLExecDirectW); "
            f"[42000] {PREFIX}BACKUP DATABASE is terminating abnormally. (3013)",
            "Msg 3201: Cannot open backup device 'x'.; BACKUP DATABASE is terminating abnormally.",
        ),
        (
            f"[23000] {PREFIX}Violation (of a key); [x]. (2627) (SQLExecDirectW); "
            f"[01000] {PREFIX}jobfac-error 2627 12 dbo.load (50000)",
            "Msg 2627, line 12, dbo.load: Violation (of a key); [x].",
        ),
        (
            f"[01000] {PREFIX}jobfac-error 8134 2  (50000) (SQLExecDirectW); [22012] {PREFIX}Divide by zero. (8134)",
            "Msg 8134, line 5: Divide by zero.",
        ),
        (
            f"[01000] {PREFIX}jobfac-begun (50000) (SQLExecDirectW); [42S02] {PREFIX}Invalid object name 'x'. (208)",
            "Msg 208: Invalid object name 'x'.",
        ),
        ("no such thing", "no such thing"),
    ],
)
def test_texts_of_pyodbc(text: str, sentence: str) -> None:
    [batch] = split("\n\n\nSELECT 1\nFROM x", "mssql")
    assert str(server()[0].explain(Exception("42000", text), batch)) == sentence


def test_a_message_of_the_handler_is_not_shown_and_places_the_next_error() -> None:
    [batch] = split("SELECT 1", "mssql")
    made, said = server()
    made.wrap(batch.text, batch)
    found = [("[01000] (0)", f"{PREFIX}[x] hello"), ("[01000] (50000)", f"{PREFIX}jobfac-error 50001 3 dbo.p")]
    assert made.messages(Cursor(found))
    assert said == ["[x] hello"]
    error: Any = Exception("Driver Error: General error; DDBC Error: [Microsoft][SQL Server]no rows")
    error.ddbc_error = "[Microsoft][SQL Server]no rows"
    assert str(made.explain(error, batch)) == "Msg 50001, line 3, dbo.p: no rows"
    assert not made.misread(Exception("Incorrect syntax near 'x'.")), "the batch has run"


def test_a_batch_that_has_begun_is_not_sent_again() -> None:
    [batch] = split("INSERT INTO a VALUES (1)\nSELECT * FROM OPENQUERY(b, 'SELEC')", "mssql")
    error = Exception("42000", f"[42000] {PREFIX}Incorrect syntax near 'SELEC'. (102) (SQLExecDirectW)")
    made, said = server()
    made.cancels = True
    assert made.wrap(batch.text, batch).startswith("BEGIN TRY RAISERROR(N'jobfac-begun', 0, 1);INSERT")
    assert made.misread(error)
    assert not made.messages(Cursor([("[01000] (50000)", f"{PREFIX}jobfac-begun")]))
    assert said == []
    assert not made.misread(error)
    made.wrap(batch.text, batch)
    assert made.misread(error)
    made.began()
    assert not made.misread(error)


@pytest.mark.parametrize(
    ("script", "wrapped"),
    [
        ("SELECT 1", True),
        ("-- a remark\nINSERT INTO t VALUES (1)", True),
        ("CREATE TABLE t (a int)", True),
        ("/* x */ CREATE OR ALTER PROCEDURE p AS SELECT 1", False),
        ("alter view v as select 1 as a", False),
        ("BACKUP DATABASE d TO DISK = 'x'", False),
        ("IF 1 = 1 DBCC CHECKDB", False),
    ],
)
def test_what_is_sent_inside_of_try(script: str, wrapped: bool) -> None:
    [batch] = split(script, "mssql")
    assert (server()[0].wrap(batch.text, batch) != batch.text) == wrapped


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        ("mssql+pyodbc://sa:p%40ss@h/d", {"p@ss"}),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dsa%3BPWD%3D%7Ba%3Bb%7D%3BServer%3Dx", {"a;b"}),
        ("mssql+pyodbc:///?odbc_connect=PWD%3D%7Ba%7D%7Db%3Bc%7D%3BServer%3Dx", {"a}b;c"}),
        ("mssql+pyodbc://h/d?driver=x&PWD=p", {"p"}),
        ("postgresql+psycopg://h/d?user=u&password=p%40ss", {"p@ss"}),
        ("sqlite:///x.db", set()),
        ("no url", set()),
        ("mssql+pyodbc://sa:P@ssw0rd@a:b@h/d", {"P@ssw0rd@a:b", "ssw0rd"}),
        ("mssql+pyodbc://sa:P@s%20sw0rd@h/d", {"P@s%20sw0rd", "P@s sw0rd", "s%20sw0rd", "s sw0rd"}),
        ("mssql+pyodbc://corp/sa:Zq?P@ssw0rd@h/d", {"Zq?P@ssw0rd", "Zq?P", "ssw0rd"}),
        ("mssql+pyodbc://sa:p@ss@1433?x=w0rd@h/d", {"p@ss@1433?x=w0rd", "1433?x=w0rd"}),
        ("mssql+pyodbc://sa:p@ss12?x=w0rd@h/d", {"p@ss12?x=w0rd", "ss12?x=w0rd"}),
        ("postgresql+psycopg://u:p%40ss@sales/d?application_name=etl@night", {"p@ss"}),
        ("mssql+pyodbc://sa:p@ss12/?x=w0rd@h/d", {"p", "p@ss12/?x=w0rd", "ss12/?x=w0rd", "ss12"}),
    ],
)
def test_the_passwords_of_a_url_are_secrets(url: str, passwords: set[str]) -> None:
    assert {secret.decode() for secret in secrets_of(url)} == {url, *passwords}


@pytest.mark.parametrize(("state", "is_lost"), [("HY010", False), ("08S01", True)])
def test_a_cancel_between_two_calls_of_odbc_is_no_lost_connection(state: str, is_lost: bool) -> None:
    at = SqlServer(None, MSDialect_pyodbc(dbapi=pyodbc), print)
    assert at.is_lost(pyodbc.Error(state, f"[{state}] [unixODBC][Driver Manager]")) is is_lost


@pytest.mark.parametrize(("text", "marked"), [("SELECT 1", True), ("IF @@RowCount = 0 PRINT 'none'", False)])
def test_a_batch_that_asks_for_the_statement_before_it_follows_that(text: str, marked: bool) -> None:
    [batch] = split(text, "mssql")
    made = SqlServer(None, MSDialect_pyodbc(), print)
    assert ("jobfac-begun" in made.wrap(batch.text, batch)) == marked


@pytest.mark.parametrize(("number", "is_refused"), [(102, True), (111, True), (2627, False), (1102, False)])
def test_a_batch_that_the_server_has_not_read_is_known_in_every_language(number: int, is_refused: bool) -> None:
    [batch] = split("dbo.nightly", "mssql")
    made, _ = server()
    made.wrap(batch.text, batch)
    text = f"[42000] {PREFIX}Falsche Syntax in der Nähe von 'nightly'. ({number}) (SQLExecDirectW)"
    assert made.misread(Exception("42000", text)) is is_refused
