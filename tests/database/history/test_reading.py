"""Finding runs, and the view of a run."""

import json
from datetime import timedelta

import pytest

from jobfac.database.engine import Database
from jobfac.errors import NotFound
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.views.serialization import as_json
from tests.support.database import Hand, define, get, now, start


def find(db: Database, **filters: object) -> list[int]:
    with db.read() as conn:
        return [row.id for row in runs.find(conn, **filters)]  # type: ignore[arg-type]


def test_find_applies_each_filter_and_all_together(db: Database) -> None:
    define(db, a={"category": "red"}, b={"category": "blue"}, c={})
    ids = [start(db, job) for job in "abcab"]
    hand = Hand(db)
    for claimed in hand.claim(2):
        hand.end(claimed)
    assert find(db) == ids[::-1]
    assert find(db, job="a") == [ids[3], ids[0]]
    assert find(db, states=[RunState.SUCCEEDED]) == [ids[1], ids[0]]
    assert find(db, states=[RunState.SUCCEEDED, RunState.QUEUED]) == ids[::-1]
    assert find(db, categories=["red", "blue"]) == [ids[4], ids[3], ids[1], ids[0]]
    assert find(db, categories=[]) == []
    assert find(db, job="a", states=[RunState.QUEUED], categories=["red"], limit=9, below=ids[4]) == [ids[3]]
    assert find(db, since=now(db) - timedelta(hours=1)) == ids[::-1]
    assert find(db, since=now(db) + timedelta(hours=1)) == []


def test_find_returns_the_runs_of_a_sequence(db: Database) -> None:
    define(db, a={})
    start(db, "a")
    child = start(db, "a", sequence_run_id=7)
    assert find(db, sequence_run_id=7) == [child]


def test_a_page_continues_below_the_last(db: Database) -> None:
    define(db, a={})
    ids = [start(db, "a") for _ in range(5)]
    first = find(db, limit=2)
    assert first == [ids[4], ids[3]]
    assert find(db, limit=2, below=first[-1]) == [ids[2], ids[1]]
    assert find(db, limit=2, below=ids[0]) == []


def test_an_unknown_run_is_not_found(db: Database) -> None:
    with (
        db.read() as conn,
        pytest.raises(NotFound, match="There is no run 99999; `jobfac runs list` shows what there is"),
    ):
        runs.get(conn, 99999)


def test_a_run_is_shown_as_json(db: Database) -> None:
    define(db, a={})
    run_id = start(db, "a", arguments=["--x", "ä"], payload="p", delay=60.0)
    with db.read() as conn:
        shown = as_json(runs.get(conn, run_id))
    promised = [
        "id", "job", "state", "attempt", "priority", "arguments", "payload", "created_at", "started_at", "ended_at",
        "worker", "exit_code", "signal", "reason", "progress", "message", "exit_message", "sequence_run_id",
        "schedule_id", "due_at",
    ]  # fmt: skip
    assert list(shown)[:20] == promised
    assert (shown["id"], shown["arguments"], shown["payload"], shown["started_at"]) == (run_id, ["--x", "ä"], "p", None)
    assert shown["ready_at"] == get(db, run_id)["ready_at"].isoformat(timespec="milliseconds")
    json.dumps(shown)
