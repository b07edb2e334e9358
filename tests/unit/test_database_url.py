"""The URL of a database that cannot be read is explained without any part of it, which may be one of its password."""

import traceback
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.sqljob.request import read_request
from jobfac.sqljob.scripts import ScriptError


def test_an_unknown_data_source_of_odbc_is_named_without_a_traceback() -> None:
    db = Database("mssql+pyodbc://sa:geheim@no_such_source")
    with pytest.raises(Unreachable, match=r"sa:\*\*\*@no_such_source.*Data source name not found.*JOBFAC_DATABASE_URL"):
        db.query(lambda conn: None)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mssql+pyodbc://sa:p@ss:w0rd@host/jobs", "its port is no number; in a password, write @ as %40, : as %3A"),
        ("mssql+pyodbc://sa:p@ss?w0rd@host/jobs?x=1", r"it has a \? before its host; in a password, write @"),
        ("sa:p@ss:w0rd@host/jobs", "it is no URL of SQLAlchemy, such as mssql"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(
    url: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script").write_text('{"text": "SELECT 1"}')
    monkeypatch.setenv("JOBFAC_SQL_FILE", str(tmp_path / "script"))
    monkeypatch.setenv("JOBFAC_SQL_URL", url)
    with pytest.raises(Unreachable, match=f"JOBFAC_DATABASE_URL cannot be used: {why}") as own:
        Database(url)
    with pytest.raises(ScriptError, match=f"sql.connection cannot be used: {why}") as script:
        read_request()
    for error in (own.value, script.value):
        assert "w0rd" not in "".join(traceback.format_exception(error))
