"""Failures, and retries of many of them."""

from jobfac.database.engine import Database
from jobfac.operations import starting
from jobfac.operations.bulk import many
from jobfac.operations.caller import Caller
from jobfac.states import FINAL, RunState
from jobfac.store.history.search import Filter
from jobfac.views.results.many import ManyView
from tests.support.database import Hand, start
from tests.support.engines import ENGINES
from tests.support.tsql import call

ANN = Caller("ann")

DOORS = [(engine, "program") for engine in ENGINES] + [(engine, "procedure") for engine in ENGINES[1:]]


def again(db: Database, door: str, run_id: int) -> int:
    """Retry a run through one of the two doors; returns the new run."""
    if door == "program":
        return starting.retry(db, ANN, run_id).id
    with db.begin() as conn:
        return int(call(conn, "retry_run", run=run_id, by="bob"))


def retry(db: Database, wanted: Filter, by: Caller = ANN, dry_run: bool = False) -> list[ManyView]:
    return many.retry(db, by, many.choose_all(db, by, wanted, 100, FINAL), dry_run=dry_run, wanted=wanted)


def failed(db: Database, job: str, number: int) -> list[int]:
    ids = [start(db, job) for _ in range(number)]
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed, RunState.FAILED, reason="exit code 1")
    return ids
