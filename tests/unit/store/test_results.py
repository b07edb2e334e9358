"""A result is read to its end: one that is closed earlier is cancelled, and SQL Server rolls its transaction back."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobfac
from jobfac.database.dialects import mssql

PACKAGE = Path(jobfac.__file__).parent
WRITERS = [path for room in ("store", "operations", "worker", "scheduler") for path in (PACKAGE / room).rglob("*.py")]


def is_open(iterated: ast.AST) -> bool:
    """Whether the value is a result, and not the list of its rows."""
    attributes = [node.attr for node in ast.walk(iterated) if isinstance(node, ast.Attribute)]
    return "execute" in attributes and not {"all", "fetchall"} & set(attributes)


def left_early(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of loops over an open result that may end before the result does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and is_open(node.iter):
            inside = [child for statement in node.body for child in ast.walk(statement)]
            if any(isinstance(child, ast.Return | ast.Break | ast.Raise) for child in inside):
                yield node.lineno


def test_a_loop_that_may_end_early_is_found() -> None:
    loop = "with conn.execute(query) as found:\n for row in {}:\n  if row:\n   raise ValueError"
    assert [*left_early(ast.parse(loop.format("conn.execute(query).scalars()")))] == [2]
    assert [*left_early(ast.parse(loop.format("conn.execute(query).all()")))] == []


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_loop_ends_before_its_result(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [*left_early(tree)] == []
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.With) and any(map(is_open, node.items))]


CHANGES = {"claim", "returning", "insert", "update", "delete"}


def half_read(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where only the first row of a change is read. SQL Server returns rows of a change that fails."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("first", "scalar"):
            inside = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
            if inside & CHANGES:
                yield node.lineno


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_change_returns_is_read_to_its_end(path: Path) -> None:
    assert [*half_read(ast.parse(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize("wait", [True, False])
def test_the_answer_about_named_locks_comes_behind_all_errors(wait: bool) -> None:
    """A driver gives the first result and leaves later errors unread, so a refused lock would count as taken."""
    statement = mssql._lock(3, wait).text
    assert statement.count(" THROW ") == 3
    assert statement.endswith("1; SELECT @taken AS taken;")
