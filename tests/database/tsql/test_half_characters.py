"""Half of a character: what a text ends with that was cut in the middle of an emoji. No driver can read it."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.views.serialization import read_json
from tests.support.engines import ENGINES
from tests.support.tsql import define, execute, row

HALF = "CONCAT(N'x', NCHAR(55296), N'y')"
OTHER_HALF = "CONCAT(N'x', NCHAR(56320))"


def refused(db: Database, call: str, half: str = HALF) -> str:
    text = f"DECLARE @half NVARCHAR(100) = {half}; EXEC jobfac.{call};"
    with pytest.raises(sa.exc.DBAPIError) as caught:
        db.transact(lambda conn: conn.exec_driver_sql(text), retry_for=0)
    return str(caught.value.orig)


@pytest.mark.mssql
@pytest.mark.parametrize("url", ENGINES[1:], indirect=True)
def test_no_procedure_stores_half_of_a_character(db: Database) -> None:
    """With such a run in the queue, every worker ended that claimed from it."""
    define(db, a={"schedules": [{"every": "1h"}]})
    run_id = execute(db, "start_job", job="a", payload="whole: \U0001f600")
    calls = [
        *(f"start_job @job = N'a', @{name} = @half" for name in ("payload", "key", "by", "arguments", "parameters")),
        *(f"{name} @run = {run_id}, @by = @half" for name in ("stop_run", "retry_run", "add_note")),
        f"add_note @run = {run_id}, @text = @half", f"approve @run = {run_id}, @step = N's', @reason = @half",
        "hold @reason = @half", "hold @reason = N'r', @by = @half", "release @hold = 1, @by = @half",
        *(f"{name} @job = N'a', @by = @half" for name in ("enable_job", "disable_job")),
        *(f"{name} @job = N'a', @by = @half" for name in ("pause_schedule", "resume_schedule")),
        "drain_worker @worker = 1, @by = @half",
    ]  # fmt: skip
    for call in calls:
        assert "A text has half of a character (a lone surrogate)" in refused(db, call)
    assert "A text has half of a character" in refused(db, calls[0], OTHER_HALF)
    assert row(db, run_id)["payload"] == "whole: \U0001f600"


@pytest.mark.mssql
@pytest.mark.parametrize("url", ["pyodbc"], indirect=True)
def test_a_stored_half_of_a_character_is_read(db: Database) -> None:
    define(db, a={})
    run_id = execute(db, "start_job", job="a", payload="x")
    db.transact(lambda conn: conn.exec_driver_sql(f"UPDATE jobfac.run SET payload = {HALF} WHERE id = {run_id}"))
    assert row(db, run_id)["payload"] == "x\ufffdy"


def test_an_escape_of_half_a_character_is_read() -> None:
    assert read_json(r'["\ud800", "\udc00x", "\ud83d\ude00", "\\ud800", "\ud800\ud83d\ude00"]') == [
        "\ufffd", "\ufffdx", "\U0001f600", r"\ud800", "\ufffd\U0001f600",
    ]  # fmt: skip
