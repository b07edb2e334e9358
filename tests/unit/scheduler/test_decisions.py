"""What becomes of a schedule whose time has come: decisions without a database."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import Schedule
from jobfac.recurrence import due_times
from jobfac.store.schedules import decision
from jobfac.store.schedules.decision import Decision, decide, fire_time, read, request, write

NOON = datetime(2027, 3, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(**fields: Any) -> Schedule:
    return Schedule.model_validate(fields)


def row(due: datetime, last: datetime | None = None, resumed: datetime | None = None) -> dict[str, Any]:
    return {"id": 7, "next_due_at": due, "last_due_at": last, "resumed_at": resumed}


def test_a_time_on_time_runs_whatever_the_policy() -> None:
    found = decide(rule(cron="0 * * * *", missed="skip"), row(NOON), NOON + timedelta(seconds=50))
    assert found == Decision([NOON], NOON + 60 * MINUTE, NOON + 60 * MINUTE)


def test_a_time_that_is_too_late_is_missed() -> None:
    found = decide(rule(cron="0 * * * *", missed="skip"), row(NOON), NOON + timedelta(seconds=70))
    assert found.times == []
    assert found.missed == (NOON, NOON + timedelta(seconds=70))
    assert found.next_due_at == NOON + 60 * MINUTE


def test_jitter_is_no_lateness() -> None:
    hourly = rule(cron="0 * * * *", missed="skip", jitter="30m")
    fire_at = fire_time(hourly, 7, NOON)
    assert NOON + MINUTE < fire_at < NOON + 30 * MINUTE  # the case would prove nothing otherwise
    assert decide(hourly, row(NOON), fire_at).times == [NOON]


def test_a_time_whose_jitter_is_not_over_keeps_its_turn() -> None:
    hourly = rule(cron="0 * * * *", jitter="30m")
    fire_at = fire_time(hourly, 7, NOON)
    early = decide(hourly, row(NOON), fire_at - MINUTE)
    assert early == Decision([], NOON, fire_at)


def test_jitter_never_moves_a_start_into_a_blackout() -> None:
    nightly = rule(cron="59 17 * * *", jitter="10m", blackout=["18:00 - 06:00"])
    due = datetime(2027, 3, 28, 17, 59, tzinfo=UTC)
    fires = {fire_time(nightly, number, due) for number in range(50)}
    assert due in fires
    assert all(due <= fire < due + MINUTE for fire in fires)


def test_nothing_starts_in_a_blackout_not_even_what_was_missed_before() -> None:
    nightly = rule(cron="0 17 * * *", missed="once", blackout=["18:00 - 06:00"])
    due = datetime(2027, 3, 28, 17, tzinfo=UTC)
    end = datetime(2027, 3, 29, 6, tzinfo=UTC)
    assert decide(nightly, row(due), due + 120 * MINUTE) == Decision([], due, end)
    assert decide(nightly, row(due), end).times == [due]


def test_more_runs_than_one_transaction_takes_come_in_the_next() -> None:
    minutely = rule(cron="* * * * *", missed={"policy": "all", "maximum": 1200})
    now = NOON + 1199 * MINUTE
    due: datetime | None = NOON
    last, batches = None, []
    while due is not None and due <= now:
        found = decide(minutely, row(due, last), now)
        batches.append(found.times)
        due, last = found.next_due_at, found.times[-1]
    assert [len(batch) for batch in batches] == [decision.RUNS, decision.RUNS, 200]
    assert [time for batch in batches for time in batch] == [NOON + number * MINUTE for number in range(1200)]


def test_the_last_time_never_comes_back() -> None:
    minutely = rule(cron="* * * * *")
    found = decide(minutely, row(NOON - MINUTE, last=NOON), NOON + timedelta(seconds=10))
    assert (found.times, found.next_due_at) == ([], NOON + MINUTE)
    backwards = decide(minutely, row(NOON, last=NOON), NOON - 5 * MINUTE)  # the database's clock was set back
    assert (backwards.times, backwards.next_due_at) == ([], NOON + MINUTE)


@given(
    st.sampled_from(["*/7 * * * *", "30 1-3 * * *", "0,1,2 * * * *", "*/20 2 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
    st.sampled_from(["0s", "20m"]),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
)
def test_every_time_is_run_once_however_often_somebody_looks(
    cron: str, zone: str, jitter: str, waits: list[int]
) -> None:
    one = rule(cron=cron, timezone=zone, jitter=jitter, missed={"policy": "all", "maximum": 10_000})
    start = datetime(2027, 3, 27, 22, tzinfo=UTC)  # across the change of the clocks in Berlin
    due = next(due_times(one, start, start + timedelta(days=3)))
    last, now, ran = None, start, []
    for wait in waits:
        now += timedelta(seconds=wait)
        while fire_time(one, 7, due) <= now:
            found = decide(one, row(due, last), now)
            ran += found.times
            assert found.missed is None
            assert found.next_due_at is not None
            due, last = found.next_due_at, found.times[-1] if found.times else last
    expected = list(due_times(one, start, now))
    assert ran == expected[: len(ran)]
    late = [time for time in expected[len(ran) :] if fire_time(one, 7, time) <= now]
    assert late == [] or fire_time(one, 7, expected[len(ran)]) > now  # held only by one whose jitter is not over


def test_a_rule_is_stored_without_its_name_and_read_back() -> None:
    one = rule(name="x", cron="0 6 * * *", payload="p", jitter="5s")
    assert read(write(one)) == one.model_copy(update={"name": None})


def test_what_a_schedule_hands_to_its_run() -> None:
    place = {"id": 7, "job": "a", "name": "x"}
    start = request(rule(cron="0 6 * * *", arguments=["-v"], payload="p"), place, NOON)
    assert (start.arguments, start.payload, start.overrides, start.manual) == (("-v",), "p", None, False)
    start = request(rule(cron="0 6 * * *", arguments={"j": ["-v"]}, payloads={"j": "p"}), place, NOON)
    assert (start.arguments, start.overrides) == (None, {"arguments": {"j": ("-v",)}, "payloads": {"j": "p"}})
