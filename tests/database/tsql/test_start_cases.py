"""One table of accepted and refused starts, for the program and for T-SQL: both must give the same answer."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.errors import NotFound, Refused
from jobfac.operations import starting
from jobfac.operations.caller import Caller
from jobfac.store.runs import StartRequest
from tests.support.engines import ENGINES
from tests.support.tsql import define, execute, refusal

JOBS: dict[str, Any] = {
    "load": {},
    "other": {},
    "off": {"enabled": False},
    "timed": {"on_demand": False},
    "fixed": {"replace_arguments": False},
    "inner": {"steps": [{"name": "one", "jobs": ["load"]}]},
    "outer": {"steps": [{"name": "one", "jobs": ["inner"]}, {"name": "two", "jobs": ["fixed"]}]},
    "wraps": {"steps": [{"name": "one", "jobs": ["timed"]}]},
    "closed": {"steps": [{"name": "one", "jobs": ["load"]}], "replace_arguments": False},
    "sealed": {"steps": [{"name": "one", "jobs": ["load"]}], "on_demand": False},
}


class Case(NamedTuple):
    """A start, and whether it is accepted. For a sequence ``arguments`` and ``payload`` are by job."""

    job: str
    accepted: bool
    arguments: Any = None
    payload: Any = None
    priority: int | None = None


CASES = [
    Case("load", True),
    Case("load", True, ["--full", "ü"], "text"),
    Case("load", True, []),
    Case("load", False, {"load": ["--full"]}),
    *(Case("load", True, priority=priority) for priority in (-1000, 0, 1000)),
    *(Case("load", False, priority=priority) for priority in (-1001, 1001, 2**31 - 1)),
    Case("nothing", False),
    Case("off", False),
    Case("timed", False),
    Case("fixed", True, None, "text"),
    Case("fixed", False, ["--full"]),
    Case("inner", True),
    Case("inner", True, {"load": ["--full"]}, {"load": "text"}),
    Case("inner", True, {}, {}),
    Case("inner", False, ["--full"]),
    Case("inner", False, None, "text"),
    Case("inner", False, {"other": ["--full"]}),
    Case("inner", False, None, {"other": "text"}),
    Case("inner", False, {"nothing": ["--full"]}),
    Case("inner", False, {"inner": ["--full"]}),
    Case("inner", False, None, {"inner": "text"}),
    Case("inner", False, {"load": "--full"}),
    Case("inner", False, {"load": ["--full", 1]}),
    Case("inner", False, {"load": None}),
    Case("inner", False, None, {"load": 1}),
    Case("inner", False, None, {"load": None}),
    Case("outer", True, {"load": ["--full"]}, {"load": "text"}),
    Case("outer", False, {"inner": ["--full"]}),
    Case("outer", False, None, {"load": "text", "inner": "text"}),
    Case("outer", True, None, {"fixed": "text"}),
    Case("outer", False, {"fixed": ["--full"]}),
    Case("wraps", True),
    Case("wraps", False, {"timed": ["--full"]}),
    Case("wraps", False, None, {"timed": "text"}),
    Case("outer", False, {"load": ["--full"], "other": ["--full"]}),
    Case("outer", False, {"outer": ["--full"]}),
    Case("closed", True),
    Case("closed", True, None, {"load": "text"}),
    Case("closed", False, {"load": ["--full"]}),
    Case("sealed", False),
]


def runs_of(db: Database) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one())


def test_the_program_gives_the_expected_answer(db: Database) -> None:
    define(db, **JOBS)
    for case in CASES:
        by_job = case.job in ("inner", "outer", "wraps", "closed", "sealed") or isinstance(case.arguments, dict)
        overrides = {"arguments": case.arguments, "payloads": case.payload}
        passed = {name: value for name, value in overrides.items() if isinstance(value, dict)}
        request = StartRequest(
            case.job,
            "me",
            arguments=None if "arguments" in passed else case.arguments,
            payload=None if "payloads" in passed else case.payload,
            priority=case.priority,
            overrides=passed if by_job and passed else None,
        )
        before = runs_of(db)
        if case.accepted:
            starting.start(db, Caller("me"), request)
        else:
            with pytest.raises((Refused, NotFound, DefinitionError)):
                starting.start(db, Caller("me"), request)
        assert runs_of(db) == before + case.accepted, case


@pytest.mark.mssql
@pytest.mark.parametrize("url", ENGINES[1:], indirect=True)
def test_t_sql_gives_the_expected_answer(db: Database) -> None:
    define(db, **JOBS)
    for case in CASES:
        passed: dict[str, Any] = {}
        if case.arguments is not None:
            passed["arguments"] = json.dumps(case.arguments, ensure_ascii=False)
        if case.payload is not None:
            passed["payload"] = case.payload if isinstance(case.payload, str) else json.dumps(case.payload)
        if case.priority is not None:
            passed["priority"] = case.priority
        before = runs_of(db)
        if case.accepted:
            execute(db, "start_job", job=case.job, **passed)
        else:
            assert refusal(db, "start_job", job=case.job, **passed), case
        assert runs_of(db) == before + case.accepted, case


class Repeat(NamedTuple):
    """A second start with the key of a first one, which had the values of ``first``."""

    job: str
    accepted: bool
    first: Mapping[str, Any]
    second: Mapping[str, Any]


REPEATS = [
    Repeat("load", True, {}, {}),
    Repeat("load", True, {"arguments": ["a", "ü"]}, {"arguments": ["a", "ü"]}),
    Repeat("load", False, {"arguments": ["a"]}, {"arguments": ["A"]}),
    Repeat("load", False, {"arguments": ["a"]}, {"arguments": ["a "]}),
    Repeat("load", False, {"arguments": ["a", "b"]}, {"arguments": ["b", "a"]}),
    Repeat("load", False, {"arguments": ["a"]}, {"arguments": ["a", "b"]}),
    Repeat("load", False, {"arguments": ["a"]}, {}),
    Repeat("load", False, {}, {"arguments": []}),
    Repeat("load", True, {"payload": "x"}, {"payload": "x"}),
    Repeat("load", False, {"payload": "x"}, {"payload": "X"}),
    Repeat("load", False, {"payload": "x"}, {"payload": "x "}),
    Repeat("load", False, {"payload": ""}, {}),
    Repeat("load", True, {"priority": 5}, {"priority": 5}),
    Repeat("load", True, {"priority": 5}, {}),
    Repeat("load", False, {}, {"priority": 5}),
    Repeat("load", True, {"delay": 600}, {"delay": 600}),
    Repeat("load", False, {"delay": 600}, {}),
    Repeat("load", False, {}, {"delay": 600}),
    Repeat("load", False, {"delay": 600}, {"delay": 700}),
    Repeat("inner", True, {}, {}),
    Repeat("inner", True, {"arguments": {"load": ["a"]}}, {"arguments": {"load": ["a"]}}),
    Repeat("inner", False, {"arguments": {"load": ["a"]}}, {"arguments": {"load": ["b"]}}),
    Repeat("inner", False, {"arguments": {"load": ["a"]}}, {"payload": {"load": "a"}}),
    Repeat("inner", True, {"payload": {"load": "x"}}, {"payload": {"load": "x"}}),
    Repeat("inner", False, {"payload": {"load": "x"}}, {}),
]


def test_the_program_refuses_a_different_start_with_the_same_key(db: Database) -> None:
    define(db, **JOBS)
    for number, case in enumerate(REPEATS):
        requests = []
        for values in (case.first, case.second):
            by_job = {name: values[name] for name in ("arguments", "payload") if isinstance(values.get(name), dict)}
            plain = {name: value for name, value in values.items() if name not in by_job}
            overrides = {"payloads" if name == "payload" else name: value for name, value in by_job.items()}
            key = f"key {number}"
            requests.append(StartRequest(case.job, "me", key=key, overrides=overrides or None, **plain))
        (first,) = starting.start(db, Caller("me"), requests[0])
        if case.accepted:
            assert [run.id for run in starting.start(db, Caller("me"), requests[1])] == [first.id], case
        else:
            with pytest.raises(DefinitionError, match="was used for run"):
                starting.start(db, Caller("me"), requests[1])


@pytest.mark.mssql
@pytest.mark.parametrize("url", ENGINES[1:], indirect=True)
def test_t_sql_refuses_a_different_start_with_the_same_key(db: Database) -> None:
    define(db, **JOBS)
    for number, case in enumerate(REPEATS):
        calls = []
        for values in (case.first, case.second):
            given = {"delay_seconds" if name == "delay" else name: value for name, value in values.items()}
            for name in ("arguments", "payload"):
                if isinstance(given.get(name), list | dict):
                    given[name] = json.dumps(given[name], ensure_ascii=False)
            calls.append({**given, "job": case.job, "key": f"key {number}"})
        execute(db, "start_job", **calls[0])
        before = runs_of(db)
        if case.accepted:
            execute(db, "start_job", **calls[1])
        else:
            assert "was used for run" in str(refusal(db, "start_job", **calls[1])), case
        assert runs_of(db) == before, case
