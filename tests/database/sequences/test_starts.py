"""What a step passes to its jobs, and the outcome of jobs that cannot be started."""

import json
from typing import Any

import pytest

from jobfac import definitions
from jobfac.database.engine import Database
from jobfac.definitions import DefinitionError
from jobfac.store import jobs, sequences
from tests.support.database import define, start, state
from tests.support.outbox import notified_events
from tests.support.sequences import Player, children, path


def test_refused_starts_are_failures_with_reasons(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "off", "gone"], "on_mixed": "next"}, {"name": "two", "jobs": ["off"]}]
    define(db, a={}, off={}, gone={}, seq={"steps": steps})
    with db.begin() as conn:
        jobs.enable(conn, "off", False, "me")
        jobs.remove(conn, "gone", "me")
    run_id = start(db, "seq")
    player = Player(db)
    assert player.look() == ["a"]
    player.finish("a")
    assert path(db, run_id) == ["one:mixed>two", "two:failure>end_failed"]
    with db.read() as conn:
        shown = {one.job: one for one in sequences.step_history(conn, run_id)[0].runs}
    assert (shown["off"].state, shown["off"].id) == ("denied", None)
    assert "disabled" in (shown["off"].reason or "")
    assert "no job 'gone'" in (shown["gone"].reason or "")
    assert state(db, run_id) == "failed"


def test_a_value_that_has_become_text_of_a_program_starts_nothing(db: Database) -> None:
    """The job had another command when the sequence was applied."""
    step = {"name": "one", "jobs": ["a", "b"], "arguments": {"a": ["-c", "echo ${parameters.x}"], "b": ["true"]}}
    define(db, a={"command": ["echo"]}, b={"command": ["sh", "-c"]}, seq={"steps": [step], "parameters": {"x": {}}})
    define(db, a={"command": ["env", "bash"]})
    run_id = start(db, "seq", parameters={"x": "; rm -rf /"})
    assert Player(db).look() == ["b"]
    with db.read() as conn:
        shown = {one.job: one for one in sequences.step_history(conn, run_id)[0].runs}
    assert (shown["a"].state, shown["b"].state) == ("denied", "running")
    assert "would run argument 2, which holds a value, as text of a program" in (shown["a"].reason or "")


def test_what_an_earlier_version_has_stored_runs_until_it_is_applied_again(db: Database) -> None:
    """It took free text as a variable of a SQL script, and several addresses as one."""
    notify = [{"on": ["succeeded"], "to": {"email": ["u0,u1@x.org"]}}]
    load = {"command": ["sqlcmd", "-i", "x.sql", "-v"], "environment": {"HOME": "/home/${parameters.x}"}}
    step = {"name": "one", "jobs": ["load"], "arguments": {"load": ["day=${parameters.x}"]}}
    free = {"parameters": {"x": {"default": "a b"}}}
    bodies: dict[str, Any] = {"load": {**load, **free, "notify": notify}, "seq": {"steps": [step], **free}}
    with pytest.raises(DefinitionError, match="would become a part of a program"):
        definitions.from_data({"jobs": bodies})
    for job, body in bodies.items():
        db.transact(jobs.put, job, definitions.from_canonical(job, body), "tester")
    run_id = start(db, "seq")
    player = Player(db)
    assert player.look() == ["load"]
    (child,) = children(db, run_id)
    assert json.loads(child["arguments"]) == ["day=a b"]
    player.finish("load")
    assert state(db, run_id) == "succeeded"
    assert notified_events(db) == [("load", "succeeded")]


def test_a_denied_job_is_a_failure(db: Database) -> None:
    define(db, a={"already_running": "deny"}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    start(db, "a")
    run_id = start(db, "seq")
    Player(db).look()
    assert path(db, run_id) == ["one:failure>end_failed"]
    assert [child["state"] for child in children(db, run_id)] == ["denied"]
    assert state(db, run_id) == "failed"


def test_outputs_are_passed_to_later_steps(db: Database) -> None:
    steps = [
        {"name": "x", "jobs": ["a", "b.c"]},
        {"name": "y", "jobs": "a", "arguments": {"a": ["--rows=${steps.x.a.outputs.rows}", "${HOME}"]},
         "payloads": {"a": "${steps.x.b.c.outputs.file}, ${steps.x.a.outputs.more}"}},
    ]  # fmt: skip
    define(db, **{"a": {}, "b.c": {}, "seq": {"steps": steps}})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("a", outputs='{"rows": 12, "more": [1, "ä"]}')
    player.finish("b.c", outputs='{"file": "o\\"k.csv"}')
    last = children(db, run_id)[-1]
    assert last["arguments"] == '["--rows=12", "${HOME}"]'
    assert last["payload"] == 'o"k.csv, [1, "ä"]'


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("steps.x.a.outputs.colour", "reported only 'rows'"),
        ("steps.x.b.outputs.rows", "reported nothing"),
        ("steps.z.a.outputs.rows", "has not ended before"),
    ],
)
def test_an_unknown_reference_fails_the_step(sqlite_url: str, reference: str, words: str) -> None:
    db = Database(sqlite_url)
    steps = [
        {"name": "x", "jobs": ["a", "b"]},
        {"name": "y", "jobs": ["a", "b"], "payloads": {"b": f"${{{reference}}}"}, "on_failure": "next"},
        {"name": "z", "jobs": "a"},
    ]
    define(db, a={}, b={}, seq={"steps": steps})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("b")
    player.finish("a", outputs='{"rows": 12}')
    assert path(db, run_id) == ["x:success>y", "y:failure>z", "z:None>None"]
    with db.read() as conn:
        failed = sequences.step_history(conn, run_id)[1]
    assert (failed.start, failed.runs) == ("failed", [])
    assert failed.reason is not None
    assert reference in failed.reason
    assert words in failed.reason
    db.close()


def test_values_of_the_start_override_those_of_the_step(db: Database) -> None:
    inner = {"steps": [{"name": "i", "jobs": ["a", "b"], "arguments": {"b": ["own"]}}]}
    steps = [{"name": "o", "jobs": ["a", "inner"], "arguments": {"a": ["own"]}, "payloads": {"a": "own"}}]
    define(db, a={}, b={"replace_arguments": False}, inner=inner, seq={"steps": steps})
    overrides = {"arguments": {"a": ["other"]}, "payloads": {"b": "deep"}}
    run_id = start(db, "seq", overrides=overrides)
    Player(db).look()
    a, nested = children(db, run_id)
    assert (a["arguments"], a["payload"], a["overrides"]) == ('["other"]', "own", None)
    received = [(child["job"], child["arguments"], child["payload"]) for child in children(db, nested["id"])]
    assert received == [("a", '["other"]', None), ("b", '["own"]', "deep")]


@pytest.mark.parametrize(
    ("job", "options", "words"),
    [
        ("seq", {"overrides": {"arguments": {"bb": ["x"]}}}, "has no job 'bb' inside; did you mean 'b'?"),
        ("seq", {"overrides": {"payloads": {"other": "x"}}}, "has no job 'other' inside"),
        ("seq", {"overrides": {"payloads": {"inner": "x"}}}, "has the sequence 'inner' inside, which takes none"),
        ("seq", {"payload": "x"}, "is a sequence, which takes arguments and payloads by job id"),
        ("seq", {"arguments": ["x"]}, "is a sequence, which takes arguments and payloads by job id"),
        ("a", {"overrides": {"payloads": {"a": "x"}}}, "is a program, which takes a list of arguments and one payload"),
    ],
)
def test_values_for_unknown_jobs_are_refused(db: Database, job: str, options: dict[str, Any], words: str) -> None:
    inner = {"steps": [{"name": "i", "jobs": ["b"]}]}
    define(db, a={}, b={}, other={}, inner=inner, seq={"steps": [{"name": "o", "jobs": ["a", "inner"]}]})
    with pytest.raises(DefinitionError) as caught:
        start(db, job, **options)
    assert words in str(caught.value)
    start(db, "seq", overrides={"arguments": {"b": ["x"]}, "payloads": {"a": "x"}})


@pytest.mark.parametrize("key", ["inside", "around"])
def test_no_job_waits_for_a_place_that_its_own_sequence_has(db: Database, key: str) -> None:
    one = {"concurrency": {"limit": 1, "key": "k"}}
    seq = {"steps": [{"name": "a", "jobs": "first"}, {"name": "b", "jobs": "load"}]}
    outer = {"steps": [{"name": "o", "jobs": "seq"}]}
    if key == "inside":
        define(db, first={}, load={}, seq={**seq, **one}, outer=outer)
    else:
        define(db, first={}, load={}, seq=seq, outer={**outer, **one})
    run_id, player = start(db, "outer"), Player(db)
    assert player.look() == ["first"]
    define(db, first={}, load=one, seq=seq, outer=outer)
    player.finish("first")
    assert player.look() == []
    assert str(children(db, run_id)[0]["reason"]) == (
        "step 'b' failed: job 'load' would wait for ever for a place of 'k' (limit 1), since its own sequence has it; "
        "use another key, and retry the sequence"
    )
    db.transact(sequences.retry, run_id, "me")
    player.look()
    player.finish("first")
    assert player.look() == ["load"], "the sequence has the key no more"
