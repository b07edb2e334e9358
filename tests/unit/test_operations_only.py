"""The command line and HTTP open no transaction that writes: every change of state is an operation."""

import ast
import inspect
from pathlib import Path

import pytest

import jobfac
from jobfac.operations import (
    jobs,
    keys,
    notifications,
    retention,
    schedules,
    starting,
    stopping,
    workers,
)
from jobfac.operations.bulk import backfill, many

PACKAGE = Path(jobfac.__file__).parent
DOORS = [path for folder in ("api/resources", "cli/client", "cli/commands") for path in (PACKAGE / folder).glob("*.py")]


@pytest.mark.parametrize("path", DOORS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_interface_opens_no_transaction_that_writes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    assert not called & {"transact", "single", "purge_all"}


def test_every_operation_says_whether_it_may_be_repeated() -> None:
    modules = (backfill, jobs, keys, many, notifications, retention, schedules, starting, stopping, workers)
    found = [
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and name != "etag"
    ]
    assert len(found) > 15
    for function in found:
        assert list(inspect.signature(function).parameters)[:2] == ["db", "by"], function.__name__
        assert any(word in str(function.__doc__) for word in ("repeat", "second call")), function.__name__
