"""`make bench-peers`: jobfac, four other queues and two limits at the same work, interleaved, on the same disk.

python -m scripts.bench.peers [--rounds 3] [--runs 1000] [--only jobfac,huey,...]

Each submits runs of /bin/true durably, one by one, then starts a worker for eight at once. The rate and the CPU are
those from the first start to the last end (for jobfac, from the first stored claim to the last stored outcome). The CPU
is that of the worker, its programs and its database server. A pickup is the time from before a submission until the
first act of its program, on an idle worker.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from jobfac.database.tables import run as run_table
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from scripts.bench import measures
from scripts.bench.peers.server import postgres
from scripts.bench.site import BUILD, PYTHON, Site, cpu, limit, tidy, wait

VENV = BUILD.parent / "peers"
PACKAGES = {
    "honker": "honker==0.5.0",
    "huey": "huey==3.5.4",
    "pgqueuer": "pgqueuer[asyncpg]==1.6.0",
    "procrastinate": "procrastinate==3.10.0",
}
NAMES = {
    "bare": "bare Popen, nothing stored",
    "limit": "two durable commits a run, one lock",
    "jobfac": "jobfac (SQLite)",
    "honker": "honker (SQLite, may lose the last commits)",
    "huey": "huey (SQLite)",
    "pgqueuer": "pgqueuer (PostgreSQL)",
    "procrastinate": "procrastinate (PostgreSQL)",
}
SINGLES = 60

Figures = dict[str, float]


def install() -> dict[str, str]:
    """Install the peers. Returns those that cannot be installed, with the reason."""
    if not (VENV / "bin" / "python").exists():
        subprocess.run([PYTHON, "-m", "venv", VENV], check=True)
    missing = {}
    for name, package in PACKAGES.items():
        command = [str(VENV / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", package]
        if name == "procrastinate":
            command.append("psycopg[binary]")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            missing[name] = (done.stderr.strip().splitlines() or ["unknown"])[-1]
    return missing


def bare(runs_: int) -> Figures:
    """Bare Popen: programs a second, and milliseconds until a single one acts."""
    one = limit("bare", runs_, 8)
    singles = measures.bare_pickup(SINGLES)
    return {"rate": runs_ / one["seconds"], "cpu_ms": 1000 * one["cpu"] / runs_, **singles}


def jobfac(number: int) -> Figures:
    """The figures of jobfac."""
    with Site("peers-jobfac") as site:
        site.apply(measures.TRUE)
        start = time.perf_counter()
        for _ in range(number):
            site.db.transact(runs.start, StartRequest("true", "bench"))
        submit = number / (time.perf_counter() - start)
        worker = site.role("worker", "--slots", "8")
        begun = "SELECT EXISTS (SELECT 1 FROM run WHERE started_at IS NOT NULL)"
        wait(lambda: site.scalar(begun), pause=0.002)
        before = cpu(worker)
        wait(lambda: site.unfinished() == 0, pause=0.05)
        spent = cpu(worker) - before
        ends = sa.select(sa.func.min(run_table.c.started_at), sa.func.max(run_table.c.ended_at))
        first, last = site.db.query(lambda conn: conn.execute(ends).one())
    found = {"rate": number / (last - first).total_seconds(), "cpu_ms": 1000 * spent / number, "submit": submit}
    return found | measures.pickup_of("peers-pickup", SINGLES, slots=8)


def peer(name: str, target: str, busy: Callable[[], float], number: int) -> Figures:
    """The figures of another queue. ``busy`` returns the CPU seconds of its server so far."""
    folder = BUILD / f"limit-{name}-{time.time_ns()}"
    folder.mkdir()
    target = target or str(folder / "queue.db")
    python = PYTHON if name == "limit" else str(VENV / "bin" / "python")

    def act(what: str, count: int) -> list[str]:
        return [python, "-m", "scripts.bench.peers.act", name, what, target, str(folder), str(count)]

    def answer(what: str, count: int) -> str:
        return subprocess.run(act(what, count), check=True, capture_output=True, text=True).stdout

    submit = json.loads(answer("submit", number))
    before = busy()
    with (folder / "log").open("wb") as log, subprocess.Popen(act("work", number), stdout=log, stderr=log) as worker:
        try:
            wait(lambda: (folder / "work.json").exists() or worker.poll() is not None, pause=0.05)
            found = json.loads((folder / "work.json").read_text())
            served = busy() - before
            time.sleep(1)
            taken = json.loads(answer("singles", SINGLES))
        finally:
            for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
                process.kill()
    found["cpu_ms"] += 1000 * served / number
    return {**found, "submit": submit, **measures.quantiles(taken)}


def rounds(wanted: list[str], number: int, runs_: int) -> dict[str, list[Figures]]:
    """Measure each of them in turn, ``number`` times."""
    found: dict[str, list[Figures]] = {name: [] for name in wanted}
    with postgres() as (create, busy):
        for turn in range(number):
            for name in wanted:
                Console(stderr=True).print(f"round {turn + 1} of {number}: {name}")
                if name == "bare":
                    one = bare(runs_)
                elif name == "jobfac":
                    one = jobfac(runs_)
                elif name in ("pgqueuer", "procrastinate"):
                    one = peer(name, create(name), busy, runs_)
                else:
                    one = peer(name, "", lambda: 0.0, runs_)
                found[name].append(one)
    return found


def table(found: dict[str, list[Figures]], missing: dict[str, str]) -> Table:
    """The medians of all rounds."""
    result = Table(
        "system", "runs/s", "of bare", "CPU ms a run", "submit/s", "pickup p50 / p95 ms", box=None, header_style="bold"
    )

    def median(name: str, key: str, digits: int) -> str:
        values = [one[key] for one in found[name] if key in one]
        return f"{statistics.median(values):,.{digits}f}" if values else ""

    for name in found:
        ratios = [one["rate"] / bare["rate"] for one, bare in zip(found[name], found.get("bare", []), strict=False)]
        result.add_row(
            NAMES[name], median(name, "rate", 0), f"{statistics.median(ratios):.2f}" if ratios else "",
            median(name, "cpu_ms", 2), median(name, "submit", 0),
            f"{median(name, 'p50', 1)} / {median(name, 'p95', 1)}",
        )  # fmt: skip
    for name, reason in missing.items():
        result.add_row(NAMES[name], f"not measured: {reason}")
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default=",".join(NAMES))
    words = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in NAMES if name in words.only.split(",")]
    missing = {name: reason for name, reason in install().items() if name in wanted}
    try:
        found = rounds([name for name in wanted if name not in missing], words.rounds, words.runs)
    finally:
        tidy()
    Path(BUILD / "peers.json").write_text(json.dumps(found, indent=1))
    Console(width=120).print(table(found, missing))


if __name__ == "__main__":
    main()
