"""The transactions of workers and schedulers on random sequences, killed at random, beside a model of each run."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobfac import definitions as d
from jobfac.database.dialects import lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule, upstream_end, visit
from jobfac.states import FINAL, Decision, RunState, Waiting
from jobfac.store import jobs, runs, schedules, sequences
from jobfac.store.runs import Outcome
from jobfac.store.runs.finish import POISON_ATTEMPTS
from jobfac.store.sequences import WaitingVisit
from jobfac.store.workers import Claimed
from jobfac.views.serialization import all_as_json
from tests.database.sequences.bodies import INNER, KNOWN, STRICT, bodies
from tests.database.sequences.crashes import Crash, crashing
from tests.support.database import now, start, state
from tests.support.sequence_model import Model, Stay, seen
from tests.support.sequences import Player

ENDS = [RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.LOST, RunState.STOPPED]
KINDS = [
    *["end"] * 3, *["end unsettled"] * 2, *["begin"] * 2, *["decide"] * 3, *["follow"] * 2, *["kill"] * 2, "sweep",
    "stop",
]  # fmt: skip
"""The kinds of actions with their weights. They are one rule, because hypothesis may switch rules off."""

REPEAT = 0
"""A crash after the commit: the answer is lost, and the transaction is sent again."""


names = itertools.count(1)
figures: Counter[str] = Counter()
"""What the machines of this process have done: runs, transactions, kills."""


class Sequences(RuleBasedStateMachine):
    """The transactions of two workers on one database, and the models of all sequence runs."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.db = db
        with db.begin() as conn:
            # Left by a failed example.
            conn.execute(run.update().where(run.c.ended_at.is_(None)).values(state="stopped", ended_at=utcnow()))
            conn.execute(upstream_end.delete())
            self.first = conn.execute(sa.select(sa.func.coalesce(sa.func.max(run.c.id), 0))).scalar_one()
        self.now = now(db)
        self.other_day = (self.now + timedelta(days=100)).strftime("%m/%d")
        self.player = Player(db)
        self.models: dict[int, Model] = {}
        self.looked_at: set[int] = set()
        self.definitions: dict[str, d.Sequence] = {}
        self._define_in_model("inner", INNER)

    def _define_in_model(self, name: str, body: dict[str, Any]) -> None:
        definition = d.from_data({"jobs": {name: body}}, known=KNOWN).jobs[name]
        assert isinstance(definition, d.Sequence)
        self.definitions[name] = definition

    def _try(self, crash: int | None, work: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
        """Run one transaction. Returns False if it crashed; then the sweep has run."""
        figures["transactions"] += 1
        try:
            for _ in range(2 if crash == REPEAT else 1):
                with crashing(self.db, crash), self.db.begin() as conn:
                    work(conn, *arguments, **named)
        except Crash:
            figures["kills within a transaction"] += 1
            self.db.transact(sequences.sweep, "sweeper")
            return False
        figures["kills after a commit"] += crash == REPEAT
        return True

    @rule(data=st.data(), kind=st.sampled_from(KINDS), crash=st.none() | st.just(REPEAT) | st.integers(1, 40))
    def act(self, data: st.DataObject, kind: str, crash: int | None) -> None:
        if all(model.state is not None for model in self.models.values()):
            self.start(data.draw(st.lists(bodies(self.other_day), min_size=1, max_size=3)))
        elif kind == "begin":
            self.begin(crash)
        elif kind == "sweep":
            self.db.transact(sequences.sweep, "sweeper")
        elif kind == "follow":
            self.follow(crash)
        elif kind == "decide":
            self.decide(data, crash)
        elif kind == "kill":
            self.kill(crash)
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
            self.models[start(self.db, name)] = Model(name, self.definitions, self._held)
            figures["runs"] += 1
        self.begin(None)

    def decide(self, data: st.DataObject, crash: int | None) -> None:
        """A person decides, a file or an answer comes, or time passes."""
        waiting = {run_id: what for run_id, model in self.models.items() if (what := model.waits_for()) is not None}
        if not waiting:
            return
        run_id = data.draw(st.sampled_from(sorted(waiting)))
        if waiting[run_id] == Waiting.TIME or data.draw(st.booleans()):
            self._let_time_pass(run_id, crash)
        elif waiting[run_id] == Waiting.APPROVAL:
            self._approve(run_id, data.draw(st.booleans()), crash)
        else:
            self._find(run_id, crash)

    def _approve(self, run_id: int, approved: bool, crash: int | None) -> None:
        step = self.models[run_id].stays[-1].step
        with self.db.read() as conn:
            found = sequences.waiting_for(conn, run_id, step)
        if self._try(crash, sequences.approve, found, "ann", approved=approved, reason=None):
            self.models[run_id].decided(Decision.APPROVED if approved else Decision.REJECTED, self.now)

    def _find(self, run_id: int, crash: int | None) -> None:
        """What a step waits for is there. Two workers, or two schedulers, notice that."""
        waiting = self._noticed(run_id, self.models[run_id].waits_for())
        if self._try(crash, sequences.found, waiting, "it is there", "w1"):
            self.models[run_id].decided(Decision.FOUND, self.now)
            assert self.db.transact(sequences.found, waiting, "it is there", "w2") is False

    def _noticed(self, run_id: int, what: Waiting | None) -> WaitingVisit:
        if what == Waiting.FILE:
            found = self.db.query(sequences.looked_for, ["default", "etl"])
        else:
            with self.db.begin() as conn:
                conn.execute(visit.update().where(visit.c.look_at.is_not(None)).values(look_at=utcnow(-1000)))
            found = self.db.transact(sequences.take_due, 500)
            self.db.transact(sequences.note, found[-1], "rates.example.org answered 503")
        (one,) = [one for one in found if one.run_id == run_id]
        return one

    def _let_time_pass(self, run_id: int, crash: int | None) -> None:
        model = self.models[run_id]
        with self.db.read() as conn:
            last = sa.select(sa.func.max(visit.c.id)).where(visit.c.run_id == run_id)
            place = conn.execute(last).scalar_one()
        if not self._ripen(place):
            return  # it waits without a limit
        if not self._try(crash, sequences.wake, "s1"):
            self.db.transact(sequences.wake, "s1")  # what a crash left undone, the next look does
        if self._ripen(place):  # no worker has looked for its file, so it has waited for one more look
            self.db.transact(sequences.wake, "s1")
        elapsed = model.waits_for() == Waiting.TIME
        model.decided(Decision.ELAPSED if elapsed else Decision.EXPIRED, self.now)

    def _ripen(self, place: int) -> bool:
        """Let the time be over for which a visit waits. Returns False if it waits for none."""
        ripe = visit.update().where(visit.c.id == place, visit.c.wake_at.is_not(None), visit.c.decision.is_(None))
        with self.db.begin() as conn:
            return bool(conn.execute(ripe.values(wake_at=utcnow(-1000))).rowcount)

    def begin(self, crash: int | None) -> None:
        self._try(crash, sequences.begin, "w1")
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
        self._ended(places, ends)

    def _ended(self, places: list[tuple[Model, Stay, str]], ends: list[RunState]) -> None:
        for (model, stay, key), end in zip(places, ends, strict=True):
            model.end(stay, key, end)
        for model, _, _ in places:
            model.go_on(self.now)

    def kill(self, crash: int | None) -> None:
        """The worker dies with all its runs; a scheduler, which may die too, expires it; another worker comes."""
        held = sorted(self.player.held, key=lambda claimed: claimed.id)
        with self.db.read() as conn:
            columns = (run.c.id, run.c.state, run.c.restartable, run.c.lost)
            rows = conn.execute(sa.select(*columns).where(lists.by_id(run.c.id, [one.id for one in held]))).all()
        ends = {row.id: _after_death(row) for row in rows}
        ended = [one for one in held if ends[one.id] is not None]
        places = [self._place(one) for one in ended]
        figures["kills of a worker"] += 1
        self.player.lapse()
        if not self._try(crash, sequences.expire, "s1"):
            self.db.transact(sequences.expire, "s1")
        late = [Outcome(one.id, one.attempt, RunState.SUCCEEDED) for one in held]
        assert self.db.transact(runs.finish, self.player.id, late, "w1") == [], "it is dead"
        self.player = Player(self.db)
        self._ended(places, [end for one in ended if (end := ends[one.id]) is not None])
        self.begin(None)

    def follow(self, crash: int | None) -> None:
        """A scheduler starts what follows. The job ``both`` starts once if both of its jobs have succeeded."""
        number, waiting = self._both()
        done = self._try(crash, schedules.insert_followers, "s1")
        starts = done and waiting == {"a", "b"}
        assert self._both() == (number + starts, set() if starts else waiting)

    def _both(self) -> tuple[int, set[str]]:
        """The number of runs of ``both``, and the jobs whose ends wait for the other one."""
        with self.db.read() as conn:
            number = sa.select(sa.func.count()).where(run.c.job == "both", run.c.id > self.first)
            ends = sa.select(upstream_end.c.job).join(schedule, schedule.c.id == upstream_end.c.schedule_id)
            waiting = set(conn.execute(ends.where(schedule.c.job == "both")).scalars())
            return conn.execute(number).scalar_one(), waiting

    def _place(self, claimed: Claimed) -> tuple[Model, Stay, str]:
        """The model and the visit to which a run belongs, and its name there."""
        with self.db.read() as conn:
            columns = (run.c.sequence_run_id, run.c.visit_id, run.c.item)
            row = conn.execute(sa.select(*columns).where(run.c.id == claimed.id)).one()
            key = claimed.job if row.item is None else f"{claimed.job}[{row.item}]"
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
                    return model, stay, key
                nested = stay.jobs[job]
                assert isinstance(nested, Model)
                model = nested

    def _held(self, stay: Stay) -> set[str]:
        """The jobs of a visit that a worker holds."""
        places = map(self._place, self.player.held)
        return {key for _, found, key in places if found is stay}

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
            model, found = self.models[run_id], state(self.db, run_id)
            there, expected = seen(self._path(run_id)), model.shown()
            assert there == expected, f"run {run_id} went {there}, not {expected}"
            ended = found if found in FINAL else None
            assert ended == model.state, f"run {run_id} is {found}, not {model.state}"

    def teardown(self) -> None:
        """End every sequence run."""
        for _ in range(200):
            self.begin(None)
            for run_id, model in self.models.items():
                if (what := model.waits_for()) == Waiting.APPROVAL:
                    self._approve(run_id, True, None)
                elif what == Waiting.TIME:
                    self._let_time_pass(run_id, None)
                elif what is not None:
                    self._find(run_id, None)
            self.begin(None)
            if self.player.held:
                self.end(self.player.held[:1], [RunState.SUCCEEDED], None, settled=True)
            elif all(model.state is not None for model in self.models.values()):
                break
        self.compare(set(self.models))
        self._compare_followers()
        assert all(model.state is not None for model in self.models.values())

    def give_up(self) -> None:
        """A failure stops a run that nobody has claimed and one that a worker holds, which then succeeds."""
        self.start([{"steps": [{**STRICT, "name": "s1", "at_most": 3}]}])
        for end in (RunState.SUCCEEDED, RunState.FAILED):  # the first one lets another run begin
            self.end(self.player.held[:1], [end], None, settled=True)
        (model,) = self.models.values()
        (stay,) = model.stays
        assert sorted(map(str, stay.jobs.values())) == ["None", "failed", "stopped", "succeeded"]
        self.histories_match_the_models()
        self.teardown()
        assert (model.state, stay.unstarted) == (RunState.FAILED, 1)

    def _compare_followers(self) -> None:
        """Each end that counts has started one run, or is recorded and waits."""
        with self.db.read() as conn:
            mine = run.c.id > self.first
            fan = sa.and_(run.c.job == "fan", run.c.state == RunState.SUCCEEDED)
            counts = sa.or_(lists.among(run.c.job, ["a", "inner"]), fan)
            ends = conn.execute(sa.select(run.c.id).where(mine, run.c.ended_at.is_not(None), counts)).scalars().all()
            recorded = sa.select(upstream_end.c.run_id).join(schedule, schedule.c.id == upstream_end.c.schedule_id)
            pending = conn.execute(recorded.where(schedule.c.job == "each")).scalars().all()
            started = conn.execute(sa.select(run.c.origin).where(mine, run.c.job == "each")).scalars().all()
        causes = [json.loads(origin)["run"]["id"] for origin in started]
        assert sorted([*pending, *causes]) == sorted(ends)


def _after_death(row: Any) -> RunState | None:
    """How a run ends whose worker has died; None: it runs again."""
    if row.state == RunState.STOPPING:
        return RunState.STOPPED
    again = row.restartable and (row.lost or 0) + 1 < POISON_ATTEMPTS
    return None if again else RunState.LOST
