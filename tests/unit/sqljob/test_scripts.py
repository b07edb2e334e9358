"""Scripts are split at GO or at semicolons, and parameters found, outside of texts, names and comments."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfac.sqljob.request import read_parameters
from jobfac.sqljob.scripts import ScriptError, bind, split


def texts(script: str, dialect: str = "mssql") -> list[tuple[str, int, int]]:
    return [(batch.text, batch.line, batch.repeats) for batch in split(script, dialect)]


def test_go_with_and_without_a_count() -> None:
    script = (
        "SELECT 1\nGO\n\n  SELECT 2;\n go 3 -- three times\n-- nothing but a remark\nGO\n/* nor here */;\nGO;\nSELECT 3"
    )
    assert texts(script) == [("SELECT 1", 1, 1), ("SELECT 2;", 4, 3), ("SELECT 3", 10, 1)]


@pytest.mark.parametrize(
    "inside",
    ["'a\nGO\nb'", "'it''s\nGO\n'", '"a\nGO\n"', "[a]]\nGO\n]", "/* /* */ \nGO\n */ x", "N'\nGO\n' + '--\nGO\n'"],
)
def test_go_in_texts_names_and_comments_does_not_separate(inside: str) -> None:
    assert texts(f"SELECT {inside}\nGO\nSELECT 2") == [
        (f"SELECT {inside}", 1, 1),
        ("SELECT 2", inside.count("\n") + 3, 1),
    ]


@pytest.mark.parametrize("line", ["GOTO x", "GO home", "SELECT GO", "x GO", "GO 1.5", "/**/ GO"])
def test_what_only_looks_like_go(line: str) -> None:
    assert texts(f"SELECT 1\n{line}\nSELECT 2") == [(f"SELECT 1\n{line}\nSELECT 2", 1, 1)]


@pytest.mark.parametrize("dialect", ["mssql", "postgresql", "sqlite"])
def test_line_ends_of_windows_separate_and_stay_in_texts(dialect: str) -> None:
    end = "GO" if dialect == "mssql" else ";"
    script = f"\r\nINSERT INTO a VALUES ('x\r\ny') -- a remark\r\n{end} -- next\r\n\r\nSELECT 2\r\n{end}\r\n"
    first, second = split(script, dialect)
    assert (first.text, first.line) == ("INSERT INTO a VALUES ('x\r\ny') -- a remark", 2)
    assert (second.text.rpartition("\n")[2], second.line) == ("SELECT 2", 6 if dialect == "mssql" else 4)


def test_a_count_that_is_too_large_is_refused() -> None:
    with pytest.raises(ScriptError, match="line 2: GO 100001 repeats too often"):
        split("SELECT 1\nGO 100001", "mssql")


def test_a_text_without_an_end_is_left_to_the_server() -> None:
    assert texts("SELECT 'a\nGO\nb") == [("SELECT 'a\nGO\nb", 1, 1)]
    assert texts("SELECT /* a\nGO\nb") == [("SELECT /* a\nGO\nb", 1, 1)]


def test_semicolons_in_postgresql() -> None:
    script = (
        "SELECT ';' , E'\\';', \";\" ; -- ;\nDO $body$ BEGIN; $x$ ; END $body$;\n\n"
        "SELECT $$;$$, a$1 /* ; /* ; */ */;;\n"
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 ELSE 0 END; END;\nSELECT a[1]"
    )
    assert [(text, line) for text, line, _ in texts(script, "postgresql")] == [
        ("SELECT ';' , E'\\';', \";\"", 1),
        ("-- ;\nDO $body$ BEGIN; $x$ ; END $body$", 1),
        ("SELECT $$;$$, a$1 /* ; /* ; */ */", 4),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 ELSE 0 END; END", 5),
        ("SELECT a[1]", 6),
    ]


def test_a_column_named_begin_in_the_body_of_a_function() -> None:
    function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT begin FROM t; END"
    assert [text for text, _, _ in texts(f"{function}; SELECT 2", "postgresql")] == [function, "SELECT 2"]


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_a_comment_that_follows_a_word(dialect: str) -> None:
    assert [text for text, _, _ in texts("SELECT a# it's;\n; SELECT 2", dialect)] == ["SELECT a# it's;", "SELECT 2"]


@pytest.mark.parametrize(
    ("statement", "ends"),
    [
        ("COMMIT", True),
        ("END TRANSACTION", True),
        ("ROLLBACK WORK", True),
        ("COMMIT AND NO CHAIN", True),
        ("COMMIT AND CHAIN", False),  # it begins the next one
        ("ROLLBACK AND CHAIN", False),
        ("ROLLBACK TO SAVEPOINT s", False),
        ("SELECT 1", False),
    ],
)
def test_what_ends_a_transaction(statement: str, ends: bool) -> None:
    (batch,) = split(statement, "postgresql")
    assert batch.ends_transaction == ends


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_what_mysql_executes_in_comments_is_code(dialect: str) -> None:
    """A dump says in such comments in which time zone its times are, and defines its views."""
    script = (
        "-- a dump; of\n# yesterday; evening\n/*!40103 SET TIME_ZONE='+00:00' */;\n/*M!100616 SET x=1 */;\n"
        "INSERT INTO t VALUES ('it\\'s; x', 5--1);\n/* a; remark */;\n"
        "/*!50003 CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = 1; END */;\nSELECT 1 -- ;\n"
    )
    assert [text for text, _, _ in texts(script, dialect)] == [
        "-- a dump; of\n# yesterday; evening\n/*!40103 SET TIME_ZONE='+00:00' */",
        "/*M!100616 SET x=1 */",
        "INSERT INTO t VALUES ('it\\'s; x', 5--1)",
        "/*!50003 CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = 1; END */",
        "SELECT 1 -- ;",
    ]


def test_a_trigger_of_sqlite_is_one_statement() -> None:
    script = (
        "CREATE TABLE t (a); CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = ';'; SELECT 1; END;"
        "INSERT INTO t VALUES (1);\nSELECT [a;b], `c;d` FROM (SELECT 1 AS [a;b], 2 AS `c;d`)"
    )
    found = split(script, "sqlite")
    assert len(found) == 4
    with sqlite3.connect(":memory:") as connection:
        for batch in found:
            connection.execute(batch.text)


def test_parameters_are_bound_in_the_form_of_the_driver() -> None:
    [batch] = split("  SELECT '100%', ${parameters.day} -- ${parameters.not}\n WHERE a % 2 = ${parameters.n};", "mssql")
    values = {"day": "2027-01-01", "n": 3}
    assert bind(batch, values, "qmark").text == "SELECT '100%', ? -- ${parameters.not}\n WHERE a % 2 = ?;"
    assert bind(batch, values, "pyformat").text.startswith("SELECT '100%%', %s --")
    assert bind(batch, values, "numeric_dollar").text.endswith("a % 2 = $2;")
    named = bind(batch, values, "named")
    assert (named.text[15:19], named.values) == (":p1 ", {"p1": "2027-01-01", "p2": 3})
    assert bind(batch, values, "qmark").values == ["2027-01-01", 3]
    with pytest.raises(ScriptError, match="the parameter 'n' is not one of the run's, which are: day; define it"):
        bind(batch, {"day": 1}, "qmark")


def test_the_run_s_parameters_are_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_parameters() == {}
    file = tmp_path / "parameters"
    file.write_text('{"day": "2027-01-31", "limit": 5, "flag": null}')
    monkeypatch.setenv("JOBFAC_PARAMETERS_FILE", str(file))
    assert read_parameters() == {"day": "2027-01-31", "limit": 5, "flag": None}


def test_only_parameters_can_be_bound() -> None:
    with pytest.raises(ScriptError, match=r"line 2: \$\{due.date\} cannot be bound in a script; give the job a para"):
        split("SELECT 1,\n ${due.date}", "mssql")
    [batch] = split("SELECT ${ parameters.day }", "mssql")
    assert bind(batch, {"day": 1}, "qmark").text == "SELECT ?"


def test_a_parameter_in_quotes_is_refused() -> None:
    with pytest.raises(ScriptError, match=r"line 2: \$\{parameters.day\} stands inside of quotes"):
        split("SELECT 1,\n 'day ${parameters.day}'", "mssql")


@given(
    st.text(st.sampled_from("GgOo 3;'\"[]$/*-\n\ra{}`\\e"), max_size=60),
    st.sampled_from(["mssql", "postgresql", "sqlite", "mysql", "oracle"]),
)
def test_nothing_but_separators_and_space_is_lost(script: str, dialect: str) -> None:
    batches = split(script, dialect)
    at = 0
    for batch in batches:
        at = script.index(batch.text, at) + len(batch.text)
        assert script.split("\n")[batch.line - 1 :][0]
