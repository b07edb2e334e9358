"""Fleets on the mssql dialect: many workers on one queue during failures, and the request rate of idle fleets."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.tables import attempt, run, worker
from jobfac.settings import Settings
from jobfac.states import FINAL
from jobfac.store import runs, schedulers
from tests.support.engines import DRIVERS
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet, leave
from tests.support.inprocess import InProcess

USUAL = {
    f"JOBFAC_{name.upper()}": str(getattr(Settings(), name))
    for name in ("lease", "heartbeat", "lease_margin", "sweep_interval", "ship_interval", "wait_seconds")
}
"""The default intervals of a fleet."""

PATIENT = {**USUAL, "JOBFAC_LEASE": "60"}
"""A lease that outlasts an outage, however busy the machine is."""

RUNS, WORKERS = 1000, 8
WINDOW = 10.0
"""Seconds of one measurement of an idle fleet.

It is repeated after too many requests, because old runs may have been purged (every ten minutes) or ended runs counted
(every minute). On average both cost six requests a minute.
"""


@contextmanager
def fleet_on(tds: Any, driver: str, folder: Path, kind: type[Factory] = InProcess) -> Iterator[Fleet]:
    """Run a fleet on a fresh database of the test server. ``kind``: how its roles begin."""
    from tests.tds_server import harness

    folder.mkdir()
    with tds.database(f"fleet{driver}{time.monotonic_ns()}", template="migrated") as name:
        url = harness.url(tds.port, driver, name).render_as_string(hide_password=False)
        with kind(url, folder) as factory, Fleet(factory) as fleet:
            yield fleet


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_idle_worker_ends_well(tds: Any, tmp_path: Path, driver: str) -> None:
    """Its poller waits inside the driver then. A real process: a forked one has no shutdown of Python."""
    with fleet_on(tds, driver, tmp_path / "idle", Factory) as fleet:
        process = fleet.worker()
        wait_for(lambda: "worker_started" in fleet.log(process), "it has started")
        process.terminate()
        assert process.wait(20) == 0, fleet.log(process)


def test_eight_workers_execute_every_run_once_despite_faults(
    tds: Any, faults: Callable[..., None], tmp_path: Path
) -> None:
    with fleet_on(tds, DRIVERS[0], tmp_path / "drain") as fleet:
        says = 'echo "start $JOBFAC_RUN_ID $JOBFAC_ATTEMPT $$" >>"$JOURNAL/log"'
        fleet.define(brief={"command": ["sh", "-c", says], "environment": {"JOURNAL": str(fleet.journal.folder)}})
        # A lease that does not expire on a busy machine, because this test is about faults of transactions.
        workers = [
            fleet.factory.role("worker", "--name", f"w{number}", "--slots", "16", **PATIENT)
            for number in range(WORKERS)
        ]
        registered = sa.select(sa.func.count()).select_from(worker)
        wait_for(lambda: fleet.db.query(lambda conn: conn.execute(registered).scalar_one()) == WORKERS, "all are there")
        ids = [run_id for _ in range(RUNS // 500) for run_id in fleet.start("brief", 500)]
        # Counted, not drawn: in an unlucky draw a kind of fault would never come.
        faults("error 1205 chance 0.005", "drop before commit every 23", "drop after commit every 29")
        # Poll only the journal meanwhile, because that costs the server nothing.
        wait_for(lambda: fleet.journal.count() >= RUNS, "all have run", timeout=120)
        fired = {rule["rule"]: rule["fired"] for rule in tds.stats()["faults"]}
        faults()
        wait_for(lambda: fleet.states() == {"succeeded": RUNS}, "all are stored", timeout=60)
        assert [leave(one) for one in workers] == [0] * WORKERS
        assert sorted((line.run, line.attempt) for line in fleet.journal.lines("start")) == [(i, 1) for i in ids]
        ended = sa.select(sa.func.count()).where(attempt.c.ended_at.is_not(None), attempt.c.state == "succeeded")
        assert fleet.db.query(lambda conn: conn.execute(ended).scalar_one()) == RUNS
        shares = sa.select(run.c.worker, sa.func.count()).group_by(run.c.worker)
        assert len(fleet.db.query(lambda conn: conn.execute(shares).all())) == WORKERS, "all of them took part"
        assert all(fired.values()), fired


def test_no_error_of_the_server_ends_a_role_or_its_programs(
    tds: Any, faults: Callable[..., None], tmp_path: Path
) -> None:
    outages = (
        ["error 701 always", "error 1105 always"],  # no memory, no space
        ["error 5555 always"],  # jobfac does not know it
        ["drop before always", "error 18456 login always"],
    )
    with fleet_on(tds, DRIVERS[-1], tmp_path / "errors") as fleet:
        fleet.define(brief={}, long={"command": ["sleep", "600"]})
        roles = [
            fleet.worker(environment=PATIENT),
            fleet.factory.role("scheduler", **{**PATIENT, "JOBFAC_SWEEP_INTERVAL": "0.3"}),
        ]
        (long,) = fleet.start("long")
        fleet.wait(long, "running")
        wait_for(lambda: fleet.db.query(schedulers.schedulers), "the scheduler works")
        for number, rules in enumerate(outages, 1):
            faults(*rules)
            log = fleet.folder / "scheduler-1.log"
            wait_for(lambda: log.read_text().count("poll failed") >= number, "the scheduler has met one")  # noqa: B023
            wait_for(lambda: sum(rule["fired"] for rule in tds.stats()["faults"]) > 10, "the worker, too")
            faults()
            assert fleet.one("brief")["state"] == "succeeded"
        assert ([role.poll() for role in roles], fleet.get(long)["attempt"]) == ([None, None], 1)
        fleet.db.transact(runs.request_stop, long, now=True, by="me")
        fleet.wait(long)


@pytest.fixture
def idle(tds: Any, tmp_path: Path) -> Iterator[tuple[dict[str, Fleet], dict[str, list[Any]]]]:
    """An idle fleet through each driver that has executed a run, and the roles of each."""
    with ExitStack() as stack:
        fleets = {driver: stack.enter_context(fleet_on(tds, driver, tmp_path / driver)) for driver in DRIVERS}
        roles = {}
        for driver, fleet in fleets.items():
            says = 'echo "start $JOBFAC_RUN_ID $JOBFAC_ATTEMPT $(date +%s%3N)" >>"$JOURNAL/log"'
            fleet.define(brief={"command": ["sh", "-c", says], "environment": {"JOURNAL": str(fleet.journal.folder)}})
            roles[driver] = [fleet.worker(environment=USUAL), fleet.factory.role("scheduler", **USUAL)]
        for fleet in fleets.values():
            fleet.one("brief")
        yield fleets, roles


def test_an_idle_fleet_sends_few_requests(tds: Any, idle: tuple[dict[str, Fleet], dict[str, list[Any]]]) -> None:
    fleets, roles = idle
    for fleet in fleets.values():
        fleet.db.close()
    _wait_until_quiet(tds, roles)
    seen: list[dict[str, float]] = []
    while len(seen) < 4 and not all(any(rates[driver] <= 60 for rates in seen) for driver in roles):
        seen.append(_request_rates(tds, roles))  # tests beside this one change the machine's load, which is reported
    assert all(any(rates[driver] <= 60 for rates in seen) for driver in roles), seen


@pytest.mark.alone
def test_an_idle_fleet_picks_up_a_new_run_at_once(idle: tuple[dict[str, Fleet], dict[str, list[Any]]]) -> None:
    for driver, fleet in idle[0].items():
        waits = [_pickup(fleet) for _ in range(15)]
        assert statistics.median(waits) < 0.1, (driver, waits)


def test_a_lost_heartbeat_is_sent_again_in_time(tds: Any, faults: Callable[..., None], tmp_path: Path) -> None:
    lease = {"JOBFAC_LEASE": "9", "JOBFAC_LEASE_MARGIN": "1"}
    with ExitStack() as stack:
        fleets = {driver: stack.enter_context(fleet_on(tds, driver, tmp_path / driver)) for driver in DRIVERS}
        for fleet in fleets.values():
            fleet.define(long=fleet.journal.job(9))
        runs = {driver: fleet.start("long")[0] for driver, fleet in fleets.items()}
        workers = {driver: fleet.worker(environment=lease) for driver, fleet in fleets.items()}
        wait_for(lambda: all(fleet.journal.lines("start") for fleet in fleets.values()), "running")
        faults(f'silence 60 matching "UPDATE l SET" first {len(fleets)}')  # one heartbeat of each fleet
        for driver, fleet in fleets.items():
            found = fleet.wait(runs[driver])
            assert (found["state"], found["attempt"]) == ("succeeded", 1)
            said = fleet.log(workers[driver])
            assert "heartbeat failed" in said
            assert "lease not renewed in time" not in said


def _requests(tds: Any, roles: dict[str, list[Any]]) -> dict[str, int]:
    """Return the requests of each fleet's roles so far, as the server counted them."""
    counted = tds.stats()["by_process"]
    return {driver: sum(counted.get(str(role.pid), 0) for role in both) for driver, both in roles.items()}


def _request_rates(tds: Any, roles: dict[str, list[Any]]) -> dict[str, float]:
    """Return the requests per minute of each fleet's roles."""
    before = _requests(tds, roles)
    time.sleep(WINDOW)
    return {driver: (asked - before[driver]) * 60 / WINDOW for driver, asked in _requests(tds, roles).items()}


def _wait_until_quiet(tds: Any, roles: dict[str, list[Any]]) -> None:
    """Wait until the fleets are idle: for two seconds no role sends more than a wait and a heartbeat."""

    def is_quiet() -> bool:
        before = _requests(tds, roles)
        time.sleep(2)
        return all(asked - before[driver] <= 4 for driver, asked in _requests(tds, roles).items())

    wait_for(is_quiet, "the fleets settled", timeout=60)


def _pickup(fleet: Fleet) -> float:
    """Return the seconds from the commit of a start to the first action of its program, by this machine's clock."""
    (run_id,) = fleet.start("brief")
    committed = time.time()
    assert fleet.wait(run_id)["state"] in FINAL
    (said,) = [line.value for line in fleet.journal.lines("start") if line.run == run_id]
    return float(said) / 1000 - committed
