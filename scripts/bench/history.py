"""A long history: reports over it, and a claim's latency while half of it is purged.

python -m scripts.bench.history [--runs 1000000]
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from jobfac.store import runs
from jobfac.store import statistics as daily
from jobfac.store.runs import StartRequest
from scripts.bench.site import PYTHON, Site, wait

JOBS = 40
DAYS = 160
KEPT = 80
"""Days that a run is kept. The table holds runs of ``DAYS`` days, so half of them are purged."""


def jobs() -> dict[str, object]:
    """Forty jobs with a history, and the job that is started during the purge."""
    body: dict[str, object] = {"command": ["/bin/true"], "retention": f"{KEPT}d"}
    return {
        **{f"job-{number:02}": {**body, "category": f"group-{number % 5}"} for number in range(JOBS)},
        "probe": body,
    }


def fill(site: Site, number: int) -> None:
    """Insert ``number`` finished runs over ``DAYS`` days, each with an attempt, three events and a line of output."""
    apart = DAYS * 86400.0 / number
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {number - 1})"
    moment = "strftime('%Y-%m-%d %H:%M:%f000', 'now', ({}) || ' seconds')"
    queued = moment.format(f"(n - {number}) * {apart} - 600")
    started = moment.format(f"(n - {number}) * {apart} - 600 + CASE WHEN n % 500 THEN n % 7 ELSE 90 END")
    ended = moment.format(f"(n - {number}) * {apart} - 600 + 90 + n % 41 * (1 + n * 7919 % 13)")
    state = "CASE WHEN n * 7919 % 37 = 0 THEN 'failed' WHEN n * 7919 % 501 = 0 THEN 'timed_out' ELSE 'succeeded' END"
    with site.db.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO run (job, job_version, kind, state, queue, priority, attempt, failures, created_at, "
            "created_by, queued_at, started_at, ended_at, worker_id, worker, exit_code, restartable, already_running) "
            f"{numbers} SELECT printf('job-%02d', n * 31 % {JOBS}), 1, 'program', {state}, 'default', 0, 1, 0, "
            f"{queued}, 'bench', {queued}, {started}, {ended}, 1, 'worker-' || n % 4, 0, 1, 'start' FROM numbers"
        )
        conn.exec_driver_sql(
            "INSERT INTO attempt (run_id, number, worker_id, worker, started_at, ended_at, state) "
            "SELECT id, 1, 1, worker, started_at, ended_at, state FROM run"
        )
        conn.exec_driver_sql(
            "INSERT INTO run_event (run_id, attempt, at, event, by) SELECT id, k, ended_at, 'running', worker "
            "FROM run, (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2) ORDER BY id"
        )
        conn.exec_driver_sql(
            "INSERT INTO run_output (run_id, attempt, stream, offset, data, at) "
            "SELECT id, 1, 'stdout', 0, CAST('done, ' || id || ' rows' AS BLOB), ended_at FROM run"
        )


def timed(work: Callable[[], object]) -> float:
    """The duration of ``work`` in seconds."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 3)


def latencies(site: Site, until: Callable[[int], bool]) -> list[float]:
    """Milliseconds from the request to start a run to its claim, for one run after the other."""
    taken: list[float] = []
    while not until(len(taken)):
        time.sleep(0.03)
        before = time.time()
        run_id = site.db.transact(runs.start, StartRequest("probe", "bench"))
        wait(partial(site.scalar, f"SELECT ended_at FROM run WHERE id = {run_id}"), pause=0.005)
        found = site.db.query(runs.get, run_id)
        assert found.started_at is not None
        taken.append(1000 * (found.started_at.timestamp() - before))
    return taken


def quantiles(name: str, values: list[float]) -> Iterator[tuple[str, float]]:
    values = sorted(values)
    yield f"{name}_p50_ms", round(statistics.median(values), 1)
    yield f"{name}_p95_ms", round(values[int(len(values) * 0.95)], 1)
    yield f"{name}_max_ms", round(values[-1], 1)


def measure(number: int) -> dict[str, object]:
    """All metrics by name."""
    with Site("long-history") as site:
        site.apply(jobs())
        found: dict[str, object] = {"runs": number, "fill_s": timed(lambda: fill(site, number))}
        found["count_s"] = timed(lambda: wait(lambda: site.db.transact(daily.count) < daily.BATCH, 3600, 0))
        found["report_s"] = timed(lambda: site.cli("report", "all", "--since", f"{DAYS}d"))
        page = str(site.folder / "report.html")
        found["report_page_s"] = timed(lambda: site.cli("report", "--since", f"{DAYS}d", "--html", page))
        site.worker(2)
        found.update(quantiles("before", latencies(site, lambda taken: taken == 150)))
        start = time.perf_counter()
        purge = subprocess.Popen([PYTHON, "-m", "jobfac", "purge"], env=site.environment, stdout=subprocess.PIPE)
        during = latencies(site, lambda taken: purge.poll() is not None)
        assert purge.stdout is not None
        found["purge_said"] = purge.stdout.read().decode().strip()
        found["purge_s"] = round(time.perf_counter() - start, 1)
        found["left"] = site.scalar("SELECT count(*) FROM run WHERE job <> 'probe'")
        found.update(quantiles("during", during))
        found.update(quantiles("after", latencies(site, lambda taken: taken == 150)))
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    print(json.dumps(measure(parser.parse_args().runs), indent=1))


if __name__ == "__main__":
    main()
