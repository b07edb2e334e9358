"""The files under sql/mssql: their grammar, the generated schema, and the permissions of the roles."""

import io
import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from jobfac.database import sql_files
from jobfac.database.engine import Database, _config, versions, write_script
from jobfac.database.tables import metadata
from tests.support.engines import ENGINES
from tests.tds_server import grammar, harness

FILES = sorted(sql_files.folder("mssql").glob("*.sql"))
SCHEMA = sql_files.folder("mssql") / "schema.sql"


@pytest.mark.parametrize("version", grammar.VERSIONS)
def test_every_file_is_valid(version: str) -> None:
    assert len(FILES) > 5
    assert grammar.check_files(FILES, [version]) == []


def test_every_example_for_dbas_is_valid() -> None:
    readme = (sql_files.folder("mssql").parent / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```sql\n(.*?)```", readme, flags=re.DOTALL)
    assert len(examples) > 15
    assert grammar.check({example: example for example in examples}) == []


def test_a_broken_file_is_found() -> None:
    text = sql_files.texts("mssql")[0].replace("CREATE OR ALTER VIEW", "CREATE OR REPLACE VIEW", 1)
    assert grammar.check({"broken": text}, ["2016"])


def test_the_generated_schema_is_current() -> None:
    made = io.StringIO()
    write_script("mssql", made)
    assert SCHEMA.read_text(encoding="utf-8") == made.getvalue(), (
        f"run: jobfac db script --dialect mssql > {Path('sql', 'mssql', SCHEMA.name)}"
    )


def test_the_schema_belongs_to_dbo_and_each_edition_gets_the_options_that_it_has() -> None:
    """What no test server shows: on Azure the version number says nothing, so the edition decides."""
    text = SCHEMA.read_text(encoding="utf-8")
    assert "EXEC(N'CREATE SCHEMA jobfac AUTHORIZATION dbo')" in text
    for table in ("run", "run_event"):
        option = f"EXEC(N'ALTER INDEX pk_{table} ON jobfac.{table} SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);');"
        conditions = [line.partition("EXEC")[0].strip() for line in text.splitlines() if line.endswith(option)]
        assert conditions == [
            "IF CAST(PARSENAME(CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128)), 4) AS INT) >= 15",
            "IF CAST(SERVERPROPERTY('EngineEdition') AS INT) IN (5, 8)",
        ]
    for index in ("ix_run_claim ON jobfac.run", "pk_run ON jobfac.run"):
        assert f"ALTER INDEX {index} SET (ALLOW_PAGE_LOCKS = OFF)" in text


def procedure(name: str) -> str:
    """Return the text of a procedure."""
    found = re.search(
        rf"CREATE OR ALTER PROCEDURE jobfac\.{name}\n.*?^GO$", SCHEMA.read_text(encoding="utf-8"), re.S | re.M
    )
    assert found is not None
    return found[0]


def test_a_text_is_cut_by_the_length_that_a_column_counts() -> None:
    """In a database with a collation for supplementary characters, LEFT counts a character that takes two as one."""
    cuts = re.findall(r"\b(?:LEFT|RIGHT)\(([^,]*),", procedure("cut_text"))
    assert cuts == ["@text COLLATE Latin1_General_BIN2"] * 3


def test_the_stop_of_a_large_sequence_searches_its_runs_once() -> None:
    """A search for each next run would read all of them: 10,000 runs would keep the transaction open for minutes."""
    _, _, loop = procedure("request_stop").partition("WHILE ")
    assert "EXEC jobfac.request_stop" in loop
    assert "jobfac.run " not in loop


def test_no_role_is_denied_anything() -> None:
    """A DENY would also apply to a db_owner who is a member of the role."""
    roles = (sql_files.folder("mssql") / "30_roles.sql").read_text(encoding="utf-8")
    assert [line for line in roles.splitlines() if line.startswith("DENY")] == []
    assert "GRANT SELECT ON jobfac.alembic_version TO jobfac_worker;" in roles


def test_an_upgrade_from_each_version_is_valid() -> None:
    batches = set()  # most of them are the same in every script
    for since in sorted(versions())[:-1]:
        made = io.StringIO()
        write_script("mssql", made, since)
        script = made.getvalue()
        assert f"WHERE version_num = '{since}')" in script
        assert "CREATE TABLE jobfac.run (" not in script
        batches |= set(harness.batches(script))
    assert grammar.check({batch: batch for batch in batches}) == []


def test_an_upgrade_by_script_makes_what_an_upgrade_makes(tmp_path: Path) -> None:
    made = io.StringIO()
    write_script("sqlite", made, "0001")
    schemas = []
    for name in ("scripted", "upgraded"):
        db = Database(f"sqlite:///{tmp_path}/{name}.db")
        db.dialect.create()
        with db._migrating.connect() as conn:
            config = _config("sqlite")
            config.attributes["connection"] = conn
            command.upgrade(config, "0001")
            conn.commit()
        if name == "upgraded":
            db.upgrade()
        db.close()
        with sqlite3.connect(tmp_path / f"{name}.db") as raw:
            if name == "scripted":
                raw.executescript(made.getvalue())
            rows = raw.execute("SELECT name, type, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
            # Each process makes these two where they are missing.
            schemas.append({name: " ".join(str(sql).split()) for name, _, sql in rows if "lease_" not in name[:6]})
        raw.close()
    assert schemas[0] == schemas[1]


def test_the_generated_removal_is_current_and_names_everything() -> None:
    made = sql_files.uninstall_script(metadata.tables)
    place = sql_files.folder("mssql") / "uninstall.sql"
    assert place.read_text(encoding="utf-8") == made, "run: jobfac db script --uninstall > sql/mssql/uninstall.sql"
    created = re.findall(r"CREATE OR ALTER (?:PROCEDURE|VIEW) (jobfac\.\w+)", "".join(sql_files.texts("mssql")))
    assert set(created) <= set(re.findall(r"DROP \w+ IF EXISTS (jobfac\.\w+);", made))


@pytest.mark.mssql
@pytest.mark.parametrize("url", ENGINES[1:2], indirect=True)
def test_the_removal_leaves_nothing_and_may_be_run_again(db: Database) -> None:
    made = sql_files.uninstall_script(metadata.tables)
    drops = re.findall(r"^DROP (?:PROCEDURE|VIEW|TABLE) IF EXISTS .*;$", made, re.MULTILINE)
    assert len(drops) > 40
    for _ in range(2):
        with db.begin() as conn:
            for drop in drops:
                conn.exec_driver_sql(drop)
    with db.read() as conn:
        assert sa.inspect(conn).get_table_names(schema="jobfac") == []


def test_roles_have_permission_to_every_view_and_operator_procedure() -> None:
    every = "".join(sql_files.texts("mssql"))
    text = dict(zip((path.name for path in FILES), sql_files.texts("mssql"), strict=False))
    views = re.findall(r"CREATE OR ALTER VIEW jobfac\.(\w+)", every)
    assert views[-1] == "v_version"
    procedures = re.findall(r"CREATE OR ALTER PROCEDURE jobfac\.(\w+)", text["20_procedures.sql"])
    rights = text["30_roles.sql"]
    assert (
        re.findall(r"GRANT SELECT ON jobfac\.(\w+) TO jobfac_operator, jobfac_reader, jobfac_worker;", every) == views
    )
    tables = sorted(metadata.tables)
    assert re.findall(r"GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac\.(\w+) TO jobfac_worker;", rights) == tables
    assert "DENY" not in re.sub(r"(?m)^--.*$", "", rights)
    assert re.findall(r"GRANT EXECUTE ON jobfac\.(\w+) TO jobfac_operator;", rights) == procedures


def test_every_transaction_of_a_procedure_begins_under_xact_abort() -> None:
    for procedure in re.split(r"^GO$", "".join(sql_files.texts("mssql")), flags=re.MULTILINE):
        before, begins, _ = procedure.partition("BEGIN TRANSACTION;")
        assert not begins or "SET XACT_ABORT ON;" in before, before


@pytest.mark.parametrize("since", [None, "0010"])
def test_a_script_changes_no_procedures_of_tables_of_another_version(since: str | None) -> None:
    made = io.StringIO()
    write_script("mssql", made, since)
    before, _, files = made.getvalue().partition("CREATE OR ALTER VIEW")
    # A client such as SSMS goes on after an error: the check at the beginning keeps only the tables.
    check = before.rpartition("SET NOEXEC OFF;")[2]
    assert f"version_num = '{max(versions())}'" in check
    assert "SET NOEXEC ON;" in check
    assert files.rstrip().endswith("SET NOEXEC OFF;\nGO")
