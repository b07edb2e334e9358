"""``jobfac.start_job`` creates the same run as the program, in the caller's transaction, through both drivers."""

import json
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run, run_event
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.support.tsql import THROUGH_TSQL, call, define, events, execute, refusal, row, states, take

pytestmark = THROUGH_TSQL

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "priority": ({"priority": 7, "restartable": False}, {}),
    "other values": ({}, {"arguments": ["--full", "ü"], "payload": "text", "priority": -3}),
    "limited": ({"concurrency": {"limit": 2, "key": "printer"}, "labels": {"os": "linux"}, "pool": "gpu"}, {}),
    "denying": ({"already_running": "deny"}, {}),
    "delayed": ({"already_running": "queue"}, {"delay": 60}),
    "keyed": ({}, {"key": "k1"}),
    "sequence": ({"steps": [{"name": "one", "jobs": ["other"]}]}, {}),
}


@pytest.mark.parametrize("case", SAME)
def test_start_job_creates_the_same_run_as_the_program(db: Database, case: str) -> None:
    body, options = SAME[case]
    define(db, other={}, ours=body, theirs={**body})
    theirs = db.transact(runs.start, StartRequest("theirs", "me", **options))
    db.transact(runs.request_stop, theirs, now=False, by="me")  # so that the rules of one do not affect the other
    arguments = dict(options)
    if "arguments" in arguments:
        arguments["arguments"] = json.dumps(arguments["arguments"], ensure_ascii=False)
    if "delay" in arguments:
        arguments["delay_seconds"] = arguments.pop("delay")
    ours = execute(db, "start_job", job="ours", by="me", **arguments)
    expected, found = dict(row(db, theirs)), dict(row(db, ours))
    if case == "other values":  # the worker writes the fingerprint of what T-SQL gave
        assert (list(json.loads(expected.pop("origin"))), found.pop("origin")) == (["given"], None)
    passing = {"id", "job", "created_at", "queued_at", "ended_at", "ready_at", "state", "reason", "stop", "stop_by"}
    assert {k: v for k, v in found.items() if k not in passing} == {
        k: v for k, v in expected.items() if k not in passing
    }
    assert found["state"] == ("scheduled" if case == "delayed" else "queued")
    assert (found["queued_at"] is None) == (case == "delayed")
    if case == "delayed":
        assert 59 < (found["ready_at"] - found["created_at"]).total_seconds() < 61
    assert events(db, ours) == [(found["state"], "me")]


def test_a_started_run_is_claimed_like_any_other(db: Database) -> None:
    define(db, a={})
    run_id = execute(db, "start_job", job="a")
    take(db)
    assert row(db, run_id)["state"] == "running"
    assert row(db, run_id)["created_by"]  # the login


def test_start_joins_the_callers_transaction(db: Database) -> None:
    define(db, a={})
    with db.engine.connect() as conn:
        assert call(conn, "start_job", job="a") > 0
        conn.rollback()
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one() == 0
        assert conn.execute(sa.select(sa.func.count()).select_from(run_event)).scalar_one() == 0


def test_a_refusal_leaves_the_callers_transaction_unchanged(db: Database) -> None:
    define(db, a={})
    batch = """
        SET XACT_ABORT OFF; SET NOCOUNT ON;
        DECLARE @seen INT = 0;
        EXEC jobfac.start_job @job = N'a', @by = N'first';
        BEGIN TRY
            EXEC jobfac.start_job @job = N'nothing';
        END TRY
        BEGIN CATCH
            SET @seen = ERROR_NUMBER();
        END CATCH;
        EXEC jobfac.start_job @job = N'a', @by = N'second';
        SELECT @seen;
    """
    with db.begin() as conn:
        assert conn.exec_driver_sql(batch).scalar_one() == 50001
    with db.read() as conn:
        assert conn.execute(sa.select(run.c.created_by).order_by(run.c.id)).scalars().all() == ["first", "second"]


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("nothing", {}, 50001, "There is no job 'nothing'; jobfac.v_job_statistics shows what there is."),
    ("off", {}, 50002, "Job 'off' is disabled; EXEC jobfac.enable_job allows it again."),
    (
        "each",
        {},
        50002,
        "Job 'each' makes one run for each worker, which T-SQL cannot do; use jobfac start or HTTP.",
    ),
    ("scheduled", {}, 50002, "Job 'scheduled' may not be started by hand: its definition says on_demand: false."),
    (
        "fixed",
        {"arguments": "[]"},
        50002,
        "Job 'fixed' takes no other arguments: its definition says replace_arguments: false.",
    ),
    (
        "arrived",
        {},
        50002,
        "Job 'arrived' cannot be started by hand: it refers to what only a trigger has, such as ${trigger.path}; "
        "declare a parameter with that default, refer to that, and give it a value.",
    ),
    ("a", {"arguments": "--full"}, 50007, '@arguments must be a JSON array of texts, such as ["--full", "2027"].'),
    ("a", {"arguments": '{"a": 1}'}, 50007, '@arguments must be a JSON array of texts, such as ["--full", "2027"].'),
    ("a", {"arguments": '["a", 1]'}, 50007, '@arguments must hold texts only, such as ["--full", "2027"].'),
    ("a", {"delay_seconds": -1}, 50007, "@delay_seconds must not be negative."),
    (
        "all",
        {"arguments": "[]"},
        50007,
        '@arguments of a sequence must be a JSON object such as {"extract": ["--full"]}.',
    ),
    ("all", {"payload": "text"}, 50007, '@payload of a sequence must be a JSON object such as {"extract": "2027"}.'),
    (
        "all",
        {"arguments": '{"a": ["x"], "aa": ["x"]}'},
        50007,
        "@arguments of a sequence must be by the ids of its jobs; job 'all' has no job 'aa' inside.",
    ),
    (
        "all",
        {"arguments": '{"5%d 100% %%": ["x"]}'},
        50007,
        "@arguments of a sequence must be by the ids of its jobs; job 'all' has no job '5%d 100% %%' inside.",
    ),
    (
        "all",
        {"payload": '{"aa": "x"}'},
        50007,
        "@payload of a sequence must be by the ids of its jobs; job 'all' has no job 'aa' inside.",
    ),
]


def test_an_invalid_start_is_refused_in_a_sentence(db: Database) -> None:
    fixed = {"replace_arguments": False}
    steps = [{"name": "one", "jobs": ["a"]}]
    define(
        db,
        a={},
        off={"enabled": False},
        scheduled={"on_demand": False},
        each={"each_worker": True},
        fixed=fixed,
        arrived={"arguments": ["$${trigger.path}", "${ trigger.path }"]},
        all={"steps": steps},
    )
    for job, arguments, number, sentence in REFUSED:
        found = refusal(db, "start_job", job=job, **arguments)
        assert found[1] == sentence
        assert found[0] in (number, 0)  # not every driver returns the number
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one() == 0
    execute(db, "start_job", job="arrived", arguments='["/in/a.csv"]')


def test_a_sequence_gets_arguments_and_payloads_by_job(db: Database) -> None:
    define(db, a={}, all={"steps": [{"name": "one", "jobs": ["a"]}]})
    run_id = execute(db, "start_job", job="all", arguments='{"a": ["--full"]}', payload='{"a": "text"}')
    found = row(db, run_id)
    assert json.loads(found["overrides"]) == {"arguments": {"a": ["--full"]}, "payloads": {"a": "text"}}
    assert (found["kind"], found["arguments"], found["payload"]) == ("sequence", None, None)


def test_the_same_key_gives_the_same_run(db: Database) -> None:
    define(db, a={}, b={})
    first = execute(db, "start_job", job="a", key="k")
    assert execute(db, "start_job", job="a", key="k") == first
    assert db.transact(runs.start, StartRequest("a", "me", key="k")) == first
    assert execute(db, "start_job", job="b", key="k") != first


def test_the_already_running_policy_applies(db: Database) -> None:
    define(
        db,
        denying={"already_running": "deny"},
        queueing={"already_running": "queue"},
        limited={"concurrency": {"key": "k"}},
    )
    denied = [execute(db, "start_job", job="denying") for _ in range(2)]
    assert states(db, denied) == ["queued", "denied"]
    assert row(db, denied[1])["reason"] == "another run of the job is still active"
    assert row(db, denied[1])["ended_at"] is not None
    assert states(db, [execute(db, "start_job", job="queueing") for _ in range(2)]) == ["queued", "blocked"]
    assert states(db, [execute(db, "start_job", job="limited") for _ in range(2)]) == ["queued", "blocked"]


def test_replace_stops_the_other_runs(db: Database) -> None:
    define(db, a={"already_running": "replace"})
    running = execute(db, "start_job", job="a")
    take(db)
    waiting = execute(db, "start_job", job="a", by="first")
    last = execute(db, "start_job", job="a", by="last")
    assert states(db, [running, waiting, last]) == ["stopping", "stopped", "blocked"]
    assert events(db, waiting) == [("blocked", "first"), ("stopped", "last (replaced)")]


@pytest.mark.parametrize("policy", ["deny", "replace"])
def test_runs_that_catch_up_let_the_next_start_wait(db: Database, policy: str) -> None:
    define(db, a={"already_running": policy})
    several = [db.transact(runs.start, StartRequest("a", "me", queues=True)) for _ in range(2)]
    today = execute(db, "start_job", job="a")
    assert states(db, [*several, today]) == ["queued", "blocked", "blocked"]
    again = execute(db, "start_job", job="a")
    assert states(db, [today, again]) == (["blocked", "denied"] if policy == "deny" else ["stopped", "blocked"])
    assert states(db, several) == ["queued", "blocked"]


def test_a_run_that_queues_waits_for_one_between_two_attempts(db: Database) -> None:
    define(db, a={"already_running": "queue"})
    first = execute(db, "start_job", job="a")
    take(db)
    between = {"state": "scheduled", "attempt": 1, "worker_id": None}
    db.transact(lambda conn: conn.execute(run.update().where(run.c.id == first).values(between)))
    assert states(db, [execute(db, "start_job", job="a")]) == ["blocked"]


def test_replace_does_not_stop_a_delayed_start(db: Database) -> None:
    define(db, a={"already_running": "replace"})
    later = execute(db, "start_job", job="a", delay_seconds=60)
    first = execute(db, "start_job", job="a")
    last = execute(db, "start_job", job="a")
    assert states(db, [later, first, last]) == ["scheduled", "stopped", "queued"]


def test_a_key_that_is_too_long_is_refused(db: Database) -> None:
    define(db, a={})
    longest = execute(db, "start_job", job="a", key="k" * 200)
    assert execute(db, "start_job", job="a", key="k" * 200) == longest
    sentence = refusal(db, "start_job", job="a", key="k" * 201)[1]
    assert sentence == "@key has more than 200 characters; give a shorter one."


@pytest.mark.parametrize(("name", "most"), [("arguments", 4_194_304), ("parameters", 1_048_576)])
def test_what_a_worker_reads_whole_has_a_limit(db: Database, name: str, most: int) -> None:
    """A login that may start could otherwise have every worker read gigabytes."""
    define(db, a={})
    sentence = refusal(db, "start_job", job="a", **{name: json.dumps(["x" * most])})[1]
    assert sentence.startswith(f"@{name} has more than {most:,} characters; ")


def test_of_many_concurrent_starts_one_is_admitted(db: Database) -> None:
    define(db, a={"already_running": "deny"})
    ids: list[int] = []

    def by_procedure() -> None:
        ids.append(db.transact(call, "start_job", job="a"))

    def by_program() -> None:
        ids.append(db.transact(runs.start, StartRequest("a", "me")))

    threads = [threading.Thread(target=work) for work in (by_procedure, by_program) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states(db, ids)) == ["denied"] * 7 + ["queued"]
