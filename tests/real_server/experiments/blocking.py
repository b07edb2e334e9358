"""Experiment 3: what a DBA's open transaction does to a worker with programs, and to idle workers."""

import threading
from collections.abc import Iterator

import sqlalchemy as sa

from tests.real_server.experiments.place import Finding, Place, reason
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet, Process

PROGRAMS = 5
SITUATIONS = {
    "an open start_job of a job with a limit": "EXEC jobfac.start_job @job = N'limited'",
    "an open stop_run": "EXEC jobfac.stop_run @run = {run}",
    "an offline rebuild of ix_run_claim": "ALTER INDEX ix_run_claim ON jobfac.run REBUILD",
    "an offline rebuild of pk_worker_lease": "ALTER INDEX pk_worker_lease ON jobfac.worker_lease REBUILD",
}
"""What a DBA leaves open."""

REQUESTS = """\
SELECT SUM(CAST(c.num_reads AS BIGINT)) FROM sys.dm_exec_connections AS c
JOIN sys.dm_exec_sessions AS s ON s.session_id = c.session_id WHERE s.host_process_id IN ({processes})"""
"""Packets that the server has read from these processes; a request is one or a few."""

SPIN = 40.0
"""Requests of an idle worker in a second that would be too many."""


def experiment(place: Place) -> Iterator[Finding]:
    """In each situation: do programs die, is the lease lost, how much do idle workers ask?"""
    with Factory(place.db.url.render_as_string(hide_password=False), place.folder) as factory, Fleet(factory) as fleet:
        fleet.define(
            long=fleet.journal.job(place.seconds * len(SITUATIONS) * 4 + 60),
            limited={**fleet.journal.job(0.2), "concurrency": {"key": "k", "limit": 2}},
            stopped={"command": ["true"], "already_running": "queue", "pool": "none"},
        )
        fleet.start("long", PROGRAMS)
        busy = fleet.worker("busy", slots=PROGRAMS + 2)
        wait_for(lambda: len(fleet.journal.lines("start")) == PROGRAMS, f"{PROGRAMS} programs run")
        idle = [fleet.worker(f"idle{number}") for number in range(place.workers)]
        (to_stop,) = fleet.start("stopped")
        for situation, text in SITUATIONS.items():
            yield from _observe(place, fleet, busy, idle, situation, text.format(run=to_stop))


def _observe(
    place: Place, fleet: Fleet, busy: Process, idle: list[Process], situation: str, text: str
) -> Iterator[Finding]:
    before = fleet.registration(busy)["id"]
    programs = set(fleet.programs(busy))
    (limited,) = fleet.start("limited")
    asked: list[int] = []
    refused = ""
    with place.session() as dba, place.session() as other:
        try:
            dba.exec_driver_sql(text)
        except sa.exc.DBAPIError as error:
            refused = reason(error)
        for pause in (place.seconds, 0.0):
            try:
                numbers = ", ".join(str(process.pid) for process in idle) or "0"
                asked.append(int(other.exec_driver_sql(REQUESTS.format(processes=numbers)).scalar_one() or 0))
            except (sa.exc.DBAPIError, TypeError):
                other.rollback()
            threading.Event().wait(pause)
    if refused:
        yield Finding(situation, f"refused: {refused}")
        return
    alive = len(programs & set(fleet.programs(busy)))
    row = fleet.row(busy)
    kept = row is not None and row["id"] == before
    wait_for(lambda: fleet.get(limited)["ended_at"], "what waited for the DBA goes on", 60.0)
    lost = [word for word in ("lease not renewed in time", "lease lost") if word in fleet.log(busy)]
    told = f"{alive} of {len(programs)} processes of programs live, the lease is {'kept' if kept else 'LOST'}"
    yield Finding(f"{situation}, for {place.seconds:g} s", told, alive < len(programs) or not kept or bool(lost))
    question = f"{situation}: requests of {len(idle)} idle workers"
    if len(asked) < 2:
        yield Finding(question, "not answered: this login may not read sys.dm_exec_connections")
        return
    rate = (asked[1] - asked[0]) / place.seconds / max(1, len(idle))
    yield Finding(question, f"{rate:.1f} a second and worker", rate > SPIN)
