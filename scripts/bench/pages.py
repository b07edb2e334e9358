"""The pages over a large factory: server time of each page, and what an open page costs the database while idle.

python -m scripts.bench.pages [--runs 1000000] [--jobs 5000] [--workers 100]

Server time is from the request to the whole answer on a connection that stays open, on the same machine; each page is
requested 50 times. The exit code is 1 if a page is slower than the limit, or an idle page costs more than its share.
"""

import argparse
import gc
import json
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import sqlalchemy as sa

from jobfac.api import Server
from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.store import api_keys
from jobfac.store import statistics as daily
from jobfac.store.api_keys import Role
from jobfac.web import site
from scripts.bench.site import Site

LIMIT = 50.0
"""Milliseconds: the 95th percentile of the requests of a page must be below it."""

REQUESTS = 50
IDLE = 60.0
"""Seconds for which an idle page is watched."""

PAGES = (
    "/", "/runs", "/runs?state=failed", "/runs?state=failed&since=24h&q=code+3", "/runs?q=nothing+has+this+text",
    "/runs?worker=worker-7", "/runs?category=group-3", "/runs?job=job-00042&state=failed", "/runs?until=20d",
    "/runs/{run}", "/runs/{failed}", "/jobs", "/jobs?q=0042", "/jobs?state=failing", "/jobs?category=group-3",
    "/jobs/job-00042", "/jobs/job-00042/start", "/timeline", "/timeline?span=day", "/timeline?span=week&by=worker",
    "/timeline/load",
    "/fleet", "/reports", "/reports?days=30", "/notifications", "/audit", "/audit?q=job-00042", "/guide",
    "/search?q=job-00042",
)  # fmt: skip


def fill(site: Site, runs: int, jobs: int, workers: int, days: int = 60) -> None:
    """Define jobs, register workers, and insert finished runs over some days, with what belongs to them."""
    site.apply(
        {
            f"job-{number:05}": {
                "command": ["/bin/true", f"--part={number}"],
                "name": f"Load part {number}",
                "category": f"group-{number % 9}",
                "schedules": [{"cron": f"{number % 60} {number % 24} * * *"}],
            }
            for number in range(jobs)
        }
    )
    apart = days * 86400.0 / runs
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {runs - 1})"
    moment = "strftime('%Y-%m-%d %H:%M:%f000', 'now', ({}) || ' seconds')"
    queued = moment.format(f"(n - {runs}) * {apart} - 300")
    started = moment.format(f"(n - {runs}) * {apart} - 300 + n % 7")
    ended = moment.format(f"(n - {runs}) * {apart} - 300 + n % 7 + n % 41 * (1 + n * 7919 % 13) / 4.0")
    state = "CASE WHEN n * 7919 % 97 = 0 THEN 'failed' WHEN n * 7919 % 501 = 0 THEN 'timed_out' ELSE 'succeeded' END"
    with site.db.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO run (job, job_version, kind, state, queue, priority, attempt, failures, created_at, "
            "created_by, queued_at, started_at, ended_at, worker_id, worker, exit_code, reason, restartable, "
            f"already_running) {numbers} SELECT printf('job-%05d', n * 31 % {jobs}), 1, 'program', {state}, 'default', "
            f"0, 1, 0, {queued}, 'bench', {queued}, {started}, {ended}, 1 + n % {workers}, 'worker-' || n % {workers}, "
            "CASE WHEN n * 7919 % 97 = 0 THEN 3 ELSE 0 END, CASE WHEN n * 7919 % 97 = 0 THEN 'exit code 3' END, "
            "1, 'start' FROM numbers"
        )
        conn.exec_driver_sql(
            "INSERT INTO attempt (run_id, number, worker_id, worker, started_at, ended_at, state) "
            "SELECT id, 1, worker_id, worker, started_at, ended_at, state FROM run"
        )
        conn.exec_driver_sql(
            "INSERT INTO run_event (run_id, attempt, at, event, by) SELECT id, k, ended_at, 'running', worker "
            "FROM run, (SELECT 0 AS k UNION ALL SELECT 1) ORDER BY id"
        )
    _fill_fleet(site, runs, workers)
    while site.db.transact(daily.count) == daily.BATCH:
        pass
    with site.db.begin() as conn:
        conn.exec_driver_sql("ANALYZE")


def _fill_fleet(site: Site, runs: int, workers: int) -> None:
    """Register workers, and let the newest runs run or wait."""
    moment = "strftime('%Y-%m-%d %H:%M:%f000', 'now', ({}) || ' seconds')"
    with site.db.begin() as conn:
        soon = moment.format("3600")
        conn.exec_driver_sql(
            "INSERT INTO worker (name, host, pid, token, version, slots, pools, labels, state, started_at) "
            "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers "
            f"WHERE n < {workers - 1}) SELECT 'worker-' || n, 'host', 1, 'token-' || n, '0.1.0', 8, '[\"default\"]', "
            f"'{{}}', 'active', {moment.format('-60')} FROM numbers"
        )
        conn.exec_driver_sql(
            f"INSERT INTO worker_lease (worker_id, seen_at, lease_until, ended) SELECT id, {moment.format('-1')}, "
            f"{soon}, 0 FROM worker"
        )
        conn.exec_driver_sql(
            "UPDATE run SET state = CASE WHEN id % 2 = 0 THEN 'running' ELSE 'queued' END, ended_at = NULL, "
            f"reason = NULL, progress = 0.4 WHERE id > (SELECT max(id) FROM run) - {min(400, runs // 5)}"
        )


@contextmanager
def served(url: str) -> Iterator[tuple[Database, httpx.Client]]:
    """Serve API and pages in this process; gives the database and a client with an administrator's key."""
    db = Database(url)
    server = Server(db, Settings(api_port=0), site=site())
    thread = threading.Thread(target=server.run, daemon=True)
    gc.freeze()  # as `jobfac api` does
    thread.start()
    key = db.transact(api_keys.create, "bench", Role.ADMIN, "bench").key
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/html"}
    try:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            yield db, client
    finally:
        server.stop()
        thread.join()
        db.close()


def measure(client: httpx.Client, path: str) -> tuple[float, float, int]:
    """Return the p50 and p95 of the page's time in milliseconds, and its size in bytes."""
    taken, size = [], 0
    for _ in range(REQUESTS):
        began = time.perf_counter()
        answer = client.get(path)
        taken.append(1000 * (time.perf_counter() - began))
        assert answer.status_code in (200, 303), (path, answer.status_code, answer.text[:500])
        size = len(answer.content)
    ordered = sorted(taken)
    return statistics.median(ordered), ordered[int(0.95 * REQUESTS) - 1], size


def idle(db: Database, client: httpx.Client, pages: int) -> float:
    """Return the statements a minute while so many pages are open and nothing happens."""
    number = 0

    def count(*_: object) -> None:
        nonlocal number
        number += 1

    def listen() -> None:
        with suppress(httpx.HTTPError), client.stream("GET", "/live") as answer:  # until the server stops
            for _ in answer.iter_lines():
                if ended.is_set():
                    return

    ended = threading.Event()
    threads = [threading.Thread(target=listen, daemon=True) for _ in range(pages)]
    for thread in threads:
        thread.start()
    time.sleep(3.0)
    sa.event.listen(db.engine, "before_cursor_execute", count)
    time.sleep(IDLE)
    sa.event.remove(db.engine, "before_cursor_execute", count)
    ended.set()
    return number * 60 / IDLE


def first_visit(client: httpx.Client) -> int:
    """Return the bytes, compressed, of everything that a first visit loads: the login, a page, style and scripts."""
    total, seen = 0, set()
    for page in ("/login", "/"):
        with client.stream("GET", page) as answer:
            total += len(b"".join(answer.iter_raw()))
        seen |= set(re.findall(r'(?:src|href)="(/static/[^"]+)"', client.get(page).text))
    for path in seen:
        with client.stream("GET", path) as answer:
            total += len(b"".join(answer.iter_raw()))
    return total


def main() -> int:
    """Measure, print a table, and return the exit code."""
    parser = argparse.ArgumentParser()
    for name, default in (("runs", 1_000_000), ("jobs", 5000), ("workers", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    figures: dict[str, object] = {}
    with Site("pages") as place:
        fill(place, given.runs, given.jobs, given.workers)
        with served(place.url) as (db, client):
            with db.read() as conn:
                run = conn.exec_driver_sql("SELECT max(id) - 1000 FROM run").scalar_one()
                failed = conn.exec_driver_sql("SELECT max(id) FROM run WHERE state = 'failed'").scalar_one()
            for path in PAGES:
                p50, p95, size = measure(client, path.format(run=run, failed=failed))
                figures[path] = {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "bytes": size}
                print(
                    f"{path:45} {p50:7.1f} {p95:7.1f} ms {size:8,} bytes{'' if p95 < LIMIT else '  TOO SLOW'}",
                    flush=True,
                )
            figures["first_visit_bytes"] = first_visit(client)
            figures["idle_1"], figures["idle_50"] = idle(db, client, 1), idle(db, client, 50)
    print(json.dumps({name: value for name, value in figures.items() if not name.startswith("/")}))
    slow = [path for path in PAGES if figures[path]["p95_ms"] >= LIMIT]  # type: ignore[index]
    return 1 if slow or float(str(figures["idle_1"])) > 60 or float(str(figures["idle_50"])) > 120 else 0


if __name__ == "__main__":
    sys.exit(main())
