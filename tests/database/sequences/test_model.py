"""Random sequences, outcomes, event orders, stops and crashes: the step history is always that of the model."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, visit
from jobfac.definitions import DefinitionError
from jobfac.states import FINAL, RunState
from jobfac.store import jobs, runs, sequences
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from jobfac.views.serialization import all_as_json
from tests.support.database import define, now, start, state
from tests.support.sequence_model import REFUSED, Model, Stay, seen
from tests.support.sequences import Player

STEPS = ["s1", "s2", "s3", "s4"]
JOBS = ["a", "b", "c", "a", "b", "c", "inner", "inner", REFUSED]
INNER = {"steps": [{"name": "i", "jobs": ["a", "b"], "on_mixed": "end"}]}
ENDS = [RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.LOST, RunState.STOPPED]
KINDS = ["end", "end", "end", "end unsettled", "end unsettled", "begin", "begin", "sweep", "stop"]
"""The kinds of actions with their weights. They are one rule, because hypothesis may switch rules off."""


def bodies(closed_day: str) -> st.SearchStrategy[dict[str, Any]]:
    """Generate sequences of up to four steps. A step may have a condition that does not hold."""
    steps = st.integers(1, 4).flatmap(
        lambda number: st.tuples(*(_step(name, number, closed_day) for name in STEPS[:number]))
    )
    return st.fixed_dictionaries({"steps": steps.map(list), "maximum_visits": st.integers(1, 3)}).filter(_is_valid)


def _step(name: str, number: int, closed_day: str) -> st.SearchStrategy[dict[str, Any]]:
    goes = st.sampled_from(["next", "next", "end", "end_failed", *({"step": other} for other in STEPS[:number])])
    closed = st.builds(lambda go: {"dates": {"on": [closed_day]}, "otherwise": go}, goes)
    common = {"name": st.just(name), "jobs": st.lists(st.sampled_from(JOBS), min_size=1, max_size=3, unique=True)}
    waits = {"proceed": st.sampled_from(["when_all", "when_any"]), "on_failure": goes, "on_mixed": goes}
    optional = {"start_if": closed, "on_success": goes}
    return st.one_of(
        st.fixed_dictionaries({**common, **waits}, optional=optional),
        st.fixed_dictionaries({**common, "proceed": st.just("at_once")}, optional=optional),
    )


def _is_valid(body: dict[str, Any]) -> bool:
    known = {job: {"command": ["true"]} for job in JOBS}
    try:
        d.from_data({"jobs": {"seq": body}}, known=known)
    except DefinitionError:
        return False
    return True


class Crash(Exception):
    """Simulates the death of the process."""


@contextmanager
def crashing(db: Database, statement: int | None) -> Iterator[None]:
    """Simulate a crash before the statement with this number."""
    count = itertools.count(1)

    def before(conn: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if next(count) == statement:
            raise Crash

    sa.event.listen(db.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", before)


names = itertools.count(1)


class Sequences(RuleBasedStateMachine):
    """The transactions of two workers on one database, and the models of all sequence runs."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.db = db
        with db.begin() as conn:  # left by a failed example
            conn.execute(run.update().where(run.c.ended_at.is_(None)).values(state="stopped", ended_at=utcnow()))
        self.now = now(db)
        self.other_day = (self.now + timedelta(days=100)).strftime("%m/%d")
        self.player = Player(db)
        self.models: dict[int, Model] = {}
        self.looked_at: set[int] = set()
        self.definitions: dict[str, d.Sequence] = {}
        self._define_in_model("inner", INNER)

    def _define_in_model(self, name: str, body: dict[str, Any]) -> None:
        known = {job: {"command": ["true"]} for job in JOBS}
        definition = d.from_data({"jobs": {name: body}}, known=known).jobs[name]
        assert isinstance(definition, d.Sequence)
        self.definitions[name] = definition

    def _try(self, crash: int | None, work: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
        """Run one transaction. Returns False if it crashed; then the sweep has run."""
        try:
            with crashing(self.db, crash), self.db.begin() as conn:
                work(conn, *arguments, **named)
        except Crash:
            self.db.transact(sequences.sweep, "sweeper")
            return False
        return True

    @rule(data=st.data(), kind=st.sampled_from(KINDS), crash=st.none() | st.integers(1, 40))
    def act(self, data: st.DataObject, kind: str, crash: int | None) -> None:
        if all(model.state is not None for model in self.models.values()):
            self.start(data.draw(st.lists(bodies(self.other_day), min_size=1, max_size=3)))
        elif kind == "begin":
            self.begin(crash)
        elif kind == "sweep":
            self.db.transact(sequences.sweep, "sweeper")
        elif kind == "stop":
            self.stop(data.draw(st.sampled_from(sorted(self.models))), crash)
        elif self.player.held:
            chosen = data.draw(st.lists(st.sampled_from(self.player.held), min_size=1, max_size=3, unique=True))
            ends = [data.draw(st.sampled_from(ENDS)) for _ in chosen]
            self.end(chosen, ends, crash, settled=kind == "end")

    def start(self, definitions: list[dict[str, Any]]) -> None:
        for body in definitions:
            name = f"seq-{next(names)}"
            self._define_in_model(name, body)
            self.db.transact(jobs.put, name, self.definitions[name], "tester")
            self.models[start(self.db, name)] = Model(name, self.definitions)
        self.begin(None)

    def begin(self, crash: int | None) -> None:
        self._try(crash, sequences.begin_queued, "w1")
        self.player.look()
        for model in self.models.values():
            model.begin(self.now)

    def end(self, chosen: list[Claimed], ends: list[RunState], crash: int | None, settled: bool) -> None:
        """End runs in one turn, the first one longest ago. Not ``settled``: without advancing their sequences."""
        first = Outcome(0, 0, RunState.FAILED).ended - 0.05 * len(chosen)
        outcomes = [
            Outcome(claimed.id, claimed.attempt, end, ended=first + 0.02 * place)
            for place, (claimed, end) in enumerate(zip(chosen, ends, strict=True))
        ]

        def work(conn: sa.Connection) -> None:
            finished = runs.finish(conn, self.player.id, outcomes, "w1")
            if settled:
                sequences.advance_after(conn, finished, "w1")

        places = [self._place(claimed) for claimed in chosen]
        if not self._try(crash, work):
            return
        if not settled:
            self.db.transact(sequences.sweep, "sweeper")
        self.player.held = [one for one in self.player.held if one not in chosen]
        for (model, stay), claimed, end in zip(places, chosen, ends, strict=True):
            model.end(stay, claimed.job, end)
        for model, _ in places:
            model.go_on(self.now)

    def _place(self, claimed: Claimed) -> tuple[Model, Stay]:
        """Return the model and the visit to which a run belongs."""
        with self.db.read() as conn:
            row = conn.execute(sa.select(run.c.sequence_run_id, run.c.visit_id).where(run.c.id == claimed.id)).one()
            chain = [(row.visit_id, claimed.job)]
            sequence_run = row.sequence_run_id
            while sequence_run not in self.models:
                row = conn.execute(sa.select(run).where(run.c.id == sequence_run)).one()
                chain.insert(0, (row.visit_id, row.job))
                sequence_run = row.sequence_run_id
            model = self.models[sequence_run]
            while True:
                visit_id, job = chain.pop(0)
                own = sa.select(visit.c.run_id).where(visit.c.id == visit_id).scalar_subquery()
                place = sa.select(sa.func.count()).where(visit.c.run_id == own, visit.c.id < visit_id)
                stay = model.stays[conn.execute(place).scalar_one()]
                if not chain:
                    return model, stay
                nested = stay.jobs[job]
                assert isinstance(nested, Model)
                model = nested

    def stop(self, run_id: int, crash: int | None) -> None:
        model = self.models[run_id]
        if not self._try(crash, sequences.stop, run_id, now=False, by="me") or model.state is not None:
            return
        if model.begun:
            model.stopped(self._path(run_id), self.now)
        else:
            model.state = RunState.STOPPED

    def _path(self, run_id: int) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            return all_as_json(sequences.step_history(conn, run_id))

    @invariant()
    def histories_match_the_models(self) -> None:
        """Compare finished sequences once, and again at the end."""
        over = {run_id for run_id, model in self.models.items() if model.state is not None}
        self.compare(set(self.models) - self.looked_at)
        self.looked_at |= over

    def compare(self, run_ids: set[int]) -> None:
        for run_id in run_ids:
            model = self.models[run_id]
            assert seen(self._path(run_id)) == model.shown()
            found = state(self.db, run_id)
            assert (found if found in FINAL else None) == model.state

    def teardown(self) -> None:
        """End every sequence run."""
        for _ in range(200):
            self.begin(None)
            if not self.player.held:
                break
            self.end(self.player.held[:1], [RunState.SUCCEEDED], None, settled=True)
        self.compare(set(self.models))
        assert all(model.state is not None for model in self.models.values())


@pytest.mark.slow
def test_every_step_history_is_that_of_the_model(sqlite_url: str) -> None:
    db = Database(sqlite_url)

    class OnThisDatabase(Sequences):
        def __init__(self) -> None:
            super().__init__(db)

    define(db, a={}, b={}, c={}, inner=INNER, **{REFUSED: {"enabled": False}})
    checked = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    try:
        run_state_machine_as_test(OnThisDatabase, settings=checked)
    finally:
        db.close()
