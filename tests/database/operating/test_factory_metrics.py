"""The metrics that the alert rules use: a dead worker or scheduler is not counted, even before its lease is expired."""

from prometheus_client.parser import text_string_to_metric_families

from jobfac.api.metrics import Metrics
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import scheduler
from jobfac.states import RunState
from jobfac.store import schedulers
from tests.support.database import Hand, define, start


def scrape(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return the samples by name and state."""
    families = text_string_to_metric_families(metrics.scrape().decode())
    return {(one.name, one.labels.get("state", "")): one.value for family in families for one in family.samples}


def test_a_fleet_that_has_died_is_not_alive(db: Database) -> None:
    metrics, hand = Metrics(db), Hand(db)
    db.transact(schedulers.register, "s1")
    found = scrape(metrics)
    assert (found["jobfac_workers", "active"], found["jobfac_slots", ""], found["jobfac_schedulers", ""]) == (1, 10, 1)
    hand.lapse()
    with db.begin() as conn:
        conn.execute(scheduler.update().values(seen_at=utcnow(-1000 * schedulers.SILENT - 1000)))
    found = scrape(metrics)
    assert (found["jobfac_workers", "active"], found["jobfac_slots", ""], found["jobfac_schedulers", ""]) == (0, 0, 0)


def test_runs_that_wait_for_one_worker_count_as_queued(db: Database) -> None:
    metrics, _ = Metrics(db), Hand(db)
    define(db, job={"each_worker": True})
    start(db, "job")
    text = metrics.scrape().decode()
    assert 'jobfac_queue_runs{pool="@worker"} 1.0' in text
    assert 'jobfac_queue_age_seconds{pool="@worker"}' in text


def test_the_first_failure_of_a_job_is_an_increase(db: Database) -> None:
    metrics, hand = Metrics(db), Hand(db)
    define(db, job={"command": ["false"]})
    before = scrape(metrics)
    start(db, "job")
    hand.end(hand.take(), RunState.FAILED)
    after = scrape(metrics)
    name = ("jobfac_run_seconds_count", "failed")
    assert (before[name], after[name]) == (0, 1)
