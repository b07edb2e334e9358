"""Which success shows that a failure is over: acknowledged, hidden on the pages, told as recovered."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import expectation, run
from jobfac.states import RunState
from jobfac.store import overview, runs, sequences, statistics, watching
from jobfac.store.sequences import stepping
from tests.support.database import Hand, define, get, now, start
from tests.support.outbox import notified_events, on
from tests.support.sequences import Player

LOAD = {
    "parameters": {"region": {"default": "all"}, "day": {"default": "${due.date}"}},
    "notify": [on("recovered")],
}
DAY = timedelta(days=1)


class Load:
    """Runs of the job ``load``, which a test lets fail and succeed."""

    def __init__(self, db: Database) -> None:
        define(db, load=LOAD)
        self.db, self.hand, self.today = db, Hand(db), now(db)

    def ends(self, is_good: bool, **options: Any) -> int:
        return self.end(is_good, start(self.db, "load", **options))

    def end(self, is_good: bool, run_id: int) -> int:
        self.hand.end(self.hand.take(), RunState.SUCCEEDED if is_good else RunState.FAILED)
        return run_id

    def due(self, days: float, region: str | None = None, **more: Any) -> dict[str, Any]:
        """What a schedule says for a due time."""
        parameters = None if region is None else {"region": region}
        common = {"is_template": True, "manual": False, "schedule_id": 1, "parameters": parameters}
        return {**common, "due_at": self.today + days * DAY, **more}

    def retry(self, is_good: bool, run_id: int, **changes: str) -> int:
        return self.end(is_good, self.db.transact(runs.retry, run_id, "me", changes=changes or None).run_id)

    @property
    def open(self) -> list[int]:
        return is_open(self.db)


def is_open(db: Database) -> list[int]:
    """Return the failures that are not over, by the overview, by the view, and as they are recorded."""
    shown = sorted(one.id for one in db.query(overview.read).failures)
    schema = "" if db.dialect.name == "sqlite" else "jobfac."
    with db.read() as conn:
        query = sa.text(f"SELECT id FROM {schema}v_failures WHERE unacknowledged = 1 ORDER BY id")
        assert conn.execute(query).scalars().all() == shown
    while db.transact(statistics.count):
        pass
    with db.read() as conn:
        failed = sa.select(run.c.id).where(run.c.state == "failed", run.c.acknowledged_at.is_(None))
        assert conn.execute(failed.order_by(run.c.id)).scalars().all() == shown
        assert conn.execute(query).scalars().all() == shown
    return shown


def recovered(db: Database) -> int:
    return [event for _, event in notified_events(db)].count("recovered")


def test_only_a_success_with_the_same_parameters_counts(db: Database) -> None:
    load = Load(db)
    eu, us = load.ends(False, **load.due(-1, "eu")), load.ends(False, **load.due(-1.1, "us"))
    assert load.open == [eu, us]
    first = load.ends(True, **load.due(0, "us"))
    assert load.open == [eu], "although the day differs"
    assert get(db, us)["acknowledged_by"] == f"run {first} succeeded"
    load.ends(True)
    assert load.open == [eu], "the default is another region"
    for _ in range(2):
        load.ends(True, parameters={"region": "eu"})
        assert load.open == [], "by hand"
    assert recovered(db) == 2


def test_a_success_for_an_earlier_due_time_does_not_count(db: Database) -> None:
    load = Load(db)
    early = load.ends(False, **load.due(-2))
    failed = load.ends(False, **load.due(-1))
    load.ends(True, **load.due(-1.5))
    load.ends(True, **load.due(-30, at_most=1))
    assert load.open == [failed], "that of a backfill neither"
    load.retry(True, early)
    assert load.open == [failed]
    load.retry(True, failed)
    assert load.open == []


def test_the_failure_of_a_backfill_is_over_when_that_day_is_done(db: Database) -> None:
    load = Load(db)
    failed = load.ends(False, **load.due(-30, at_most=1))
    again = load.retry(False, failed)
    load.ends(True, **load.due(0))
    load.ends(True)
    assert load.open == [failed, again]
    load.retry(True, again)
    assert load.open == []


def test_a_retry_with_other_parameters_repeats_the_run(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    load = Load(db)
    failed = load.ends(False, **load.due(-1, "eu"))
    again = load.retry(False, failed, region="us")
    last = load.ends(True, **load.due(0, "us"))
    assert load.open == [failed, again], "by hand the day was that of the failed run"
    load.retry(True, again, region="de")
    assert load.open == []
    assert get(db, failed)["acknowledged_by"] == get(db, again)["acknowledged_by"] == f"run {last + 1} succeeded"
    db.close()


def test_the_success_of_the_next_night_counts_for_a_retry_too(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    load = Load(db)
    load.retry(False, load.ends(False, **load.due(-1, "eu")))
    load.ends(True, **load.due(0, "eu"))
    assert load.open == []
    db.close()


def test_a_parameter_that_is_new_in_the_definition_makes_no_difference(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    load = Load(db)
    load.ends(False, **load.due(-1, "eu"))
    define(db, load={**LOAD, "parameters": {**LOAD["parameters"], "mode": {"default": "full"}}})  # type: ignore[dict-item]
    load.ends(True, **load.due(0, "eu"))
    assert load.open == []
    db.close()


def test_a_failure_is_told_as_recovered_however_many_runs_of_others_came_since(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    load = Load(db)
    load.ends(False, parameters={"region": "eu"})
    for number in range(25):
        load.ends(True, parameters={"region": f"r{number}"})
    assert recovered(db) == 0
    load.ends(True, parameters={"region": "eu"})
    assert (recovered(db), load.open) == (1, [])
    db.close()


def fan_out(db: Database, values: dict[str, Any], **more: Any) -> Player:
    step = {"name": "fan", "jobs": ["load"], "on_mixed": "end", **values}
    define(db, load=LOAD, seq={"steps": [step], **more})
    return Player(db)


def night(player: Player, due_at: datetime, *is_good: bool, **options: Any) -> None:
    start(player.db, "seq", is_template=True, manual=False, schedule_id=1, due_at=due_at, **options)
    player.look()
    for good in is_good:
        player.finish("load", state=RunState.SUCCEEDED if good else RunState.FAILED)


def test_a_value_that_fails_each_night_is_not_recovered_by_another_one(db: Database) -> None:
    player = fan_out(db, {"for_each": {"region": ["eu", "us"]}})
    for number in range(2):
        night(player, now(db) + number * DAY, False, True)
    assert (len(is_open(db)), recovered(db)) == (2, 0)
    night(player, now(db) + 3 * DAY, True, True)
    assert (is_open(db), recovered(db)) == ([], 1)


def test_a_retry_from_the_failed_step_shows_it_for_what_it_runs_again(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    player = fan_out(db, {"for_each": {"region": ["eu", "us"]}}, notify=[on("recovered")])
    night(player, now(db), False, True)
    (eu,) = is_open(db)
    us = start(db, "load", parameters={"region": "us"})
    player.look()
    player.fail("load")
    again = db.transact(sequences.retry, 1, "me", from_failed=True).run_id
    player.look()
    player.finish("load")
    assert (get(db, again)["state"], get(db, eu)["acknowledged_by"]) == ("succeeded", None)
    assert is_open(db) == [us], "the value that was taken over did not run again"
    assert (get(db, eu)["acknowledged_by"], recovered(db)) == (f"run {again + 1} succeeded", 2)
    db.close()


def test_a_step_that_passes_on_a_value_of_its_sequence_tells_it_apart(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    given = {"parameters": {"load": {"region": "${parameters.place}", "day": "${due.date - 1d}"}}}
    player = fan_out(db, given, parameters={"place": {}})
    places = ["eu", "us", "eu"]
    counts = []
    for number, place in enumerate(places):
        night(player, now(db) + number * DAY, number > 0, parameters={"place": place})
        counts.append([get(db, one)["job"] for one in is_open(db)])
    assert counts == [["seq", "load"], ["seq", "load"], []], "the day alone makes no difference"
    db.close()


def test_a_sequence_that_skipped_the_step_that_had_failed_shows_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = {"times": {"between": ["00:00-24:00"]}, "otherwise": "end"}
    define(db, a={}, b={}, seq={"steps": [{"name": "load", "jobs": ["a"]}, {"name": "copy", "jobs": ["b"],
                                                                           "start_if": always}]})  # fmt: skip
    player = Player(db)
    failed = start(db, "seq")
    for job, end in (("a", player.finish), ("b", player.fail)):
        player.look()
        end(job)
    monkeypatch.setattr(stepping, "is_open", lambda step, instant: step.name != "copy")
    again = start(db, "seq")
    player.look()
    player.finish("a")
    assert get(db, again)["state"] == "succeeded"
    assert failed in is_open(db)
    monkeypatch.undo()
    db.transact(sequences.retry, failed, "me", from_failed=True)
    player.look()
    player.finish("b")
    assert is_open(db) == []


GIVEN: dict[str, list[dict[str, Any]]] = {
    "arguments": [{"arguments": ["eu"]}, {"arguments": ["us"]}],
    "payload": [{"payload": "eu"}, {"payload": "us"}],
    "nothing": [{}, {"arguments": ["us"]}, {"payload": ""}, {"arguments": []}],
    "texts of a schedule": [{"arguments": ["${due.date}", "eu"]}, {"arguments": ["${due.date}", "us"]}],
}


@pytest.mark.parametrize("kind", GIVEN)
def test_arguments_and_payloads_count_as_parameters_do(sqlite_url: str, kind: str) -> None:
    db = Database(sqlite_url)
    define(db, load={"notify": [on("recovered")]})
    hand, day = Hand(db), now(db)

    def ends(is_good: bool, place: int, given: dict[str, Any]) -> int:
        due_at = day if not is_good else day + DAY
        run_id = start(db, "load", is_template=True, manual=False, schedule_id=place, due_at=due_at, **given)
        hand.end(hand.take(), RunState.SUCCEEDED if is_good else RunState.FAILED)
        return run_id

    failed = [ends(False, place, given) for place, given in enumerate(GIVEN[kind], 1)]
    for given in GIVEN[kind][::-1]:
        assert is_open(db) == failed
        ends(True, len(failed), given)
        failed.pop()
    assert (is_open(db), recovered(db)) == ([], len(GIVEN[kind]))
    db.close()


def test_the_next_file_shows_nothing_about_one_that_failed(db: Database) -> None:
    load = Load(db)

    def file(path: str, minutes: int) -> dict[str, Any]:
        return load.due(minutes / 1440, origin={"due": load.today.isoformat(), "path": path, "name": "x", "size": 1})

    failed = load.ends(False, **file("/in/a.csv", 1))
    load.ends(True, **file("/in/b.csv", 2))
    load.ends(True)
    assert (load.open, recovered(db)) == ([failed], 0)
    load.ends(True, **file("/in/a.csv", 3))
    assert (load.open, recovered(db)) == ([], 1)


def test_a_start_by_hand_may_give_the_arguments_of_a_schedule(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    load = Load(db)
    failed = load.ends(False, **load.due(0, arguments=["${due.date}"]))
    load.ends(True, arguments=["1999-12-31"])
    assert load.open == [failed]
    load.ends(True, parameters={"day": f"{load.today:%Y-%m-%d}"}, arguments=[f"{load.today:%Y-%m-%d}"])
    assert load.open == []
    db.close()


def test_a_failure_from_before_the_fingerprint_is_over_when_all_texts_are_equal(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    define(db, load={})
    hand = Hand(db)
    for given in {}, {"arguments": ["eu"]}, {"payload": "eu"}:
        start(db, "load", **given)
        hand.end(hand.take(), RunState.FAILED)
    db.transact(lambda conn: conn.execute(run.update().values(origin=None)))
    left = []
    for given in {"arguments": ["eu"]}, {"payload": "eu"}, {}:
        start(db, "load", **given)
        hand.end(hand.take(), RunState.SUCCEEDED)
        left.append(is_open(db))
    assert left == [[1, 3], [1, 3], [3]]
    db.close()


INNER = {"steps": [{"name": "s", "jobs": ["load"]}]}


@pytest.mark.parametrize("kind", ["step", "sequence", "sequence around"])
def test_a_sequence_and_its_steps_tell_apart_what_they_were_given(sqlite_url: str, kind: str) -> None:
    db = Database(sqlite_url)
    step = {"name": "s", "jobs": ["inner" if kind == "sequence around" else "load"]}
    player, day = Player(db), now(db)
    counts = []
    for number, (is_good, place) in enumerate([(False, "eu"), (True, "us"), (True, "eu")]):
        own = {"arguments": {"load": [place, "${due.date}"]}} if kind == "step" else {}
        define(db, load={}, inner=INNER, seq={"steps": [{**step, **own}]})
        overrides = {"payloads": {"load": place + " ${due.date}"}} if kind != "step" else None
        night(player, day + number * DAY, is_good, overrides=overrides)
        counts.append([get(db, one)["job"] for one in is_open(db)])
    # A sequence whose definition has changed is the same work.
    of_sequences = {"step": ["seq"], "sequence": ["seq"], "sequence around": ["seq", "inner"]}[kind]
    left = ["load"] if kind == "step" else [*of_sequences, "load"]
    assert counts == [[*of_sequences, "load"], left, []]
    db.close()


def test_a_sequence_that_has_skipped_all_of_its_steps_shows_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    weekdays = {"times": {"between": ["00:00-24:00"]}, "otherwise": "end"}
    step = {"jobs": ["a"], "start_if": weekdays}
    more: dict[str, Any] = {"notify": [on("recovered"), on("overdue")]}
    more |= {"expect": {"every": "1h"}}
    define(db, a={}, seq={"steps": [{"name": "s", **step}], **more})
    player = Player(db)
    start(db, "seq")
    player.look()
    player.fail("a")
    monkeypatch.setattr(stepping, "is_open", lambda step, instant: False)
    define(db, a={}, seq={"steps": [{"name": "renamed", **step}], **more})
    again = start(db, "seq")
    player.look()
    late = expectation.update().values(since=now(db) - DAY, due_at=now(db))
    db.transact(lambda conn: conn.execute(late))
    db.transact(watching.watch)
    assert get(db, again)["state"] == "succeeded"
    assert (is_open(db), [event for _, event in notified_events(db)]) == ([1, 2], ["overdue"])
    monkeypatch.undo()
    start(db, "seq")
    player.look()
    player.finish("a")
    assert (is_open(db), recovered(db)) == ([], 1)
