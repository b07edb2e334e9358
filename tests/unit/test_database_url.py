"""The URL of a database that cannot be read is explained without any part of it, which may be one of its password."""

import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.settings.database_url import read_url
from jobfac.sqljob.request import Request, read_request
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
        (
            "mssql+pyodbc://sa:p@ssw0rd@host:1/jobs",
            "it has an @ in its host or database; in a password, write @",
        ),
        ("mssql+pyodbc://sa:x/y?z@w0rd@host/jobs?driver=x", "it has an @ in its host"),
        ("mssql+pyodbc://sa:p@w0rd/y@host/jobs", "it has an @ in its host or database"),
        ("mssql+pyodbc://sa:p@w0rd?y@host/jobs", "it has an @ in its host or database"),
        ("mssql+pyodbc://corp/sa:w0rd@host/jobs", "it has an @ in its host or database"),
        ("mssql+pyodbc:///sa:w0rd@host/jobs", "it has an @ in its host or database"),
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
    assert "w0rd" not in Settings(database_url=url).spool_folder().name
    for error in (own.value, script.value):
        assert "w0rd" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/a:b@c/jobs.db",
        "sqlite:///a:b@c.db",
        "mssql+pyodbc://me@shop:s%401@host/jobs?application_name=a@b",
        "mssql+pyodbc://host/jobs?UID=me@shop",
        "mssql+pyodbc:///?odbc_connect=UID=me@shop;PWD=s:1@2",
    ],
)
def test_an_at_sign_that_cannot_be_one_of_a_password_is_accepted(url: str) -> None:
    assert read_url(url).get_backend_name() == url[: url.index(":")].partition("+")[0]


@pytest.mark.parametrize("url", ["mssql+pyodbc://sa:p@w0rd?y=z@host/jobs", "mssql+pyodbc://sa:p@w0rd?y&z@host/jobs"])
def test_a_password_that_looks_like_host_and_options_is_refused(url: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match="it has an @ in its host or database; in a password, write @ as"):
        read_url(url)


def test_a_sql_job_hides_every_password_of_its_url() -> None:
    url = "mssql+pyodbc://sa:ab@host/jobs?pwd=abcd&odbc_connect=PWD%3D%7Befgh%7D"
    assert Request(read_url(url), "SELECT 1").hide("ab, abcd and efgh on host") == "***, *** and *** on host"


@pytest.mark.parametrize("option", ["driver=ODBC+Driver+18+for+SQL+Server", "TrustedServerCertificate=yes"])
def test_an_option_that_mssql_python_does_not_take_is_explained(option: str) -> None:
    db = Database(f"mssql+mssqlpython://me:w0rd@127.0.0.1:1/jobs?{option}")
    with pytest.raises(Unreachable, match="JOBFAC_DATABASE_URL cannot be used: ") as caught:
        db.check_schema()
    assert "w0rd" not in str(caught.value)
    db.close()
