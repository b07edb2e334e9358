"""No transaction of jobfac holds SQLite's write lock for long, because all heartbeats wait for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects.lease_notice import PAUSE
from jobfac.database.engine import Database
from jobfac.database.tables import audit, run
from jobfac.errors import Refused
from jobfac.operations import jobs, starting
from jobfac.operations.bulk import many
from jobfac.operations.caller import Caller
from jobfac.store import sequences
from jobfac.store.runs import StartRequest
from tests.support import database as helpers
from tests.support.factory import Factory

ME = Caller("me")


@contextmanager
def longest(db: Database) -> Iterator[list[float]]:
    """Yield the CPU seconds of the longest write transaction. CPU time does not depend on the load of the machine."""
    began, found = [0.0], [0.0]

    def begin(conn: sa.Connection) -> None:
        began[0] = time.process_time()

    def commit(conn: sa.Connection) -> None:
        found[0] = max(found[0], time.process_time() - began[0])

    sa.event.listen(db.engine, "begin", begin)
    sa.event.listen(db.engine, "commit", commit)
    yield found
    sa.event.remove(db.engine, "begin", begin)
    sa.event.remove(db.engine, "commit", commit)


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    made = Database(sqlite_url)
    yield made
    made.close()


def test_many_starts_are_many_transactions(sqlite: Database) -> None:
    helpers.define(sqlite, job={"command": ["true"]})
    with longest(sqlite) as found:
        ids = starting.start_many(sqlite, ME, StartRequest("job", "me"), 2000)
    assert len(set(ids)) == 2000
    assert ids == sorted(ids)
    assert found[0] < 0.5


def test_others_may_write_between_the_transactions_of_many_starts(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "TOGETHER", 20)
    helpers.define(sqlite, job={"command": ["true"]})
    pauses: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", pauses.append)
        starting.start_many(sqlite, ME, StartRequest("job", "me"), 60)
    assert len([one for one in pauses if one >= PAUSE]) >= 2


def test_others_may_write_between_the_stops_of_many_runs(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "AT_A_STRETCH", 0.0)
    helpers.define(sqlite, job={"command": ["true"]})
    ids = starting.start_many(sqlite, ME, StartRequest("job", "me"), 4)
    pauses: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", pauses.append)
        assert len(many.stop(sqlite, ME, many.find(sqlite, ME, ids))) == 4
    assert len([one for one in pauses if one >= PAUSE]) >= 2


def test_large_changes_of_definitions_are_prepared_before_their_transaction(sqlite: Database) -> None:
    """Forty jobs with 100 schedules each: added, changed and removed."""

    def apply(count: int, shift: int) -> None:
        schedules = [{"cron": f"{(n + shift) % 60} {n % 24} * * *"} for n in range(100)]
        data = {"jobs": {f"j{n}": {"command": ["true"], "schedules": schedules} for n in range(count)}}
        jobs.apply(sqlite, ME, lambda known: d.from_data(data, known=known), prune=True)

    for shift in (0, 1):
        with longest(sqlite) as found:
            apply(40, shift)
        assert found[0] < 0.4
        with sqlite.read() as conn:
            counts = conn.exec_driver_sql("SELECT count(*), count(DISTINCT next_due_at) FROM schedule").one()
        assert counts == (4000, 100)
    with longest(sqlite) as found:
        apply(0, 0)
    assert found[0] < 0.4
    with sqlite.read() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM schedule").scalar() == 0


def test_a_definition_is_read_before_its_transaction(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one takes seconds."""
    writing, while_read = [False], []
    begin, read = sqlite.begin, d.from_data

    @contextmanager
    def noted() -> Iterator[sa.Connection]:
        with begin() as conn:
            writing[0] = True
            yield conn
        writing[0] = False

    def reading(*arguments: Any, **named: Any) -> d.Definitions:
        while_read.append(writing[0])
        return read(*arguments, **named)

    monkeypatch.setattr(sqlite, "begin", noted)
    monkeypatch.setattr(d, "from_data", reading)
    assert jobs.put(sqlite, ME, "job", {"command": ["true"]}).created
    assert not jobs.put(sqlite, ME, "job", {"command": ["false"]}).created
    assert while_read == [False, False]


NAMES = [f"branch_name_{number}" for number in range(10_000)]


def test_many_unknown_names_take_little_time(sqlite: Database) -> None:
    """A start looked for what each of them may have meant, in its transaction, for as long as the caller liked."""
    helpers.define(sqlite, job={"parameters": {f"branch_name_x{number}": {} for number in range(50)}})
    before = time.process_time()
    with pytest.raises(d.DefinitionError, match="did you mean") as caught:
        starting.start(sqlite, ME, StartRequest("job", "me", parameters=dict.fromkeys(NAMES, "x")))
    assert (len(caught.value.problems), time.process_time() - before < 2.0) == (100, True)


@pytest.mark.parametrize(
    "body",
    [
        {"command": ["true"], **dict.fromkeys(NAMES, 1)},
        {"steps": [{"name": name, "jobs": [name]} for name in NAMES]},
        {"command": ["true"], "environment": dict.fromkeys(NAMES, "${parameters.branch_name}")},
    ],
    ids=["keys", "jobs", "placeholders"],
)
def test_many_mistakes_in_a_definition_take_little_time(sqlite: Database, body: dict[str, object]) -> None:
    helpers.define(sqlite, **{f"branch_name_x{number}": {} for number in range(50)})
    before = time.process_time()
    with pytest.raises(d.DefinitionError) as caught:
        jobs.put(sqlite, ME, "wrong", body)
    assert (len(caught.value.problems), time.process_time() - before < 2.0) == (100, True)


def test_many_starts_may_be_repeated_with_their_key(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "TOGETHER", 20)
    monkeypatch.setattr(type(db.dialect), "pause_between_writes", 0.0)
    helpers.define(db, job={"command": ["true"]})
    request = StartRequest("job", "me", key="nightly")
    first = starting.start_many(db, ME, request, 30)
    assert starting.start_many(db, ME, request, 50)[:30] == first
    assert starting.start_many(db, ME, request, 30) == first
    other = starting.start_many(db, ME, StartRequest("job", "me", key="daily"), 30)
    assert not set(other) & set(first)
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one() == 50 + 30


def test_a_partly_refused_start_names_the_key_to_continue_with(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "TOGETHER", 20)
    helpers.define(sqlite, job={"command": ["true"]})
    real = time.sleep

    def meanwhile(seconds: float) -> None:
        jobs.disable(sqlite, ME, "job")
        real(0)

    monkeypatch.setattr(time, "sleep", meanwhile)
    with pytest.raises(Refused, match=r"disabled; .* 20 of 50 runs were started; the key '\w+' with the same count"):
        starting.start_many(sqlite, ME, StartRequest("job", "me"), 50)


def test_the_command_takes_a_key_with_a_count(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"job": {"command": ["true"]}})
    first = factory.json("start", "job", "--count", "3", "--key", "k")
    assert factory.json("start", "job", "--count", "3", "--key", "k") == first
    assert len({one["id"] for one in first}) == 3


def test_definitions_changed_meanwhile_are_planned_again(sqlite: Database) -> None:
    helpers.define(sqlite, other={"command": ["true"]})
    calls = []

    def read(known: object) -> d.Definitions:
        calls.append(known)
        if len(calls) == 1:  # the plan is made, but the transaction has not begun
            jobs.put(sqlite, Caller("somebody"), "job", {"command": ["false"]})
        return d.from_data({"jobs": {"job": {"command": ["true"]}}})

    done = jobs.apply(sqlite, ME, read)
    assert len(calls) == 2
    assert list(done.jobs.change) == ["job"]
    with sqlite.read() as conn:
        assert conn.execute(sa.select(audit.c.by).where(audit.c.subject == "job")).scalars().all() == ["somebody", "me"]


def test_a_step_with_many_values_starts_its_runs_in_many_transactions(sqlite: Database) -> None:
    """However many may run at a time, and however long the payload is that an operator gives."""
    step = {"name": "fan", "jobs": ["job"], "for_each": {"n": list(range(3000))}, "at_most": 3000}
    helpers.define(sqlite, job={"parameters": {"n": {"type": "integer"}}}, fan={"steps": [step]})
    helpers.start(sqlite, "fan")
    helpers.start(sqlite, "fan", overrides={"payloads": {"job": "x" * 4_000_000}})
    sqlite.transact(sequences.begin, "me", 2)
    assert [_inside(sqlite, run_id) for run_id in (1, 2)] == [1000, 4]  # the sweep starts the others
    sqlite.transact(sequences.sweep, "me")
    assert [_inside(sqlite, run_id) for run_id in (1, 2)] == [1500, 6]


def _inside(db: Database, run_id: int) -> int:
    """How many runs a sequence run has started."""
    with db.read() as conn:
        query = sa.select(sa.func.count()).where(run.c.sequence_run_id == run_id)
        return int(conn.execute(query).scalar_one())


def test_starts_with_long_payloads_are_many_transactions(sqlite: Database) -> None:
    helpers.define(sqlite, job={"command": ["true"]})
    begun: list[sa.Connection] = []
    sa.event.listen(sqlite.engine, "commit", begun.append)
    request = StartRequest("job", "me", payload="x" * (4 * 1024 * 1024))
    assert len(starting.start_many(sqlite, ME, request, 6)) == 6
    assert len(begun) >= 3
