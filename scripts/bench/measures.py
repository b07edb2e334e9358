"""The measures. Each function runs one round of one measure and returns metrics by name."""

import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psutil
import sqlalchemy as sa

from jobfac.database.tables import run as run_table
from jobfac.store import output, runs
from jobfac.store.runs import StartRequest
from scripts.bench.site import PYTHON, Site, cpu, limit, wait

Figures = dict[str, float]
TRUE = {"true": {"command": ["/bin/true"]}}


Counter = Callable[[int], float]
"""Returns what the server has counted for a process id so far."""


def dispatch(
    name: str, count: int = 1000, slots: int = 8, url: str = "", preload: str = "", busy: Counter = lambda process: 0.0
) -> Figures:
    """Runs per second and CPU per run of ``count`` runs of /bin/true, submitted at once to an idle worker.

    They are submitted in one durable transaction. ``busy`` returns the seconds that a server has worked for a process.
    The metric ``outside`` is the share of the time in which the server did not work.
    """
    with Site(name, url, preload) as site:
        site.apply(TRUE)
        return _dispatch(site, site.worker(slots), count, busy)


def _dispatch(site: Site, worker: psutil.Process, count: int, busy: Counter) -> Figures:
    before, worked = cpu(worker), busy(worker.pid)
    first = _submit(site, count)
    wait(lambda: site.unfinished() == 0, pause=0.05)
    worked = busy(worker.pid) - worked
    last = site.db.query(lambda conn: conn.execute(sa.select(sa.func.max(run_table.c.ended_at))).scalar_one())
    assert isinstance(last, datetime)
    seconds = (last - first).total_seconds()
    spent = cpu(worker) - before
    return {"rate": count / seconds, "cpu_ms": 1000 * spent / count, "outside": 1 - worked / seconds}


def _submit(site: Site, count: int) -> datetime:
    """Submit the runs; returns the database's time of the submission."""
    ids = site.db.transact(runs.start_many, StartRequest("true", "bench"), count)
    created = sa.select(run_table.c.created_at).where(run_table.c.id == ids[-1])
    found = site.db.query(lambda conn: conn.execute(created).scalar_one())
    assert isinstance(found, datetime)
    return found


def limits(count: int = 1000, slots: int = 8, preload: str = "") -> Figures:
    """The limits of the same work: bare, with durable commits, and with shared commits."""
    found: Figures = {}
    for kind in ("bare", "durable", "shared"):
        one = limit(kind, count, slots, preload)
        found |= {f"{kind}_rate": count / one["seconds"], f"{kind}_cpu_ms": 1000 * one["cpu"] / count}
    return found


def submit() -> Figures:
    """Runs submitted per second: many at once by the command line's function, one by one, and as durable inserts."""
    with Site("submit") as site:
        site.apply(TRUE)
        start = time.perf_counter()
        site.db.transact(runs.start_many, StartRequest("true", "bench"), 10_000)
        many = 10_000 / (time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(300):
            site.db.transact(runs.start, StartRequest("true", "bench"))
        one = 300 / (time.perf_counter() - start)
        start = time.perf_counter()
        site.cli("start", "true", "--count", "10000")
        command = 10_000 / (time.perf_counter() - start)
        with site.db.engine.connect() as conn:
            raw = conn.connection.driver_connection
            assert raw is not None
            raw.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, text TEXT)")
            start = time.perf_counter()
            for _ in range(300):
                raw.execute("BEGIN IMMEDIATE")
                raw.execute("INSERT INTO plain (text) VALUES ('x')")
                raw.execute("COMMIT")
            durable = 300 / (time.perf_counter() - start)
    limit_rate = 500 / limit("durable", 500, 8)["seconds"]
    return {"many": many, "one": one, "command": command, "durable_insert": durable, "durable_rate": limit_rate}


def pickup(url: str = "", singles: int = 60, name: str = "pickup") -> Figures:
    """The pickup of single runs by an idle worker, and of bare programs."""
    bare = {f"bare_{name}": value for name, value in bare_pickup(singles).items()}
    return pickup_of(name, singles, url) | bare


def pickup_of(name: str, singles: int, url: str = "", slots: int = 2) -> Figures:
    """Milliseconds from a durable single start to the first action of its program, on an idle worker."""
    with Site(name, url) as site:
        site.apply({"stamp": {"command": ["/bin/sh", "-c", "date +%s%N"]}})
        site.worker(slots)
        taken = []
        for number in range(singles):
            time.sleep(0.05 + number % 7 * 0.01)
            before = time.time_ns()
            run_id = site.db.transact(runs.start, StartRequest("stamp", "bench"))
            wait(lambda: site.unfinished() == 0, pause=0.005)
            taken.append((_stamp(site, run_id) - before) / 1e6)
    return quantiles(taken)


def _stamp(site: Site, run_id: int) -> int:
    return int(site.db.query(output.read, run_id, 1, {"stdout": 0})[0].data)


def bare_pickup(singles: int) -> Figures:
    """The same of a program that is started without jobfac."""
    taken = []
    for _ in range(singles):
        before = time.time_ns()
        found = subprocess.run(["/bin/sh", "-c", "date +%s%N"], capture_output=True, check=True).stdout
        taken.append((int(found) - before) / 1e6)
    return quantiles(taken)


def quantiles(values: list[float]) -> Figures:
    """The median, the 95th percentile and the maximum."""
    values = sorted(values)
    return {"p50": statistics.median(values), "p95": values[int(len(values) * 0.95)], "max": values[-1]}


def output_flood(times: int = 3) -> Figures:
    """The time of a program that prints 100 MB, as a ratio to `program > file`, and the memory that the worker gained.

    The output goes in turn to the database, to a file of the job, and to a file without jobfac, each ``times`` times.
    The ratios are those of the medians.
    """
    flood = ["/bin/sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x"]
    taken: dict[str, list[float]] = {"database": [], "file": [], "plain": []}
    with Site("output") as site:
        to_file = {"command": flood, "output": {"stdout": {"overwrite": "out"}}}
        site.apply({"database": {"command": flood}, "file": to_file})
        worker = site.worker(1)
        most = before = worker.memory_info().rss
        for _ in range(times):
            for job in ("database", "file"):
                run_id = site.db.transact(runs.start, StartRequest(job, "bench"))
                while site.unfinished():
                    most = max(most, worker.memory_info().rss)
                    time.sleep(0.005)
                found = site.db.query(runs.get, run_id)
                assert found.started_at is not None
                assert found.ended_at is not None
                taken[job].append((found.ended_at - found.started_at).total_seconds())
            start = time.perf_counter()
            with (site.folder / "plain").open("wb") as file:
                subprocess.run(flood, stdout=file, check=True)
            taken["plain"].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in taken.items()}
    ratios = {name: median[name] / median["plain"] for name in ("database", "file")}
    return ratios | {"memory_mb": (most - before) / 1e6}


def idle(url: str, requests: Counter, seconds: float = 30.0) -> Figures:
    """CPU (per cent of a core) and memory (MB) of idle roles on SQLite, and requests per minute of idle roles on mssql.

    ``url``: the database on the server; ``requests`` returns how many requests it has received from a process.
    """
    with Site("idle") as site, Site("idle-mssql", url) as remote:
        roles, others = ({name: start() for name, start in _idle_roles(one).items()} for one in (site, remote))
        time.sleep(4)
        before = {name: cpu(process) for name, process in roles.items()}
        counted = {name: requests(process.pid) for name, process in others.items()}
        time.sleep(seconds)
        found = {}
        for name, process in roles.items():
            found[f"{name}_cpu_percent"] = 100 * (cpu(process) - before[name]) / seconds
            found[f"{name}_requests"] = (requests(others[name].pid) - counted[name]) * 60 / seconds
            found[f"{name}_mb"] = process.memory_info().rss / 1e6
            found[f"{name}_own_mb"] = process.memory_full_info().uss / 1e6
    return found


def _idle_roles(site: Site) -> dict[str, Callable[[], psutil.Process]]:
    site.apply(TRUE)
    return {
        "worker": lambda: site.worker(8),
        "scheduler": lambda: site.role("scheduler"),
        "api": lambda: site.role("api", "--port", "0"),
    }


def sleepers(count: int = 200) -> Figures:
    """Sleeping programs of one worker: memory per run above idle, the latest heartbeat, and the time to stop all."""
    with Site("sleepers") as site:
        site.apply({"sleep": {"command": ["/bin/sleep", "300"]}})
        worker = site.worker(count)
        before = worker.memory_info().rss
        ids = site.db.transact(runs.start_many, StartRequest("sleep", "bench"), count)
        wait(lambda: site.scalar("SELECT count(*) FROM run WHERE state = 'running'") == count)
        late = 0.0
        end = time.monotonic() + 8
        while time.monotonic() < end:
            age = site.scalar("SELECT (julianday('now') - julianday(max(seen_at))) * 86400.0 FROM worker_lease")
            late = max(late, float(age) - 3.0)
            time.sleep(0.05)
        memory = (worker.memory_info().rss - before) / count / 1e6
        start = time.perf_counter()

        def stop(conn: sa.Connection) -> None:
            for run_id in ids:
                runs.request_stop(conn, run_id, now=False, by="bench")

        site.db.transact(stop)
        wait(lambda: site.unfinished() == 0)
        return {"memory_mb_a_run": memory, "heartbeat_late_s": late, "stop_all_s": time.perf_counter() - start}


def history(finished: int) -> Figures:
    """Dispatch with ``finished`` finished runs in the table."""
    with Site(f"history{finished}") as site:
        site.apply(TRUE)
        _fill(site, finished)
        return _dispatch(site, site.worker(), 1000, lambda process: 0.0)


def _fill(site: Site, finished: int) -> None:
    columns = (
        "job, job_version, kind, state, queue, priority, attempt, failures, worker, created_at, created_by, queued_at, "
        "started_at, ended_at, exit_code, restartable, already_running, counted"
    )
    values = (
        "'true', 1, 'program', 'succeeded', 'default', n % 7, 1, 0, 'w', t, 'bench', t, t, t, 0, 1, 'start', 1 "
        "FROM (SELECT n, strftime('%Y-%m-%d %H:%M:%f000', 'now', (n - 2000000) || ' seconds') AS t FROM numbers)"
    )
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {finished})"
    if finished:
        with site.db.begin() as conn:
            conn.exec_driver_sql(f"INSERT INTO run ({columns}) {numbers} SELECT {values}")
        # A real history is inserted in small transactions and leaves no write-ahead log of this size.
        with site.db.singles.connect() as conn:
            conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def scheduler(count: int = 10_000) -> Figures:
    """Seconds until three schedulers have created the runs of ``count`` schedules that are due at the same moment."""
    with Site("scheduler") as site:
        begun = time.time()
        site.apply(_jobs_due(begun + 86400.0, "remote", 10))
        # Ten times as many take about ten times as long, and the schedulers two seconds to start.
        due = int(time.time() + 15 * (time.time() - begun)) + 4
        site.apply(_jobs_due(due, "j", count // 100))
        for _ in range(3):
            site.role("scheduler")
        early = time.time() < due
        wait(lambda: site.scalar("SELECT count(*) FROM run") == count, limit=120)
        if not early:
            raise TimeoutError("the schedules were due before the schedulers had been started")
        return {"seconds": time.time() - due}


def _jobs_due(moment: float, name: str, number: int) -> dict[str, Any]:
    """``number`` jobs, each with a hundred schedules that are due at ``moment``."""
    at = datetime.fromtimestamp(moment).astimezone().isoformat()
    schedules = [{"at": at, "name": f"s{number}"} for number in range(100)]
    return {f"{name}{one}": {"command": ["/bin/true"], "schedules": schedules} for one in range(number)}


def sequences(count: int = 200, steps: int = 5) -> Figures:
    """Steps per second of ``count`` concurrent sequence runs."""
    with Site("sequences") as site:
        chain = [{"name": f"s{number}", "jobs": ["true"]} for number in range(steps)]
        site.apply({**TRUE, "chain": {"steps": chain}})
        site.worker(8)
        start = time.perf_counter()
        site.db.transact(runs.start_many, StartRequest("chain", "bench"), count)
        wait(lambda: site.unfinished() == 0, limit=240, pause=0.05)
        return {"steps_a_second": count * steps / (time.perf_counter() - start)}


def command_line() -> Figures:
    """Milliseconds of CPU-bound start-up: `--help` and `start` against `python -c pass`."""
    with Site("cli") as site:
        site.apply(TRUE)
        empty = _timed([PYTHON, "-c", "pass"], site)
        shown = _timed([PYTHON, "-m", "jobfac", "--help"], site)
        started = _timed([PYTHON, "-m", "jobfac", "start", "true"], site)
    return {"python_ms": empty, "help_ms": shown, "start_ms": started, "help_over": shown - 3 * empty}


def _timed(words: list[str], site: Site, times: int = 7) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(words, env=site.environment, check=True, capture_output=True)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)
