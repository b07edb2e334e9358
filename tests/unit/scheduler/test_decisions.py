"""Decisions about due schedules, without a database."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import Schedule
from jobfac.recurrence import due_times
from jobfac.scheduler.notifier import linked
from jobfac.store.schedules import decision
from jobfac.store.schedules.decision import LOOKS_WITHIN, Decision, ScheduleRow, decide, fire_time, read, request, write

NOON = datetime(2027, 3, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(**fields: Any) -> Schedule:
    return Schedule.model_validate(fields)


def decide_at(now: datetime, schedule: Schedule, due: datetime, last: datetime | None = None) -> Decision:
    """Decide at ``now`` about a schedule that is due at ``due`` and whose last run was due at ``last``."""
    return decide(schedule, ScheduleRow(7, "a", "x", "", due, last, None, now))


def test_a_time_on_time_runs_under_every_policy() -> None:
    found = decide_at(NOON + timedelta(seconds=50), rule(cron="0 * * * *", missed="skip"), NOON)
    assert found == Decision([NOON], NOON + 60 * MINUTE, NOON + 60 * MINUTE)


def test_a_time_that_is_too_late_is_missed() -> None:
    found = decide_at(NOON + timedelta(seconds=70), rule(cron="0 * * * *", missed="skip"), NOON)
    assert found.times == []
    assert found.missed == (NOON, NOON + timedelta(seconds=70))
    assert found.next_due_at == NOON + 60 * MINUTE


def test_a_time_delayed_by_jitter_is_not_missed() -> None:
    hourly = rule(cron="0 * * * *", missed="skip", jitter="30m")
    fire_at = fire_time(hourly, 7, NOON)
    assert NOON + MINUTE < fire_at < NOON + 30 * MINUTE  # else the test proves nothing
    assert decide_at(fire_at, hourly, NOON).times == [NOON]


def test_a_time_whose_jitter_is_not_over_stays_due() -> None:
    hourly = rule(cron="0 * * * *", jitter="30m")
    fire_at = fire_time(hourly, 7, NOON)
    early = decide_at(fire_at - MINUTE, hourly, NOON)
    assert early == Decision([], NOON, fire_at)


def test_jitter_never_moves_a_start_into_a_blackout() -> None:
    nightly = rule(cron="59 17 * * *", jitter="10m", blackout=["18:00 - 06:00"])
    due = datetime(2027, 3, 28, 17, 59, tzinfo=UTC)
    fires = {fire_time(nightly, number, due) for number in range(50)}
    assert due in fires
    before = due + MINUTE - LOOKS_WITHIN  # a scheduler that looks later would find that the blackout has begun
    assert all(due <= fire < before for fire in fires)


def test_missed_times_do_not_start_in_a_blackout() -> None:
    nightly = rule(cron="0 17 * * *", missed="once", blackout=["18:00 - 06:00"])
    due = datetime(2027, 3, 28, 17, tzinfo=UTC)
    end = datetime(2027, 3, 29, 6, tzinfo=UTC)
    assert decide_at(due + 120 * MINUTE, nightly, due) == Decision([], due, end)
    assert decide_at(end, nightly, due).times == [due]


def test_runs_beyond_the_limit_of_a_transaction_follow_in_the_next() -> None:
    minutely = rule(cron="* * * * *", missed={"policy": "all", "maximum": 1200})
    now = NOON + 1199 * MINUTE
    due: datetime | None = NOON
    last, batches = None, []
    while due is not None and due <= now:
        found = decide_at(now, minutely, due, last)
        batches.append(found.times)
        due, last = found.next_due_at, found.times[-1]
    assert [len(batch) for batch in batches] == [decision.RUNS, decision.RUNS, 200]
    assert [time for batch in batches for time in batch] == [NOON + number * MINUTE for number in range(1200)]


def test_the_last_due_time_does_not_run_again() -> None:
    minutely = rule(cron="* * * * *")
    found = decide_at(NOON + timedelta(seconds=10), minutely, NOON - MINUTE, last=NOON)
    assert (found.times, found.next_due_at) == ([], NOON + MINUTE)
    backwards = decide_at(NOON - 5 * MINUTE, minutely, NOON, last=NOON)  # the database's clock was set back
    assert (backwards.times, backwards.next_due_at) == ([], NOON + MINUTE)


@given(
    st.sampled_from(["*/7 * * * *", "30 1-3 * * *", "0,1,2 * * * *", "*/20 2 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
    st.sampled_from(["0s", "20m"]),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
)
def test_every_time_runs_once_regardless_of_polling(cron: str, zone: str, jitter: str, waits: list[int]) -> None:
    one = rule(cron=cron, timezone=zone, jitter=jitter, missed={"policy": "all", "maximum": 10_000})
    start = datetime(2027, 3, 27, 22, tzinfo=UTC)  # across the change of the clocks in Berlin
    due = next(due_times(one, start, start + timedelta(days=3)))
    last, now, ran = None, start, []
    for wait in waits:
        now += timedelta(seconds=wait)
        while fire_time(one, 7, due) <= now:
            found = decide_at(now, one, due, last)
            ran += found.times
            assert found.missed is None
            assert found.next_due_at is not None
            due, last = found.next_due_at, found.times[-1] if found.times else last
    expected = list(due_times(one, start, now))
    assert ran == expected[: len(ran)]
    late = [time for time in expected[len(ran) :] if fire_time(one, 7, time) <= now]
    assert (
        late == [] or fire_time(one, 7, expected[len(ran)]) > now
    )  # only an earlier time with unfinished jitter may delay them


def test_a_rule_is_stored_without_its_name_and_read_back() -> None:
    one = rule(name="x", cron="0 6 * * *", payload="p", jitter="5s")
    assert read(write(one)) == one.model_copy(update={"name": None})


DUE = ScheduleRow(7, "a", "x", "", NOON, None, None, NOON)


def test_a_run_of_a_program_gets_arguments_and_payload_of_its_schedule() -> None:
    start = request(rule(cron="0 6 * * *", arguments=["-v"], payload="p"), DUE, NOON)
    assert (start.arguments, start.payload, start.overrides, start.manual) == (("-v",), "p", None, False)


def test_a_run_of_a_sequence_gets_arguments_and_payloads_by_job() -> None:
    start = request(rule(cron="0 6 * * *", arguments={"j": ["-v"]}, payloads={"j": "p"}), DUE, NOON)
    assert (start.arguments, start.overrides) == (None, {"arguments": {"j": ("-v",)}, "payloads": {"j": "p"}})


def test_a_message_links_to_the_page_of_its_run() -> None:
    body = {"id": 7, "job": "load"}
    assert linked(body, 7, "https://jobs.example.org/") == {**body, "link": "https://jobs.example.org/runs/7"}
    assert linked(body, 7, "") == body
    assert linked({"job": "load"}, None, "https://jobs.example.org") == {"job": "load"}
