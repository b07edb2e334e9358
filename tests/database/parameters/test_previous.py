"""The last success of a job, to which the values of its next run may refer, on every engine."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError, from_data
from jobfac.states import RunState
from jobfac.store import parameters, schedules, sequences
from jobfac.store.schedules import backfilling
from jobfac.store.sequences import stepping
from tests.database.parameters.test_parameters import take, values
from tests.support.database import Hand, being_written, define, get, now, start
from tests.support.sequences import Player


def test_the_last_success_counts(db: Database) -> None:
    define(db, load={"parameters": {"since": {"type": "datetime", "default": "${previous.success.at}"}}})
    with pytest.raises(DefinitionError, match="has not succeeded before; give a value"):
        start(db, "load")
    hand = Hand(db)
    first = start(db, "load", parameters={"since": "2027-01-01T00:00:00Z"})
    hand.end(hand.take())
    start(db, "load", parameters={"since": "2027-01-01T00:00:00Z"})
    hand.end(hand.take(), RunState.FAILED)
    run_id = start(db, "load")
    take(hand)
    assert datetime.fromisoformat(values(db, run_id)["since"]) == datetime.fromisoformat(
        json.loads(get(db, first)["origin"])["due"]
    )


def test_a_sequence_that_has_skipped_all_of_its_steps_is_not_the_last_success(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would load what came between the one before and it."""
    db = Database(sqlite_url)
    always = {"times": {"between": ["00:00-24:00"]}, "otherwise": "end"}
    since = {"parameters": {"since": {"type": "datetime", "default": "${previous.success.at}"}}}
    define(db, load={}, seq={**since, "steps": [{"name": "s", "jobs": ["load"], "start_if": always}]})
    player = Player(db)
    first = start(db, "seq", parameters={"since": "2027-01-01T00:00:00Z"})
    player.look()
    player.finish("load")
    monkeypatch.setattr(stepping, "is_open", lambda step, instant: False)
    for _ in range(2):
        run_id = start(db, "seq")
        player.look()
        assert get(db, run_id)["state"] == "succeeded"
        due = json.loads(get(db, first)["origin"])["due"]
        assert datetime.fromisoformat(values(db, run_id)["since"]) == datetime.fromisoformat(due)
    db.close()


def test_a_backfill_or_a_retry_of_an_older_day_is_not_the_last_success(db: Database) -> None:
    """The next load would repeat all days since, or its span would begin behind its end."""
    rule = {"cron": "0 6 * * *", "parameters": {"since": "${previous.success.date}"}}
    define(db, load={"parameters": {"since": {}}, "schedules": [rule]})
    hand = Hand(db)
    days = [start(db, "load", parameters={"since": "x"}) for _ in range(4)]
    for run_id, day in zip(days, (10, 28, 11, 12), strict=True):  # the 11th is a backfill, the 12th a retry
        hand.end(hand.take())
        due = datetime(2027, 1, day, 6, tzinfo=UTC)
        change = {"origin": json.dumps({"due": due.isoformat()}), "due_at": None if day == 12 else due}
        with db.begin() as conn:
            conn.execute(run.update().where(run.c.id == run_id).values(**change))
    found = []
    for day in (29, 28, 11, 10):
        due = datetime(2027, 1, day, 6, tzinfo=UTC)
        found.append(db.query(parameters.previous_success, "load", None, due))
    assert [one and one.day for one in found] == [28, 12, 10, None]


@pytest.mark.parametrize("latest", [200, 2])
def test_the_runs_of_a_backfill_and_of_its_sequences_follow_each_other(
    db: Database, monkeypatch: pytest.MonkeyPatch, latest: int
) -> None:
    """All of them are executed after their due times, and were inserted before the first of them had ended."""
    monkeypatch.setattr(parameters, "LATEST", latest)
    load = {"parameters": {"since": {"default": "${previous.success.date}"}}, "schedules": [{"cron": "0 6 * * *"}]}
    seq = {"steps": [{"name": "s", "jobs": ["load"]}], "schedules": [{"cron": "0 7 * * *"}]}
    known = from_data({"jobs": {"load": {"command": "load", **load}, "seq": seq}}).jobs
    for name, one in known.items():
        db.transact(schedules.put, name, one, "me")
    player = Player(db)
    start(db, "load", parameters={"since": "2026-01-01"}, origin={"due": "2026-01-09T06:00:00+00:00"})
    player.end(player.take())

    def since(job: str, day: int, days: int) -> list[str]:
        begin = datetime(2026, 1, day, tzinfo=UTC)
        period = backfilling.Period(job, None, begin, begin + timedelta(days=days))
        with db.begin() as conn:
            backfilling.insert(conn, known[job], backfilling.find(conn, period, 9), 1, None, "me")
        found = []
        for _ in range(days):
            db.transact(sequences.begin, player.name)
            player.held += take(player)
            found.append(json.loads(player.held[0].parameters or "{}")["since"][-2:])
            player.finish("load")
        return found

    assert since("load", 10, 3) == ["09", "10", "11"]
    assert since("seq", 14, 2) == ["12", "14"]
    assert since("load", 13, 1) == ["12"]


def test_the_last_success_counts_while_somebody_writes_it(db: Database) -> None:
    """As one that counts it does: with the success before it, a load would do its days again.

    The test server skips locked rows only for those who lock, so the statements are looked at, too.
    """
    define(db, load={"parameters": {"since": {"default": "${previous.success.at}"}}})
    hand, said = Hand(db), list[str]()
    for _ in range(2):
        last = start(db, "load", parameters={"since": "x"})
        hand.end(hand.take())
    with being_written(db, last), db.read() as conn:
        sa.event.listen(conn, "before_cursor_execute", lambda *called: said.append(called[2]))
        found = parameters.previous_success(conn, "load", None, now(db))
    assert found == datetime.fromisoformat(json.loads(get(db, last)["origin"])["due"])
    assert said
    assert "READPAST" not in "".join(said)
