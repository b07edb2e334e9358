"""Finding runs, and the view of a run."""

import json
from datetime import timedelta
from typing import Any

import pytest

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.errors import NotFound
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.store.history import search
from jobfac.views.serialization import as_json
from tests.support.database import Hand, define, get, now, start


def find(db: Database, limit: int = 50, **filters: Any) -> list[int]:
    with db.read() as conn:
        return [row.id for row in search.find_all(conn, search.Filter(**filters), limit)]


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
    assert find(db, until=now(db) - timedelta(hours=1)) == []
    assert find(db, until=now(db) + timedelta(hours=1), since=now(db) - timedelta(hours=1)) == ids[::-1]
    assert find(db, category="red") == [ids[3], ids[0]]
    assert find(db, worker="w1") == [ids[1], ids[0]]
    assert find(db, worker="w2") == []


def test_a_period_is_exact(db: Database) -> None:
    define(db, a={})
    ids = [start(db, "a") for _ in range(6)]
    with db.begin() as conn:
        for number, run_id in enumerate(ids):
            conn.execute(run.update().where(run.c.id == run_id).values(created_at=utcnow(number * 3_600_000)))
    third = get(db, ids[2])["created_at"]
    assert find(db, since=third) == ids[:1:-1]
    assert find(db, until=third) == ids[1::-1]
    assert find(db, since=third, until=third + timedelta(hours=2)) == [ids[3], ids[2]]


def test_a_text_is_found_in_any_case_and_a_key_exactly(db: Database) -> None:
    define(db, load={}, other={})
    failed = start(db, "other", key="order 100%_[x]")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, reason="The Share was full")
    plain = start(db, "load")
    assert find(db, text="share WAS") == [failed]
    assert find(db, text="100%_[X]") == [failed]
    assert find(db, text="%") == [failed]
    assert find(db, text="LOAD") == [plain]
    assert find(db, key="order 100%_[x]") == [failed]
    assert find(db, key="order") == []


def test_a_search_reads_a_bounded_number_of_runs_and_continues(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SCAN", 3)
    define(db, rare={}, many={})
    rare = start(db, "rare")
    for _ in range(7):
        start(db, "many")
    wanted = search.Filter(text="rare")
    first = db.query(search.search, wanted, 5)
    assert (first.runs, first.partial) == ([], True)
    assert find(db, text="rare") == [rare]
    assert len(find(db, limit=4, text="many")) == 4


def test_a_search_by_a_parameter_reads_a_bounded_number_of_runs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SCAN", 3)
    define(db, job={"parameters": {"day": {}, "full": {"type": "boolean", "default": False}}}, plain={})
    first = start(db, "job", parameters={"day": "Monday", "full": True})
    for name in ("plain", "job", "plain", "job"):
        start(db, name)
    wanted = search.Filter(parameters=[("day", "Monday"), ("full", "true")])
    found = db.query(search.search, wanted, 5)
    assert (found.runs, found.partial) == ([], True)
    assert find(db, parameters=wanted.parameters) == [first]
    assert find(db, parameters=[("day", "Monday"), ("full", "false")]) == []


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
