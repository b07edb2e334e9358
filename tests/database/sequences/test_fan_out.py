"""Steps that start their jobs for each value of a list, on every engine."""

import json
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import jobs, sequences
from jobfac.views.sequences import StepVisitView
from tests.support.database import Hand, define, get, start
from tests.support.sequences import Player, children, path

LOAD = {
    "command": ["load", "${parameters.region}"],
    "parameters": {"region": {"required": True}, "day": {"type": "date", "default": "2027-01-01"}},
}


def fan(db: Database, *more: dict[str, Any], own: dict[str, Any] | None = None, **step: Any) -> int:
    """Start a sequence whose first step fans out; returns its run."""
    first = {"name": "fan", "jobs": ["load"], **step}
    define(db, load=LOAD, after={}, seq={"steps": [first, *more], "parameters": own or {}})
    return start(db, "seq")


def values(db: Database, run_id: int) -> list[Any]:
    """The parameters of the children, oldest first."""
    return [json.loads(child["parameters"]) for child in children(db, run_id)]


def history(db: Database, run_id: int) -> list[StepVisitView]:
    with db.read() as conn:
        return sequences.step_history(conn, run_id)


def test_one_run_for_each_combination_in_order(db: Database) -> None:
    own = {"days": {"type": "date", "many": True, "default": ["2027-01-02", "2027-01-03"]}}
    run_id = fan(db, own=own, for_each={"region": ["eu", "us"], "day": "${parameters.days}"})
    player = Player(db)
    assert player.look() == ["load"] * 4
    assert values(db, run_id) == [
        {"region": region, "day": day} for region in ("eu", "us") for day in ("2027-01-02", "2027-01-03")
    ]
    assert [child["item"] for child in children(db, run_id)] == [0, 1, 2, 3]
    (visit,) = history(db, run_id)
    assert (visit.children, visit.counts) == (4, {"running": 4})
    player.finish("load", "load", "load")
    player.fail("load")
    assert path(db, run_id) == ["fan:mixed>end_failed"]
    assert history(db, run_id)[0].counts == {"failed": 1, "succeeded": 3}


def test_outputs_are_collected_in_order(db: Database) -> None:
    second = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    run_id = fan(db, second, for_each={"region": ["a", "b", "c"]})
    player = Player(db)
    player.look()
    held = list(player.held)
    for rows, claimed in ((3, held[2]), (1, held[0]), (None, held[1])):
        player.held = [claimed, *[one for one in player.held if one is not claimed]]
        player.finish("load", outputs=None if rows is None else json.dumps({"rows": rows}))
    assert json.loads(children(db, run_id)[3]["arguments"]) == ["[1, null, 3]"]


def test_values_that_were_never_started_have_their_place_among_the_outputs(db: Database) -> None:
    """A later step that has the values, too, would take those of another one."""
    second = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    more: dict[str, Any] = {"at_most": 1, "stop_on_failure": True, "on_mixed": "next"}
    run_id = fan(db, second, for_each={"region": ["a", "b", "c"]}, **more)
    player = Player(db)
    player.look()
    player.finish("load", outputs='{"rows": 1}')
    player.look()
    player.fail("load")
    assert json.loads(children(db, run_id)[2]["arguments"]) == ["[1, null, null]"]


@pytest.mark.each_driver
def test_outputs_that_are_too_long_fail_the_step_and_the_last_run_stays_ended(db: Database) -> None:
    """A result that is closed before its end is cancelled. With XACT_ABORT, SQL Server rolls back then."""
    second = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    run_id = fan(db, second, for_each={"region": [str(number) for number in range(30)]}, at_most=30)
    player = Player(db)
    for _ in range(3):
        claimed = player.look()
        player.finish(*claimed, outputs=json.dumps({"rows": "x" * 250_000}))
    assert player.look() == []
    assert [child["state"] for child in children(db, run_id)] == ["succeeded"] * 30
    assert path(db, run_id) == ["fan:success>sum", "sum:failure>end_failed"]
    reason = "the outputs of the runs of 'load' have more than 4,194,304 characters"
    assert reason in (history(db, run_id)[1].reason or "")


def test_a_later_step_fans_out_over_an_output(db: Database) -> None:
    steps = [
        {"name": "list", "jobs": ["after"]},
        {"name": "fan", "jobs": ["load"], "for_each": {"region": "${steps.list.after.outputs.regions}"}},
    ]
    define(db, load=LOAD, after={}, seq={"steps": steps})
    player = Player(db)
    ok = start(db, "seq")
    player.look()
    player.finish("after", outputs=json.dumps({"regions": ["x", "y"]}))
    wrong = start(db, "seq")
    player.look()
    player.finish("after", outputs=json.dumps({"regions": "x"}))
    assert [json.loads(child["parameters"])["region"] for child in children(db, ok)[1:]] == ["x", "y"]
    assert path(db, wrong) == ["list:success>fan", "fan:failure>end_failed"]
    assert history(db, wrong)[1].reason == (
        "for_each.region needs a list, but ${steps.list.after.outputs.regions} is none"
    )


def test_a_default_does_not_stand_for_null(db: Database) -> None:
    """A run without an output leaves null in the list: the default would be loaded in its place."""
    listing = {"name": "list", "jobs": ["after"]}
    loading = {
        "name": "fan",
        "jobs": ["load"],
        "parameters": {"load": {"region": "eu"}},
        "for_each": {"day": "${steps.list.after.outputs.days}"},
    }
    define(db, load=LOAD, after={}, seq={"steps": [listing, loading]})
    run_id, player = start(db, "seq"), Player(db)
    player.look()
    player.finish("after", outputs='{"days": ["2027-01-05", null]}')
    assert [json.loads(child["parameters"])["day"] for child in children(db, run_id)[1:]] == ["2027-01-05"]
    player.look()
    player.finish("load")
    assert path(db, run_id) == ["list:success>fan", "fan:mixed>end_failed"]
    (refused, *_) = history(db, run_id)[1].runs
    assert refused.reason == "its value for 'day' is null, and the default of the parameter would stand for it"


def test_at_most_so_many_run_at_a_time(db: Database) -> None:
    run_id = fan(db, for_each={"region": list("abcde")}, at_most=2)
    player = Player(db)
    for ended in range(5):
        assert len(player.look()) == min(2, 5 - ended)
        player.finish("load")
    assert get(db, run_id)["state"] == "succeeded"
    assert [one["region"] for one in values(db, run_id)] == list("abcde")


def test_a_job_that_begins_to_run_on_each_worker_gets_no_more_values(db: Database) -> None:
    """Its runs would be more than there are values: later values were left out, or the sequence never ended."""
    run_id = fan(db, for_each={"region": ["a", "b", "c"]}, at_most=1)
    player, _ = Player(db), Hand(db, "w2")
    player.look()
    define(db, load={**LOAD, "each_worker": True})
    player.finish("load")
    assert path(db, run_id) == ["fan:mixed>end_failed"]
    (visit,) = history(db, run_id)
    assert visit.counts == {"denied": 2, "succeeded": 1}
    assert "for_each cannot start the job 'load', which has each_worker" in get(db, run_id)["reason"]


def test_a_failure_stops_the_others(db: Database) -> None:
    run_id = fan(db, for_each={"region": list("abcd")}, at_most=3, stop_on_failure=True)
    player = Player(db)
    player.look()
    player.fail("load")
    states = [child["state"] for child in children(db, run_id)]
    assert states == ["failed", "stopping", "stopping"]
    player.finish("load", "load", state=RunState.STOPPED)
    assert path(db, run_id) == ["fan:failure>end_failed"]
    assert len(children(db, run_id)) == 3


def test_no_value_is_a_success_and_a_wrong_one_a_refusal(db: Database) -> None:
    each = {"region": "${parameters.regions}", "day": "${parameters.days}"}
    own = {name: {"many": True, "default": ["2027-01-01"]} for name in ("regions", "days")}
    define(db, load=LOAD, seq={"parameters": own, "steps": [{"name": "fan", "jobs": ["load"], "for_each": each}]})
    player = Player(db)
    empty = start(db, "seq", parameters={"regions": []})
    player.look()
    assert path(db, empty) == ["fan:success>end"]
    mixed = start(db, "seq", parameters={"regions": ["a", "b"], "days": ["2027-01-01", "x"]})
    player.look()
    player.finish("load", "load")
    assert path(db, mixed) == ["fan:mixed>end_failed"]
    visit = history(db, mixed)[0]
    assert (visit.counts, sorted(run.job for run in visit.runs if run.id is None)) == (
        {"denied": 2, "succeeded": 2}, ["load[1]", "load[3]"],
    )  # fmt: skip


def test_outputs_without_a_value_are_an_empty_list(db: Database) -> None:
    own = {"regions": {"many": True, "default": []}}
    then = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    run_id = fan(db, then, own=own, for_each={"region": "${parameters.regions}"})
    player = Player(db)
    assert player.look() == ["after"]
    assert json.loads(children(db, run_id)[0]["arguments"]) == ["[]"]


def test_a_visit_without_a_value_does_not_show_the_outputs_of_the_one_before(db: Database) -> None:
    step = {"name": "fan", "jobs": ["load"], "for_each": {"region": "${steps.list.list.outputs.regions}"}}
    then = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    steps = [{"name": "list", "jobs": ["list"]}, step, {**then, "on_success": {"step": "list"}}]
    define(db, load=LOAD, list={}, after={}, seq={"steps": steps, "maximum_visits": 2})
    player = Player(db)
    run_id = start(db, "seq")
    rounds = [("list", {"regions": ["a"]}), ("load", {"rows": 1}), ("after", {}), ("list", {"regions": []})]
    for job, outputs in rounds:
        assert player.look() == [job]
        player.finish(job, outputs=json.dumps(outputs))
    sums = [child["arguments"] for child in children(db, run_id) if child["job"] == "after"]
    assert sums == ['["[1]"]', '["[]"]']


def test_a_visit_that_refused_the_job_does_not_show_the_outputs_of_the_one_before(db: Database) -> None:
    step = {"name": "load", "jobs": ["after"], "on_failure": "next"}
    then = {"name": "sum", "jobs": ["last"], "arguments": {"last": ["${steps.load.after.outputs.rows}"]}}
    define(db, after={}, last={}, seq={"steps": [step, {**then, "on_success": {"step": "load"}}], "maximum_visits": 2})
    player = Player(db)
    run_id = start(db, "seq")
    player.look()
    player.finish("after", outputs='{"rows": 1}')
    assert player.look() == ["last"]
    db.transact(jobs.enable, "after", enabled=False, by="me")
    player.finish("last")
    assert player.look() == []
    assert "job 'after' of step 'load' has not ended before" in (history(db, run_id)[-1].reason or "")
    assert get(db, run_id)["state"] == "failed"


def test_nested_sequences_fan_out_too(db: Database) -> None:
    inner = {"parameters": {"region": {}}, "steps": [{"name": "one", "jobs": ["load"], "parameters": {
        "load": {"region": "${parameters.region}"}}}]}  # fmt: skip
    define(
        db,
        load=LOAD,
        inner=inner,
        seq={"steps": [{"name": "fan", "jobs": ["inner"], "for_each": {"region": ["a", "b"]}}]},
    )
    player = Player(db)
    run_id = start(db, "seq")
    assert player.look() == ["load", "load"]
    player.finish("load", "load")
    assert get(db, run_id)["state"] == "succeeded"


def test_a_thousand_children(db: Database) -> None:
    run_id = fan(db, for_each={"region": [f"r{number}" for number in range(1000)]})
    player = Player(db)
    player.look()
    assert len(children(db, run_id)) == 500  # in one transaction
    while get(db, run_id)["state"] == "running":
        player.look()
        player.finish(*["load"] * min(200, len(player.held)))
    assert get(db, run_id)["state"] == "succeeded"
    assert [child["item"] for child in children(db, run_id)] == list(range(1000))
    (visit,) = history(db, run_id)
    assert (visit.children, visit.counts, len(visit.runs)) == (1000, {"succeeded": 1000}, 100)


def test_limits_end_a_sequence_with_a_sentence(db: Database) -> None:
    limited = Database(str(db.url.render_as_string(hide_password=False)), sequence_limit=4)
    over = fan(db, for_each={"region": list("abcde")})
    wait = {"name": "b", "wait": {"duration": "1ms"}, "on_success": {"step": "a"}, "on_failure": "end"}
    loop = {"steps": [{"name": "a", "jobs": ["after"], "on_success": {"step": "b"}}, wait]}
    define(db, loop=loop, after={})
    looping = start(db, "loop")
    player = Player(limited)
    player.look()
    (visit,) = history(db, over)
    assert visit.reason == "the run would have 5 runs of jobs; the setting sequence_limit is 4"
    while get(db, looping)["state"] == "running":
        if player.held:
            player.finish("after")
        limited.transact(sequences.sweep, "sweeper")
        player.look()
    assert get(db, looping)["reason"] == (
        "it has visited 4 steps, which the setting sequence_limit allows; check it for loops"
    )
    limited.close()


@pytest.mark.parametrize("gone", [(0, 0), (2, 2), (0, 2)])
def test_a_retry_refuses_outputs_some_of_which_were_purged(db: Database, gone: tuple[int, int]) -> None:
    """The retention of the job may be shorter than a fan, and the later step would do a part of the work."""
    second = {"name": "sum", "jobs": ["after"], "arguments": {"after": ["${steps.fan.load.outputs.rows}"]}}
    run_id = fan(db, second, for_each={"region": ["a", "b", "c"]})
    player = Player(db)
    player.look()
    player.finish("load", "load", "load", outputs='{"rows": 1}')
    player.look()
    player.fail("after")
    with db.begin() as conn:
        conn.execute(run.delete().where(run.c.job == "load", run.c.item.between(*gone)))
    again = db.transact(sequences.retry, run_id, "me", from_failed=True).run_id
    player.look()
    assert get(db, again)["state"] == "failed"
    assert "purged" in get(db, again)["reason"]
