"""Pure decisions about the next step and the end of a sequence."""

from datetime import UTC, datetime
from typing import Any

import pytest

from jobfac import definitions as d
from jobfac.definitions import Go
from jobfac.states import FINAL, RunState, StepResult
from jobfac.store.sequences.decide import (
    Enter,
    Finish,
    Leave,
    Visit,
    decide,
    failed_step,
    is_open,
    judge,
    outcome,
    result_of,
    step_of,
)
from jobfac.store.sequences.plans.simulate import Walk, simulate

GOOD, BAD, HALF = RunState.SUCCEEDED, RunState.FAILED, RunState.MIXED
SUCCESS, FAILURE, MIXED = StepResult.SUCCESS, StepResult.FAILURE, StepResult.MIXED
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


def sequence(*steps: dict[str, Any], **more: Any) -> d.Sequence:
    known = {job: {"command": ["true"], "parameters": {"n": {}}} for step in steps for job in step["jobs"]}
    definition = d.from_data({"jobs": {"seq": {"steps": list(steps), **more}}}, known=known).jobs["seq"]
    assert isinstance(definition, d.Sequence)
    return definition


def step(name: str, *jobs: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "jobs": list(jobs) or ["a"], **more}


@pytest.mark.parametrize(
    ("ended", "result"),
    [
        ([GOOD, GOOD], SUCCESS),
        ([BAD, BAD], FAILURE),
        ([GOOD, BAD], MIXED),
        ([HALF], MIXED),
        ([GOOD, HALF], MIXED),
        ([BAD, HALF], MIXED),
        ([RunState.TIMED_OUT, RunState.LOST, RunState.START_FAILED, RunState.DENIED, RunState.STOPPED], FAILURE),
    ],
)
def test_final_states_are_combined(ended: list[RunState], result: StepResult) -> None:
    assert judge(ended) == result


def test_every_final_state_has_a_result() -> None:
    assert {judge([state]) for state in FINAL} == {SUCCESS, FAILURE, MIXED}


@pytest.mark.parametrize(
    ("proceed", "ended", "running", "result"),
    [
        ("when_all", [], 2, None),
        ("when_all", [BAD], 1, None),
        ("when_all", [BAD, GOOD], 0, MIXED),
        ("when_any", [], 2, None),
        ("when_any", [BAD], 1, FAILURE),
        ("when_any", [GOOD, BAD], 0, SUCCESS),
        ("at_once", [], 2, StepResult.AT_ONCE),
        ("at_once", [BAD, BAD], 0, StepResult.AT_ONCE),
    ],
)
def test_a_visit_is_decided_according_to_proceed(
    proceed: str, ended: list[RunState], running: int, result: StepResult | None
) -> None:
    only = sequence(step("one", "a", "b", proceed=proceed)).steps[0]
    assert result_of(only, ended, running) == result


def test_a_sequence_begins_with_the_first_or_the_given_step() -> None:
    definition = sequence(step("one"), step("two"))
    assert decide(definition, None) == Enter("one")
    assert decide(definition, None, first="two") == Enter("two")


def test_next_is_the_following_step_and_then_the_end() -> None:
    definition = sequence(step("one"), step("two", on_failure="next"))
    assert decide(definition, Visit("one", [GOOD], 0)) == Leave(SUCCESS, Go(kind="step", step="two"))
    assert decide(definition, Visit("one", [BAD], 0)) == Leave(FAILURE, Go(kind="end_failed"))
    assert decide(definition, Visit("two", [BAD], 0)) == Leave(FAILURE, Go(kind="end"))
    assert decide(definition, Visit("two", [], 1)) is None


def test_a_decided_visit_leads_to_the_next_move() -> None:
    definition = sequence(step("one", on_success={"step": "two"}), step("two"), maximum_visits=3)
    to_two = Visit("one", [GOOD], 0, SUCCESS, Go(kind="step", step="two"))
    assert decide(definition, to_two, entered=2) == Enter("two")
    assert decide(definition, to_two, entered=3) == Finish(True, "step 'two' would be visited more than 3 times")
    assert decide(definition, Visit("two", [GOOD], 0, SUCCESS, Go(kind="end"))) == Finish(False, None)
    failed = decide(definition, Visit("two", [BAD], 0, FAILURE, Go(kind="end_failed")))
    assert failed == Finish(True, "step 'two' (failure) leads to end_failed")


def visits(*results: tuple[str, StepResult | None], ended: list[RunState] | None = None) -> list[Visit]:
    return [Visit(name, ended or [], 0, result, Go(kind="end")) for name, result in results]


@pytest.mark.parametrize(
    ("path", "state"),
    [
        (visits(("a", SUCCESS), ("b", SUCCESS)), "succeeded"),
        (visits(("a", StepResult.SKIPPED)), "succeeded"),
        (visits(("a", FAILURE)), "failed"),
        (visits(("a", FAILURE), ("b", FAILURE), ("c", StepResult.SKIPPED)), "failed"),
        (visits(("a", FAILURE), ("b", SUCCESS)), "mixed"),
        (visits(("a", MIXED)), "mixed"),
        (visits(("a", FAILURE), ("repair", SUCCESS), ("a", SUCCESS)), "succeeded"),
        (visits(("a", SUCCESS), ("b", SUCCESS), ("a", FAILURE)), "mixed"),
        (visits(("a", FAILURE), ("wait", SUCCESS), ("a", StepResult.SKIPPED)), "mixed"),
        (visits(("a", FAILURE), ("a", StepResult.SKIPPED)), "failed"),
        (visits(("a", SUCCESS), ("a", StepResult.SKIPPED)), "succeeded"),
        (visits(("a", StepResult.AT_ONCE), ended=[GOOD, BAD]), "mixed"),
        (visits(("a", StepResult.AT_ONCE), ended=[GOOD]), "succeeded"),
    ],
)
def test_the_outcome_of_a_sequence(path: list[Visit], state: str) -> None:
    found, reason = outcome(Finish(False, None), path)
    assert found == state
    assert (reason is None) == (state == "succeeded")


def test_end_failed_is_failed_whatever_the_steps_were() -> None:
    assert outcome(Finish(True, "because"), visits(("a", SUCCESS))) == (RunState.FAILED, "because")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ([], "one"),
        (visits(("one", SUCCESS), ("two", FAILURE), ("alert", SUCCESS)), "two"),
        (visits(("one", FAILURE), ("two", SUCCESS), ("three", MIXED), ("alert", SUCCESS)), "three"),
        (visits(("one", FAILURE), ("two", SUCCESS), ("one", SUCCESS)), None),
        (visits(("one", FAILURE), ("two", SUCCESS), ("one", StepResult.SKIPPED)), "one"),
        (visits(("one", SUCCESS), ("two", None)), "two"),
        ([Visit("one", [GOOD], 0, SUCCESS, Go(kind="step", step="two"))], "two"),
    ],
)
def test_the_step_from_which_a_retry_continues(path: list[Visit], name: str | None) -> None:
    assert failed_step(sequence(step("one"), step("two")), path) == name


def test_a_step_is_open_by_its_own_zone() -> None:
    when = {"times": {"between": ["22:00-04:00"]}, "timezone": "Europe/Berlin", "otherwise": "end"}
    definition = sequence(step("one", start_if=when), step("two"))
    assert is_open(step_of(definition, "one"), datetime(2027, 3, 1, 21, 30, tzinfo=UTC))
    assert not is_open(step_of(definition, "one"), NOW)
    assert is_open(step_of(definition, "two"), NOW)


def way(walk: Walk) -> list[str]:
    return [f"{stop.visit.step}:{stop.visit.result}" for stop in walk.stops]


NIGHT = sequence(
    step("extract", "a", "b", on_failure={"step": "alert"}, on_mixed={"step": "repair"}),
    step("load", "a", "b", proceed="when_any", start_if={"times": {"hours": [12]}, "otherwise": {"step": "close"}}),
    step("close", "c", on_success="end", on_failure={"step": "alert"}),
    step("repair", "d", on_success={"step": "extract"}),
    step("alert", "e", on_success="end_failed"),
    maximum_visits=3,
)


def test_without_outcomes_all_jobs_succeed() -> None:
    walk = simulate(NIGHT, {}, NOW)
    assert way(walk) == ["extract:success", "load:success", "close:success"]
    assert (walk.state, walk.reason) == (RunState.SUCCEEDED, None)
    assert walk.stops[0].jobs == {"a": "succeeded", "b": "succeeded"}


def test_outcomes_apply_visit_by_visit() -> None:
    walk = simulate(NIGHT, {("extract", "b"): [BAD, GOOD]}, NOW.replace(hour=13))
    assert way(walk) == ["extract:mixed", "repair:success", "extract:success", "load:skipped", "close:success"]
    assert [stop.number for stop in walk.stops] == [1, 1, 2, 1, 1]
    assert walk.state == RunState.SUCCEEDED


def test_the_last_outcome_applies_to_all_later_visits() -> None:
    walk = simulate(NIGHT, {("extract", "b"): [BAD]}, NOW)
    assert way(walk) == ["extract:mixed", "repair:success"] * 3
    assert (walk.state, walk.reason) == (RunState.FAILED, "step 'extract' would be visited more than 3 times")


def test_a_simulation_ends_at_the_limit_of_a_run() -> None:
    loop = simulate(
        sequence(step("one", "a", on_success={"step": "two"}), step("two", "a", on_success={"step": "one"})),
        {},
        NOW,
        limit=5,
    )
    assert (len(loop.stops), loop.state) == (5, RunState.FAILED)
    assert loop.reason == "it has visited 5 steps, which the setting sequence_limit allows; check it for loops"
    many = sequence(
        step("one", "a"),
        step("fan", "b", for_each={"n": list(range(40))}, on_failure={"step": "alert"}),
        step("alert", "c"),
    )
    walk = simulate(many, {}, NOW, limit=40)
    assert way(walk) == ["one:success", "fan:failure", "alert:success"]
    assert walk.stops[1].reason == "the run would have 41 runs of jobs; the setting sequence_limit is 40"
    assert way(simulate(many, {}, NOW, limit=42)) == ["one:success", "fan:success", "alert:success"]


def test_the_order_of_outcomes_decides_a_step_that_waits_for_any() -> None:
    first_b = simulate(NIGHT, {("load", "b"): [BAD], ("load", "a"): [GOOD]}, NOW)
    assert way(first_b)[-1] == "load:failure"
    assert first_b.state == RunState.FAILED
    first_a = simulate(NIGHT, {("load", "a"): [GOOD], ("load", "b"): [BAD]}, NOW)
    assert way(first_a)[-1] == "close:success"


def test_a_long_sequence_is_walked_without_a_search_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    long = sequence(*(step(f"s{number}") for number in range(300)))
    monkeypatch.setattr(type(long.steps[0]), "__eq__", None)  # comparing a step with every other one takes long
    walk = simulate(long, {}, NOW, limit=1000)
    assert (len(walk.stops), walk.stops[-1].visit.step) == (300, "s299")
