"""A pattern of a parameter cannot freeze a process, with any value."""

import contextlib
import json
import re
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.definitions.document import read_document
from jobfac.definitions.parameters import matching
from jobfac.definitions.parameters.matching import is_simple
from jobfac.definitions.parameters.values import Kind, Limits, read_value
from jobfac.operations import jobs, starting
from jobfac.operations.caller import Caller
from jobfac.store import jobs as stored_jobs
from jobfac.store import runs, schedules, sequences
from jobfac.store.runs import StartRequest
from jobfac.store.schedules import ArrivedFile
from jobfac.store.sequences import advance
from jobfac.worker.executions.filling import with_slow_patterns
from tests.support import database as helpers
from tests.support.api_stage import Served
from tests.support.factory import wait_for

SLOW = r"(\w|\w\w|\s)*"
LONG = "a" * 60 + "!"


@pytest.mark.parametrize(
    "pattern",
    [
        SLOW,
        "(a|a)*b",
        "(a?){40}a{40}b",
        "a*a*a*a*a*a*a*a*b",
        r"(?=(a+)+b)a",
        r"(?<=a)?(a+)+>b",
        r"(.+)-\1",
        "(?#[)(a+)+b(?#])",
        "(?x)#[\n(a+)+b#]\n",
        "(?im-x:a)(?ix:#[\n(a+)+b#]\n)",
    ],  # comments hide the choices
)
def test_patterns_that_may_take_long_are_not_simple(pattern: str) -> None:
    assert not is_simple(pattern)


@pytest.mark.parametrize(
    "pattern", ["[A-Z]{3}", r"\d{4}-\d\d", "[*+?|]+", "eu|us", r"(?P<year>\d{4})/[^/]+", r"\+\*[]a+]?"]
)
def test_usual_patterns_are_simple(pattern: str) -> None:
    assert is_simple(pattern)


@pytest.mark.parametrize("pattern", ["a*b", r"(.+)-\1"])
def test_long_texts_are_matched_in_bounded_time(pattern: str, open_at_matches: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"must match|more than 100,000"):
        read_value(Limits("text", pattern=pattern), "-" * 200_000 + "x")
    assert len(open_at_matches) == ("(" not in pattern)


def test_a_step_with_many_texts_that_take_too_long_holds_nobody_for_long(sqlite: Database) -> None:
    """Each of them had a second, in which the worker that began the jobs claimed nothing."""
    helpers.define(sqlite, job={"parameters": {"p": {"pattern": SLOW}}})
    texts = ["x", *(f"{LONG}{number}" for number in range(20)), "y"]
    before = time.thread_time()
    started = sqlite.transact(runs.start_each, [StartRequest("job", "me", parameters={"p": text}) for text in texts])
    assert time.thread_time() - before < 1.5 * matching.TOGETHER
    assert isinstance(started[0], int)
    assert all("within 1 s" in str(one) for one in started[1:])


def test_texts_beside_one_that_takes_too_long_are_matched(sqlite: Database) -> None:
    helpers.define(sqlite, job={"parameters": {"p": {"pattern": SLOW}}})
    texts = ["v", f"{LONG}v", "w", "v!", "v v"]
    started = sqlite.transact(runs.start_each, [StartRequest("job", "me", parameters={"p": text}) for text in texts])
    assert [isinstance(one, int) for one in started] == [True, False, True, False, True]


@pytest.mark.parametrize(("length", "is_slow"), [(10, False), (200_000, True)])
def test_no_loop_of_a_worker_waits_for_the_match_of_a_long_text(sqlite: Database, length: int, is_slow: bool) -> None:
    helpers.define(sqlite, job={"parameters": {"p": {"pattern": "a*b"}}})
    starting.start(sqlite, Caller("me"), StartRequest("job", "me", parameters={"p": "a" * length + "b"}))
    claimed = helpers.Hand(sqlite).take()
    with sqlite.read() as conn:
        known = {("job", 1): stored_jobs.find_version(conn, "job", 1)}
    assert with_slow_patterns([claimed], known) == [claimed] * is_slow


def test_runs_of_a_login_whose_values_take_too_long_hold_no_worker_for_long(served: Served) -> None:
    """T-SQL matches no pattern, so the worker that claims the runs does. Each of them had a second."""
    served.define("slow", parameters={"p": {"pattern": SLOW}, "q": {"default": "x"}})
    ids = [served.start("slow", parameters={"p": "x"}, delay="1h") for _ in range(20)]
    with served.db.begin() as conn:
        for place, run_id in enumerate(ids):
            stored = json.dumps({"p": f"{LONG}{place}"} | ({"q": "y"} if place % 2 else {}))
            change = {"parameters": stored, "state": "queued", "queued_at": run.c.created_at, "ready_at": None}
            conn.execute(run.update().where(run.c.id == run_id).values(change))
    before = children_time()
    with served.worker(slots=20):
        wait_for(lambda: {one["state"] for one in ended(served)} == {"start_failed"}, "all starts have failed", 60)
    assert children_time() - before < 2 * 1.5 * matching.TOGETHER
    assert all("within 1 s" in one["reason"] for one in ended(served))


def ended(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.viewer.get("/v1/runs").json()["items"]
    return found


def children_time() -> float:
    """CPU seconds of the ended processes that this one has started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("value", ["1" * 20_000, "1" * 20_000 + "x", "." + "1" * 20_000 + "x", "1m " * 20_000 + "x"])
def test_a_long_value_is_read_quickly(kind: Kind, value: str) -> None:
    """A number of 60,000 digits and a letter kept a process from everything else for a minute."""
    before = time.thread_time()
    with contextlib.suppress(ValueError):
        read_value(Limits(kind, choices=("a", "b")), value)
    assert time.thread_time() - before < 1.0


def test_a_duration_has_few_parts() -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        read_value(Limits("duration"), "1m" * 1000)


def test_a_long_number_in_a_file_is_read_quickly() -> None:
    before = time.thread_time()
    assert read_document("a: " + "1" * 20_000 + "._").value == {"a": "1" * 20_000 + "._"}
    assert time.thread_time() - before < 1.0


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("value", ["a b", "a" * 20, "a!", ""])
def test_a_pattern_means_the_same_in_bounded_time(value: str, many: bool) -> None:
    limits, given = Limits("text", many, pattern=SLOW), ["x", value] if many else value
    if re.fullmatch(SLOW, value):
        assert read_value(limits, given) == given
    else:
        with pytest.raises(ValueError, match="must match"):
            read_value(limits, given)


@pytest.mark.parametrize(
    "pattern",
    [
        "[a[:digit:]]+-[:digit:1]+",
        "(?:eu|us){e<=1}[0-9]*",
        r"(\{a{2,3}|b{,2}|[^][{}]+){1}",
        r"[\[{]+\[?\{e}",
        "a{e}*|{}",
        r"(\w|\W)*",
        r"(?#[)(\N{LATIN SMALL LETTER E}|u)+1(?P<n>x)?",
        r"(e)(u)1|(x)\3",
    ],
)
@pytest.mark.parametrize(
    "text", ["1-2", "d]-d]", "eu1", "ex1", "eu{e<=1}1", "{aa", "bb", "[[{e}", "a{e}", "{}", "x", ""]
)
def test_a_pattern_means_what_re_says(pattern: str, text: str) -> None:
    limits = Limits("text", pattern=pattern)
    if re.fullmatch(pattern, text):
        assert read_value(limits, text) == text
    else:
        with pytest.raises(ValueError, match="must match"):
            read_value(limits, text)


@pytest.mark.parametrize("pattern", ["(([A-Z]+)(-|_)?)*", "(" * 300 + "a|b" + ")" * 300, "([A-Z-])*"])
def test_no_match_takes_much_memory(pattern: str) -> None:
    """The library keeps what each group has matched. An error of memory ended the worker, and the next one."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="has more than 100,000 characters"):
        read_value(Limits("text", pattern=pattern), "A-" * 2_000_000)
    with contextlib.suppress(ValueError):
        read_value(Limits("text", pattern=pattern), "A-" * 50_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_a_short_match_does_not_wait_for_the_long_ones_of_others() -> None:
    """Five requests of a key kept the scheduler of the same process from everything."""
    slow = [threading.Thread(target=_too_slow, args=(number,)) for number in range(5)]
    for one in slow:
        one.start()
    read_value(Limits("text", pattern="(eu|us)-[0-9]+"), "eu-1")
    assert any(one.is_alive() for one in slow)
    for one in slow:
        one.join()


def _too_slow(number: int) -> None:
    with contextlib.suppress(ValueError):
        read_value(Limits("text", pattern=SLOW), f"{LONG}own{number}")


def test_other_threads_run_during_a_match() -> None:
    turns, is_over = [], threading.Event()

    def turn() -> None:
        while not is_over.is_set():
            turns.append(time.monotonic())
            is_over.wait(0.01)

    other = threading.Thread(target=turn)
    other.start()
    began = time.monotonic()
    with pytest.raises(ValueError, match="within 1 s"):
        read_value(Limits("text", pattern=SLOW), LONG)
    ended = time.monotonic()
    is_over.set()
    other.join()
    assert sum(began < one < ended for one in turns) > 10


def test_a_match_needs_no_process_and_no_descriptor(few: None) -> None:
    """A machine that cannot start a process for a moment once failed runs whose values were right, for good."""
    assert read_value(Limits("text", pattern="[A-Z]+-[0-9]+"), "EU-17") == "EU-17"


@pytest.fixture
def few() -> Iterator[None]:
    """Leave no descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_value_that_takes_too_long_is_refused_while_others_are_served(served: Served) -> None:
    parameters = {"p": {"pattern": SLOW}}
    served.define("slow", command=["echo", "${parameters.p}"], parameters=parameters)
    answer = served.operator.post("/v1/jobs/slow/runs", json={"parameters": {"p": LONG}})
    assert answer.status_code == 422
    assert "within 1 s" in answer.json()["detail"]
    assert served.operator.post("/v1/jobs/slow/runs", json={"parameters": {"p": "a b"}}).status_code == 201


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    made = Database(sqlite_url)
    yield made
    made.close()


@pytest.fixture
def open_at_matches(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each match in bounded time, whether a write transaction was open."""
    found: list[bool] = []
    real = matching._match

    def play(one: matching.Match, seconds: float) -> int | None:
        found.append(bool(sqlite.engine.pool.checkedout()))  # type: ignore[attr-defined]
        return real(one, seconds)

    monkeypatch.setattr(matching, "_match", play)
    return found


def test_no_transaction_waits_for_a_match(sqlite: Database, open_at_matches: list[bool]) -> None:
    parameters = {name: {"pattern": f"({name}|{SLOW})"} for name in ("p", "q")}
    helpers.define(sqlite, job={"parameters": parameters})
    me, values = Caller("me"), {"p": "x y", "q": "y x"}
    (run,) = starting.start(sqlite, me, StartRequest("job", "me", parameters=values))
    assert run.parameters == values
    with pytest.raises(DefinitionError, match="within 1 s"):
        starting.start(sqlite, me, StartRequest("job", "me", parameters={**values, "q": LONG}))
    assert open_at_matches == [False] * 3


def test_files_whose_names_are_matched_start_in_two_transactions(sqlite: Database, open_at_matches: list[bool]) -> None:
    parameters = {"p": {"pattern": rf"/in/{SLOW}\.csv", "default": "${trigger.path}"}}
    body = {"command": ["true"], "parameters": parameters, "schedules": [{"file": "/in/*.csv"}]}
    jobs.put(sqlite, Caller("me"), "job", body)
    begun = []
    sa.event.listen(sqlite.engine, "begin", lambda conn: begun.append(conn))
    files = [ArrivedFile(f"/in/{name}.csv", 1, 1) for name in ("a", "b", "c", "not-so")]
    (watch,) = sqlite.query(schedules.watched, ["default"])
    begun.clear()
    done = sqlite.transact(schedules.start_arrived, watch, files)
    assert (len(done.runs), len(done.refusals), len(begun)) == (3, 1, 2)
    assert open_at_matches == [False] * 4


def test_a_step_with_more_refused_values_than_results_are_remembered_comes_to_its_end(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repetition of the transaction had forgotten the first results, so it was repeated for ever."""
    monkeypatch.setattr(matching, "REMEMBERED", 2600)
    codes = {"parameters": {"code": {"pattern": "([A-Z]|[0-9])+-[0-9]+"}}}
    fan = {"name": "fan", "jobs": ["codes"], "for_each": {"code": "${parameters.codes}"}}
    helpers.define(sqlite, codes=codes, all={"parameters": {"codes": {"many": True}}, "steps": [fan]})
    values = [f"ab-{number}" for number in range(4000)]
    (run,) = starting.start(sqlite, Caller("me"), StartRequest("all", "me", parameters={"codes": values}))
    sqlite.transact(sequences.begin, "s1")
    for _ in range(5):
        sqlite.transact(sequences.sweep, "s1")
    assert helpers.get(sqlite, run.id)["state"] == "failed"


@pytest.mark.parametrize("together", [60.0, 0.0], ids=["at once", "one by one"])
def test_sequences_that_begin_together_need_few_transactions(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, together: float
) -> None:
    """The transaction was repeated for each of them, which took minutes."""
    monkeypatch.setattr(advance, "TOGETHER", together)
    codes = {"parameters": {"code": {"pattern": "([A-Z]|[0-9])+-[0-9]+"}}}
    fan = {"name": "fan", "jobs": ["codes"], "for_each": {"code": "${parameters.codes}"}}
    helpers.define(sqlite, codes=codes, all={"parameters": {"codes": {"many": True}}, "steps": [fan]})
    made = [
        helpers.start(sqlite, "all", parameters={"codes": [f"ab-{number}-{together}", f"AB-7{together:.0f}"]})
        for number in range(6)
    ]
    begun = []
    sa.event.listen(sqlite.engine, "begin", lambda conn: begun.append(conn))
    sqlite.transact(sequences.begin, "s1")
    assert len(begun) == 2
    rest = []
    while unfinished := sqlite.sequences.take_unfinished():
        rest.append(sqlite.transact(sequences.go_on, unfinished, "s1"))
    assert len(rest) == (0 if together else 5)
    with sqlite.read() as conn:
        [(started,)] = conn.execute(sa.select(sa.func.count()).where(run.c.job == "codes"))
    assert started == len(made)


def test_slow_values_of_one_sequence_refuse_none_of_others(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together had the time for one, so right values were refused without having been tried."""
    monkeypatch.setattr(matching, "TOGETHER", 0.2)
    monkeypatch.setattr(matching, "SECONDS", 0.1)
    codes = {"parameters": {"code": {"pattern": SLOW}}}
    fan = {"name": "fan", "jobs": ["codes"], "for_each": {"code": "${parameters.codes}"}}
    helpers.define(sqlite, codes=codes, all={"parameters": {"codes": {"many": True}}, "steps": [fan]})
    good = [helpers.start(sqlite, "all", parameters={"codes": [f"right {number}"]}) for number in range(5)]
    bad = helpers.start(sqlite, "all", parameters={"codes": [f"{LONG}slow{number}" for number in range(4)]})
    sqlite.transact(sequences.begin, "s1")
    assert (helpers.states(sqlite, good), helpers.state(sqlite, bad)) == (["running"] * 5, "failed")
