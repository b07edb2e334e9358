"""Which recorded ends start runs: pure decisions."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import Schedule
from jobfac.store.schedules.following import Later, decide
from jobfac.store.upstream import End

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


def rule(**more: Any) -> Schedule:
    return Schedule.model_validate({"after": {"job": "a"}, **more})


def ends(*ago: tuple[str, float]) -> list[End]:
    """Ends of these jobs, so many minutes ago, oldest first."""
    return [
        End(1, number, job, "succeeded", NOW - timedelta(minutes=minutes))
        for number, (job, minutes) in enumerate(ago, 1)
    ]


def test_each_end_starts_a_run() -> None:
    found = ends(("a", 5), ("a", 1))
    decision = decide(rule(), found, NOW, None)
    assert decision.starts == [[found[0]], [found[1]]]
    assert (decision.used, decision.missed) == (found, [])


def test_what_is_too_old_is_missed_as_the_policy_says() -> None:
    found = ends(("a", 90), ("a", 70), ("a", 1))
    for policy, started in (("skip", [3]), ("once", [2, 3]), ("all", [1, 2, 3])):
        decision = decide(rule(within="1h", missed=policy), found, NOW, None)
        assert [one.run_id for (one,) in decision.starts] == started
        assert len(decision.missed) == 3 - len(started)
        assert decision.used == found


def test_ends_in_a_pause_are_missed() -> None:
    found = ends(("a", 30), ("a", 1))
    decision = decide(rule(), found, NOW, NOW - timedelta(minutes=10))
    assert (decision.starts, decision.missed) == ([[found[1]]], [found[0]])


def test_a_window_drops_missed_ends_that_are_older() -> None:
    found = ends(("a", 180), ("a", 100), ("a", 30), ("a", 1))
    resumed_at = NOW - timedelta(minutes=10)
    for policy, started in (("once", [3, 4]), ("all", [2, 3, 4])):
        missed = {"policy": policy, "window": "2h"}
        decision = decide(rule(missed=missed), found, NOW, resumed_at)
        assert [one.run_id for (one,) in decision.starts] == started
        assert [one.run_id for one in decision.missed] == [n for n in (1, 2, 3) if n not in started]
        assert decide(rule(missed={**missed, "window": "20m"}), found, NOW, resumed_at).starts == [[found[3]]]
    late = decide(rule(within="1h", missed={"policy": "all", "window": "2h"}), found, NOW, None)
    assert [one.run_id for one in late.missed] == [1]


@given(
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from(["skip", "once", {"policy": "all", "maximum": 4}]),
    st.sampled_from([None, "6m", "3m"]),
)
def test_pages_of_missed_ends_are_one_decision(size: int, number: int, missed: Any, window: str | None) -> None:
    found = ends(*(("a", ago) for ago in range(number + 2, 0, -1)))
    resumed_at = NOW - timedelta(minutes=2.5)
    policy = {"policy": missed} if isinstance(missed, str) else missed
    one = rule(missed=policy | ({"window": window} if window else {}))
    whole = decide(one, found, NOW, resumed_at)
    pages, said = [], []
    for at in range(0, len(found), size):
        rest = [end for end in found[at + size :] if end.ended_at < resumed_at]
        young = [end for end in rest if window is None or NOW - end.ended_at <= timedelta(minutes=int(window[0]))]
        pages.append(decide(one, found[at : at + size], NOW, resumed_at, Later(len(rest), len(young))))
        said += pages[-1].missed[-1:] if not pages[-1].drops_later else []
    assert [start for page in pages for start in page.starts] == whole.starts
    assert [end for page in pages for end in page.missed] == whole.missed
    assert said == whole.missed[-1:]


BOTH = {"all": [{"job": "a"}, {"job": "b"}]}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 200)), min_size=1, max_size=8), st.booleans())
def test_all_starts_one_run_when_all_are_there_and_near(ago: list[tuple[str, int]], near: bool) -> None:
    found = ends(*sorted(ago, key=lambda one: -one[1]))
    decision = decide(rule(after=BOTH, **({"within": "1h"} if near else {})), found, NOW, None)
    counted = [one for one in found if not near or found[-1].ended_at - one.ended_at <= timedelta(hours=1)]
    if {one.job for one in counted} == {"a", "b"}:
        (causes,) = decision.starts
        assert sorted(one.job for one in causes) == ["a", "b"]
        assert causes[-1].ended_at == found[-1].ended_at
        assert decision.used == found
    else:
        assert decision.starts == []
    assert decision.missed == [one for one in found if one not in counted]


def test_all_starts_nothing_for_a_pause_in_which_the_last_one_ended() -> None:
    resumed_at = NOW - timedelta(minutes=10)
    found = ends(("a", 30), ("b", 20))
    for policy, number in (("skip", 0), ("once", 1), ("all", 1)):
        decision = decide(rule(after=BOTH, missed=policy), found, NOW, resumed_at)
        assert len(decision.starts) == number
        assert (decision.used, decision.missed) == (found, [] if number else found)
        for window, most in (("25m", number), ("15m", 0)):
            windowed = rule(after=BOTH, missed={"policy": policy, "window": window})
            assert len(decide(windowed, found, NOW, resumed_at).starts) == most
    found = ends(("a", 30), ("b", 5))
    assert decide(rule(after=BOTH), found, NOW, resumed_at).starts == [found]
    assert decide(rule(after=BOTH), found[:1], NOW, resumed_at).used == []
