"""When a job is overdue: compared with a slow reference, around changes of the clock."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfac.definitions.execution.watching import Expect
from jobfac.recurrence.expected import Expectation, Success, advance, begin, begin_again, change
from tests.unit.examples import examples
from tests.unit.recurrence.reference import due_in

MINUTE = timedelta(minutes=1)
CHANGES = [datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 10, 30, tzinfo=UTC), datetime(2027, 6, 4, tzinfo=UTC)]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]


def reference(
    expect: Expect, start: datetime, end: datetime, successes: Sequence[datetime]
) -> list[tuple[str, datetime]]:
    """What happens, minute by minute: the time that passed for ``overdue``, the success for ``on_time_again``.

    The successes end with whole minutes.
    """
    around = timedelta(days=8)
    deadlines = set() if expect.success_by is None else set(due_in(expect.schedule(), start - around, end + around))
    ended = set(successes)
    told: list[tuple[str, datetime]] = []
    since, late, last = start, False, start
    now = start
    while now < end:
        now += MINUTE
        if now in ended:
            if late:
                told.append(("on_time_again", now))
                since, late = now, False
                if deadlines:
                    before, after = max(d for d in deadlines if d <= now), min(d for d in deadlines if d > now)
                    since = before if after - now < now - before else now
            last = now
        is_due = now in deadlines if expect.every is None else now - since == timedelta(seconds=expect.every)
        if is_due and not late:
            if last > since:
                since = now if expect.every is None else last
            else:
                told.append(("overdue", now))
                late = True
    return told


def watched(
    expect: Expect, start: datetime, end: datetime, successes: Sequence[datetime], pauses: Sequence[int]
) -> list[tuple[str, datetime]]:
    """The same by ``advance``, which looks after these pauses (minutes) again and again."""
    told: list[tuple[str, datetime]] = []
    state = begin(expect, start)
    now, place = start, 0
    while now < end:
        now = min(end, now + MINUTE * pauses[place % len(pauses)])
        place += 1
        state, events = advance(expect, state, now, [Success(one) for one in successes if one <= now])
        told += [(event.kind, event.at) for event in events]
    return told


expectations = st.one_of(
    st.builds(
        Expect,
        success_by=st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59])),
        timezone=st.sampled_from(ZONES),
        days=st.sampled_from(["weekdays", "weekends", ["mon", "sun"], ["sat"], [1, 2, 3, 4, 5, 6, 7]]),
    ),
    st.builds(Expect, every=st.sampled_from(["30m", "3h", "24h", "25h"])),
)
minutes = st.lists(st.integers(1, 4 * 1440), max_size=12)


@settings(max_examples=examples(40), deadline=None)
@given(expectations, st.sampled_from(CHANGES), minutes)
def test_every_minute_it_says_what_the_reference_says(expect: Expect, start: datetime, when: list[int]) -> None:
    end = start + timedelta(days=4)
    successes = sorted({start + MINUTE * number for number in when})
    assert watched(expect, start, end, successes, [1]) == reference(expect, start, end, successes)


@settings(max_examples=examples(40), deadline=None)
@given(expectations, st.sampled_from(CHANGES), minutes, st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_however_rarely_anybody_looks_it_ends_the_same(
    expect: Expect, start: datetime, when: list[int], pauses: list[int]
) -> None:
    end = start + timedelta(days=4)
    successes = sorted({start + MINUTE * number for number in when})
    told, wanted = watched(expect, start, end, successes, pauses), reference(expect, start, end, successes)
    assert [event for event, _ in told] == ["overdue", "on_time_again"] * (len(told) // 2) + ["overdue"] * (
        len(told) % 2
    )
    assert set(told) <= set(wanted), "nothing is said that did not happen"
    assert bool(told) == bool(wanted), "a delay is said, also if it is over before anybody looks"
    assert len(told) % 2 == len(wanted) % 2, "at the end it is overdue, or not, as the reference"


def test_the_success_that_ended_the_delay_is_named_and_not_a_later_one() -> None:
    start = datetime(2027, 6, 1, tzinfo=UTC)
    expect = Expect(every="3h")  # type: ignore[arg-type]
    late, _ = advance(expect, begin(expect, start), start + timedelta(hours=4), [])
    successes = [start + timedelta(hours=5), start + timedelta(hours=6)]
    _, (event,) = advance(expect, late, start + timedelta(hours=8, minutes=30), list(map(Success, successes)))
    assert event[:2] == ("on_time_again", successes[0])


def test_a_delay_that_is_over_before_anybody_looks_is_said_with_its_end() -> None:
    start = datetime(2027, 6, 1, tzinfo=UTC)
    expect = Expect(every="3h")  # type: ignore[arg-type]
    met, late = start + timedelta(hours=2), start + timedelta(hours=6)
    state, events = advance(expect, begin(expect, start), start + timedelta(hours=8), [Success(met), Success(late)])
    assert events == [("overdue", met + timedelta(hours=3), met), ("on_time_again", late, met)]
    assert state == begin(expect, late)


@pytest.mark.parametrize(("hour", "is_late"), [(4, False), (7, True)])
def test_after_one_bad_night_a_job_that_succeeds_each_night_is_overdue_once(hour: int, is_late: bool) -> None:
    """The success that ends the delay is that of the next night, in time, or that of the bad one, too late."""
    day, expect = datetime(2027, 6, 1, tzinfo=UTC), Expect.model_validate({"success_by": "06:00"})
    nights = [day + timedelta(days=number, hours=4) for number in (0, 2, 3, 4)]
    successes = sorted({*nights, day + timedelta(days=1, hours=7)} if is_late else nights)
    told = watched(expect, day, day + timedelta(days=4, hours=12), successes, [30])
    again = day + timedelta(days=1 if is_late else 2, hours=hour)
    assert told == [("overdue", day + timedelta(days=1, hours=6)), ("on_time_again", again)]
    second = [one for one in successes if one != nights[1]]
    told = watched(expect, day, day + timedelta(days=2, hours=12), second, [30])
    assert len(told) == (3 if is_late else 1), "a late success does not count for the next time"


@pytest.mark.parametrize("expect", [{"success_by": "06:00"}, {"every": "24h"}])
def test_a_success_of_a_backfill_neither_meets_an_expectation_nor_ends_a_delay(expect: dict[str, str]) -> None:
    day, wanted = datetime(2027, 6, 1, 6, tzinfo=UTC), Expect.model_validate(expect)
    hour, begun = timedelta(hours=1), begin(wanted, day)
    old = Success(day + 20 * hour, day - timedelta(days=20))
    late, (event,) = advance(wanted, begun, day + 25 * hour, [old])
    assert event.kind == "overdue"
    old = Success(day + 26 * hour, day - timedelta(days=19))
    assert advance(wanted, late, day + 27 * hour, [old]) == (late, [])
    good = Success(day + 28 * hour, day + 19 * hour)
    assert [one.kind for one in advance(wanted, late, day + 29 * hour, [old, good])[1]] == ["on_time_again"]
    assert advance(wanted, begun, day + 25 * hour, [good._replace(ended=day + 20 * hour)])[1] == []


BERLIN = Expect(success_by="06:00", timezone="Europe/Berlin", days="weekdays")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "due"),
    [
        ("2027-03-25T05:00:00", "2027-03-26T05:00:00"),  # Thursday to Friday, winter
        ("2027-03-26T05:00:00", "2027-03-29T04:00:00"),  # over the weekend into summer
        ("2027-10-29T04:00:00", "2027-11-01T05:00:00"),
    ],
)
def test_the_time_is_that_of_its_zone(since: str, due: str) -> None:
    begun = begin(BERLIN, datetime.fromisoformat(since).replace(tzinfo=UTC))
    assert begun.due_at == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize("expect", [{"success_by": "06:00"}, {"every": "12h"}])
def test_a_success_while_the_clock_was_ahead_ends_no_delay(expect: dict[str, str]) -> None:
    """The job would not be watched until the clock comes to that time again."""
    day, ahead = datetime(2027, 6, 1, tzinfo=UTC), datetime(2027, 9, 1, tzinfo=UTC)
    wanted = Expect.model_validate(expect)
    state = begin(wanted, day)
    late, events = advance(wanted, state, day + timedelta(hours=13), [Success(ahead)])
    assert events == [("overdue", state.due_at, state.since)]
    assert advance(wanted, late, day + timedelta(hours=14), [Success(ahead)])[1] == []
    success = day + timedelta(hours=15)
    _, events = advance(wanted, late, day + timedelta(hours=16), [Success(success), Success(ahead)])
    assert events == [("on_time_again", success, late.since)]


def test_after_the_clock_was_set_back_a_success_since_the_last_time_still_counts() -> None:
    day = datetime(2027, 6, 1, tzinfo=UTC)
    daily, often = (Expect.model_validate(one) for one in ({"success_by": "06:00"}, {"every": "12h"}))
    now, success = day + timedelta(hours=5), day + timedelta(hours=4)
    assert advance(daily, begin_again(daily, now), now + timedelta(hours=2), [Success(success)])[1] == []
    assert begin_again(often, now) == begin(often, now)


def test_nothing_is_expected_of_a_disabled_job() -> None:
    now = datetime(2027, 6, 4, 12, tzinfo=UTC)
    late = Expectation(now - timedelta(days=2), now, now, now)
    for before in (begin(BERLIN, now - timedelta(days=5)), late):
        assert advance(BERLIN, before, now, [], is_enabled=False) == (begin(BERLIN, now), [])
    waiting = begin(BERLIN, now)
    assert advance(BERLIN, waiting, now, [], is_enabled=False) == (waiting, [])


def test_after_a_change_a_success_of_the_day_before_does_not_count() -> None:
    """At 08:00 the time becomes 06:00. What succeeded at 03:00 did so for this day, not for the next one."""
    day, expect = datetime(2027, 3, 10, tzinfo=UTC), Expect.model_validate({"success_by": "06:00"})
    changed = change(expect, Expectation(day - timedelta(hours=15), day + timedelta(hours=9)), day + timedelta(hours=8))
    assert changed == Expectation(day + timedelta(hours=6), day + timedelta(hours=30))
    _, events = advance(expect, changed, day + timedelta(hours=31), [Success(day + timedelta(hours=3))])
    assert [event.kind for event in events] == ["overdue"]


@pytest.mark.parametrize("counted", ["success_by", "every"])
def test_a_time_that_is_moved_a_little_later_demands_no_second_success(counted: str) -> None:
    """At 06:30 the time becomes 07:00. What succeeded at 05:00 counts for it, as it counted for the old definition."""
    day, expect = datetime(2027, 3, 10, tzinfo=UTC), Expect.model_validate({"success_by": "07:00"})
    success = day + timedelta(hours=5)
    since = day + timedelta(hours=6) if counted == "success_by" else success
    changed = change(expect, Expectation(since, since + timedelta(hours=24)), day + timedelta(hours=6, minutes=30))
    assert changed == Expectation(day - timedelta(hours=17), day + timedelta(hours=7))
    assert advance(expect, changed, day + timedelta(hours=8), [Success(success)])[1] == []


@pytest.mark.parametrize("since", [7.0, 6.8], ids=["by the old time", "late, by the same time"])
def test_what_has_counted_for_this_morning_does_not_count_for_the_next_one(since: float) -> None:
    """At 07:30 the time becomes 06:00. What succeeded at 06:48 did so for this day, not for the next one."""
    day, expect = datetime(2027, 3, 10, tzinfo=UTC), Expect.model_validate({"success_by": "06:00"})
    counted = day + timedelta(hours=since)
    changed = change(expect, Expectation(counted, counted + timedelta(hours=24)), day + timedelta(hours=7.5))
    assert changed == Expectation(counted, day + timedelta(hours=30))
    _, events = advance(expect, changed, day + timedelta(hours=31), [Success(day + timedelta(hours=6.8))])
    assert [event.kind for event in events] == ["overdue"]


def test_after_a_change_a_success_since_the_last_time_counts() -> None:
    day, expect = datetime(2027, 3, 10, tzinfo=UTC), Expect.model_validate({"success_by": "09:00"})
    changed = change(expect, Expectation(day - timedelta(days=20), day + timedelta(days=9)), day + timedelta(hours=8))
    assert changed == Expectation(day - timedelta(hours=15), day + timedelta(hours=9))
    assert advance(expect, changed, day + timedelta(hours=10), [Success(day + timedelta(hours=3))])[1] == []


def test_a_change_keeps_that_a_job_is_overdue() -> None:
    day = datetime(2027, 3, 10, tzinfo=UTC)
    late = Expectation(day - timedelta(days=2), day, overdue_at=day, missed_at=day)
    for expect in (Expect.model_validate({"success_by": "06:00"}), Expect.model_validate({"every": "1h"})):
        changed = change(expect, late, day + timedelta(hours=8))
        assert changed._replace(due_at=day) == late
        assert changed.due_at > day + timedelta(hours=8)
