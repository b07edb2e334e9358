"""Claims of runs that are suspected of killing their workers: each alone, and by idle workers."""

from collections.abc import Iterable

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run
from jobfac.doctor import factory
from jobfac.doctor.finding import Finding, State
from jobfac.states import RunState
from jobfac.store import runs, workers
from jobfac.store.history.waiting import reasons
from jobfac.store.runs import queue_of_worker
from jobfac.store.workers.suspects import ALONE as ALONE_FOR
from jobfac.store.workers.suspects import ISOLATING, NOTHING, Suspicion, Waiting
from jobfac.views.waiting import SUSPECTED
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.turn import Turn, TurnRequest, TurnResult
from tests.support.database import Hand, define, get, make_due, start


def turn(hand: Hand, *live: int, waiting: Iterable[int] = (), free: int = 4, fair: bool = False) -> TurnResult:
    """Make a turn of a worker on which the runs ``live`` are."""
    ours = {(one, 1): ("job", get(hand.db, one)["created_at"]) for one in live}
    nothing = Deliveries([], [], [], [], {}, [], ours, [])
    suspicion, queues = Suspicion(2, frozenset(waiting)), {"default": 1, "default[zone=x]": 1}
    request = TurnRequest(hand.id, hand.name, queues, False, free, free, nothing, fair=fair, suspicion=suspicion)
    return hand.db.transact(Turn(request, {}).take)


def ids(result: TurnResult) -> list[int]:
    return [one.id for one in result.claimed]


ALONE = (
    "a worker on which nothing else runs, on a machine without another such run, because its workers died while it ran"
)


def both(db: Database, run_id: int) -> str:
    """Return what a run waits for, as lists and ``v_queue`` both have it."""
    schema = "" if db.dialect.name == "sqlite" else "jobfac."
    text = f"SELECT waits_for FROM {schema}v_queue WHERE id = {run_id}"
    (row,) = db.query(lambda conn: conn.exec_driver_sql(text).all())
    assert row[0] == db.query(reasons, [run_id])[run_id]
    return str(row[0])


def suspect(db: Database, *run_ids: int) -> None:
    with db.begin() as conn:
        for run_id in run_ids:
            conn.execute(run.update().where(run.c.id == run_id).values(lost=2))


def test_a_busy_worker_leaves_a_suspected_run_and_an_idle_one_takes_it_alone(db: Database) -> None:
    define(db, job={}, other={"labels": {"zone": "x"}})
    busy, idle = Hand(db, "busy"), Hand(db, "idle")
    first = busy.take() if start(db, "job") else None
    assert first is not None
    poison, second, third = start(db, "job"), start(db, "job"), start(db, "job")
    suspect(db, poison, third)
    result = turn(busy, first.id)
    assert (ids(result), result.waiting) == ([second], Waiting(frozenset({poison, third})))
    found = get(db, poison)
    assert (found["state"], found["attempt"], found["worker"], found["reason"]) == ("queued", 0, None, SUSPECTED)
    assert both(db, poison) == ALONE
    for one in (start(db, "job"), start(db, "other")):
        result = turn(busy, first.id, second, waiting=result.waiting.runs, free=1)
        assert ids(result) == [one], "those that wait are in nobody's way"
    result = turn(idle)
    assert (ids(result), result.waiting.runs) == ([poison], frozenset({third}))
    assert get(db, poison)["attempt"] == 1
    (taken,) = result.claimed
    assert idle.end(taken)
    result = turn(idle, waiting={poison, third})
    assert (ids(result), result.waiting) == ([third], NOTHING)


def test_the_workers_of_a_machine_take_suspected_runs_one_after_another(db: Database) -> None:
    """A program that killed all processes of its user ended the suspected run beside it as lost, too."""
    define(db, job={})
    one, beside, elsewhere = Hand(db, "one"), Hand(db, "beside"), Hand(db, "elsewhere", host="other")
    killer, second, third, sound = (start(db, "job") for _ in range(4))
    suspect(db, killer, second, third)
    (taken,) = turn(one).claimed
    assert taken.id == killer
    result = turn(beside)
    assert (ids(result), result.waiting.runs) == ([sound], frozenset({second, third}))
    (there,) = turn(elsewhere).claimed
    assert there.id == second
    assert ids(turn(beside, waiting={third})) == []
    one.end(taken, RunState.LOST)
    assert ids(turn(beside, waiting={third})) == [third]
    with db.begin() as conn:
        conn.execute(attempt.update().values(started_at=utcnow(-1000 * round(ALONE_FOR + 1))))
    fourth = start(db, "job")
    suspect(db, fourth)
    assert ids(turn(one, waiting={fourth})) == [fourth], "one that runs for months must not keep it"


def test_a_run_that_is_given_back_beside_a_suspected_one_is_claimed_by_others(db: Database) -> None:
    define(db, job={})
    poison, other = start(db, "job"), start(db, "job")
    suspect(db, poison)
    assert ids(turn(Hand(db, "first"))) == [poison]
    assert (get(db, other)["state"], get(db, other)["attempt"]) == ("queued", 0)
    assert ids(turn(Hand(db, "second"))) == [other]


def test_a_run_that_is_given_back_says_what_it_said_before(db: Database) -> None:
    """A retry that waited did not say any more why its first attempt had failed."""
    define(db, job={})
    hand, other = Hand(db, "one"), Hand(db, "other")
    retried = start(db, "job")
    hand.end(hand.take(), RunState.FAILED, exit_code=3, reason="exit code 3", retry_after=0.0)
    make_due(db)
    db.transact(runs.promote_due, "one")
    suspect(db, start(db, "job"))
    before = get(db, retried)
    assert (before["state"], before["reason"]) == ("queued", "exit code 3")
    assert retried not in ids(turn(other))
    assert get(db, retried) == before


def test_a_worker_sees_that_another_one_makes_room(db: Database) -> None:
    define(db, job={}, zone={"labels": {"zone": "x"}})
    one, etl, other = Hand(db, "one"), Hand(db, "etl", pools=("etl",)), Hand(db, "other", pools=("etl", "default"))
    first = one.take() if start(db, "job") else None
    assert first is not None
    poison = start(db, "job")
    suspect(db, poison)
    for hand, is_seen in ((etl, False), (one, False), (other, True)):
        db.transact(workers.set_message, hand.id, ISOLATING)
        assert turn(one, first.id).waiting == Waiting(frozenset({poison}), is_seen), "its pools need not be the same"
    labelled = start(db, "zone")
    suspect(db, labelled)
    assert turn(one, first.id).waiting == Waiting(frozenset({poison, labelled}), False), "no label: it cannot take it"


def test_doctor_asks_for_no_pool_that_is_served_while_its_worker_makes_room(db: Database) -> None:
    """It told to start a worker with a pool that a live worker serves, as a problem."""
    define(db, job={})
    hand = Hand(db, "w1")
    start(db, "job")
    for message, state, remedy in (
        (ISOLATING, State.WARNING, "It goes on within minutes; another worker takes them at once."),
        ("unhealthy: no space in /spool", State.PROBLEM, "Look at that machine, or start another worker."),
    ):
        db.transact(workers.set_message, hand.id, message)
        found = f"no live worker takes the 1 runs queued in 'default' now; worker w1 claims nothing: {message}"
        assert db.query(lambda conn: list(factory.queues(conn))) == [Finding("queue", state, found, remedy)]


def test_a_pinned_run_that_is_suspected_holds_up_nothing(db: Database) -> None:
    define(db, job={})
    hand = Hand(db, "w1")
    live, pinned, other = start(db, "job"), start(db, "job"), start(db, "job")
    hand.take()
    suspect(db, pinned)
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == pinned).values(queue=queue_of_worker("w1"), for_worker="w1"))
    result = turn(hand, live)
    assert (ids(result), result.waiting.runs) == ([other], frozenset({pinned}))
    last = start(db, "job")
    result = turn(hand, live, other, waiting={pinned})
    assert (ids(result), result.waiting.runs) == ([last], frozenset({pinned}))
    assert ids(turn(hand, waiting={pinned})) == [pinned]


def test_a_suspected_run_that_waits_takes_no_share_of_a_busy_worker(db: Database) -> None:
    """Its slot was kept for a run that it passes over, while a run of another queue waited."""
    define(db, job={}, other={"labels": {"zone": "x"}})
    busy, full = Hand(db, "busy", slots=2, labels={"zone": "x"}), Hand(db, "full", slots=1)
    live, _ = (start(db, "job"), busy.take()), (start(db, "job"), full.take())
    poison = start(db, "other")
    suspect(db, poison)
    run_id = start(db, "job")
    assert ids(turn(busy, live[0], waiting=[poison], free=1, fair=True)) == [run_id]


def test_a_suspected_run_that_no_worker_may_take_says_so(db: Database) -> None:
    """It said that it waits for a worker on which nothing else runs, although there was none."""
    define(db, job={})
    hand = Hand(db, "w1")
    poison, pinned = start(db, "job"), start(db, "job")
    suspect(db, poison, pinned)
    with db.begin() as conn:
        conn.execute(run.update().values(reason=SUSPECTED))
        conn.execute(run.update().where(run.c.id == pinned).values(queue=queue_of_worker("w1"), for_worker="w1"))
    assert both(db, poison) == both(db, pinned) == ALONE
    db.transact(workers.set_message, hand.id, "unhealthy: no space in /spool")
    assert both(db, poison) == both(db, pinned) == "worker w1 claims nothing: unhealthy: no space in /spool"
    db.transact(workers.deregister, hand.id)
    assert both(db, poison) == "no live worker serves pool 'default'"
    assert both(db, pinned) == "worker w1, which alone may claim it"
    Hand(db, "w1").lapse()
    assert both(db, pinned) == "worker w1, which alone may claim it"
