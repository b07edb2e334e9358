"""The files under sql/mssql: their grammar, the generated schema, and the permissions of the roles."""

import io
import re
from pathlib import Path

import pytest

from jobfac.database import sql_files
from jobfac.database.engine import Database
from jobfac.database.tables import metadata
from tests.tds_server import grammar

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
    Database("mssql+pyodbc://").script(made)
    assert SCHEMA.read_text(encoding="utf-8") == made.getvalue(), (
        f"run: jobfac db script --dialect mssql > {Path('sql', 'mssql', SCHEMA.name)}"
    )


def test_roles_have_permission_to_every_view_and_operator_procedure() -> None:
    text = dict(zip((path.name for path in FILES), sql_files.texts("mssql"), strict=False))
    views = re.findall(r"CREATE OR ALTER VIEW jobfac\.(\w+)", text["10_views.sql"] + text["11_details.sql"])
    procedures = re.findall(r"CREATE OR ALTER PROCEDURE jobfac\.(\w+)", text["20_procedures.sql"])
    rights = text["30_roles.sql"]
    assert (
        re.findall(r"GRANT SELECT ON jobfac\.(\w+) TO jobfac_operator, jobfac_reader, jobfac_worker;", rights) == views
    )
    tables = sorted(metadata.tables)
    assert re.findall(r"GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac\.(\w+) TO jobfac_worker;", rights) == tables
    assert "DENY" not in re.sub(r"(?m)^--.*$", "", rights)
    assert re.findall(r"GRANT EXECUTE ON jobfac\.(\w+) TO jobfac_operator;", rights) == procedures
