"""`make bench`: measure in interleaved rounds, print a table and write JSON to .build/bench/metrics.json.

python -m scripts.bench [--rounds 3] [--only dispatch,pickup,...]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobfac.database.engine import Database
from jobfac.database.tables import metadata
from scripts.bench import measures
from scripts.bench.site import BUILD, tidy

Figures = dict[str, float]
LIMIT = 320.0
"""Seconds after which no further round starts."""

RATIOS = [
    # measure, description, formula, goal
    ("dispatch", "dispatch, of bare Popen", lambda f: f["rate"] / f["bare_rate"], ">= 0.6"),
    ("dispatch", "dispatch, of each commit durable", lambda f: f["rate"] / f["durable_rate"], "> 1"),
    ("dispatch", "dispatch, CPU ms a run", lambda f: f["cpu_ms"], "<= 1.3"),
    ("dispatch", "dispatch, CPU of bare Popen's", lambda f: f["cpu_ms"] / f["bare_cpu_ms"], ""),
    ("slow_disk", "dispatch with 2 ms fsync, of shared commits", lambda f: f["rate"] / f["shared_rate"], ">= 0.9"),
    ("mssql", "dispatch through mssql, of bare Popen", lambda f: f["rate"] / f["bare_rate"], ""),
    ("mssql", "the same, share of its time outside the test server", lambda f: f["outside"], ""),
    ("pickup", "pickup p50, of bare", lambda f: f["p50"] / f["bare_p50"], "< 4"),
    ("pickup", "pickup p95, ms", lambda f: f["p95"], "< 10"),
    ("pickup_mssql", "pickup through mssql p50, ms", lambda f: f["p50"], "< 60"),
    ("submit", "submit many, runs/s", lambda f: f["many"], ">= 10000"),
    ("submit", "submit one, of the durable limit's dispatch", lambda f: f["one"] / f["durable_rate"], ">= 0.5"),
    ("submit", "submit one, of a bare durable INSERT", lambda f: f["one"] / f["durable_insert"], ""),
    ("output", "100 MB to the database, of `program > file`", lambda f: f["database"], "<= 1.2"),
    ("output", "100 MB to a file, of `program > file`", lambda f: f["file"], "<= 1.2"),
    ("output", "worker's memory gained, MB", lambda f: f["memory_mb"], "< 10"),
    ("idle", "idle worker, per cent of a core", lambda f: f["worker_cpu_percent"], "<= 0.4"),
    ("idle", "idle worker, MB", lambda f: f["worker_mb"], "<= 45"),
    ("idle", "idle worker, MB of its own", lambda f: f["worker_own_mb"], ""),
    ("idle", "idle worker on mssql, requests a minute", lambda f: f["worker_requests"], "<= 60"),
    ("idle", "idle scheduler on mssql, requests a minute", lambda f: f["scheduler_requests"], ""),
    ("idle", "idle API on mssql, requests a minute", lambda f: f["api_requests"], ""),
    ("idle", "idle scheduler, per cent of a core", lambda f: f["scheduler_cpu_percent"], ""),
    ("idle", "idle API, per cent of a core", lambda f: f["api_cpu_percent"], ""),
    ("sleepers", "200 sleepers, MB a run", lambda f: f["memory_mb_a_run"], "< 0.5"),
    ("sleepers", "200 sleepers, latest heartbeat, s", lambda f: f["heartbeat_late_s"], "< 1"),
    ("sleepers", "200 sleepers, stop of all, s", lambda f: f["stop_all_s"], ""),
    ("history", "dispatch with 100,000 finished, of empty", lambda f: f["rate_100000"] / f["rate_0"], ">= 0.91"),
    ("history", "dispatch with 1,000,000 finished, of empty", lambda f: f["rate_1000000"] / f["rate_0"], ">= 0.91"),
    ("scheduler", "10,000 due at once, s", lambda f: f["seconds"], "<= 5"),
    ("sequences", "200 sequences of 5 steps, steps/s", lambda f: f["steps_a_second"], ""),
    ("command_line", "`jobfac --help`, ms beyond 3 x `python -c pass`", lambda f: f["help_over"], "< 100"),
    ("command_line", "`jobfac start`, ms", lambda f: f["start_ms"], ""),
]  # type: list[tuple[str, str, Callable[[Figures], float], str]]


def slow_fsync() -> str:
    """Compile the shim that makes every fsync 2 ms slower; returns its path."""
    library = BUILD / "slow_fsync.so"
    source = Path(__file__).with_name("slow_fsync.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def history() -> Figures:
    """Dispatch on tables of three sizes, interleaved."""
    return {f"rate_{size}": measures.history(size)["rate"] for size in (0, 100_000, 1_000_000)}


@dataclass
class Server:
    """The TDS test server.

    ``url`` creates a database and returns its URL. For a process id, ``requests`` returns how many requests the server
    has received from that process, and ``busy`` the seconds that it has worked for it.
    """

    url: Callable[[str], str]
    requests: Callable[[int], float]
    busy: Callable[[int], float]


NO_SERVER = Server(lambda name: "", lambda process: 0.0, lambda process: 0.0)


def real(url: str) -> Server:
    """A real SQL Server. Every measure empties the database of the URL."""

    def empty(name: str) -> str:
        db = Database(url)
        db.upgrade()
        with db.begin() as conn:
            for table in metadata.sorted_tables:
                conn.execute(table.delete())
        db.close()
        return url

    return Server(empty, lambda process: 0.0, lambda process: 0.0)


@contextmanager
def mssql() -> Iterator[Server]:
    """Run the TDS test server inside this block."""
    from tests.tds_server import harness, postgres

    with harness.running() as server:

        def create(name: str) -> str:
            postgres.drop_database(server.dsn, name)
            postgres.create_database(server.dsn, name)
            return harness.url(server.port, "pyodbc", name).render_as_string(hide_password=False)

        def counter(what: str) -> Callable[[int], float]:
            return lambda process: float(server.stats()[what].get(str(process), 0))

        yield Server(create, counter("by_process"), counter("busy_by_process"))


def rounds(wanted: set[str], number: int, url: str) -> dict[str, list[Figures]]:
    """Run each measure ``number`` times, interleaved. A measure that fails is reported and omitted.

    ``url``: a real SQL Server for the measures of mssql; empty: the TDS test server.
    """
    preload = slow_fsync() if "slow_disk" in wanted else ""
    needs_server = wanted & {"mssql", "pickup_mssql", "idle"}
    found: dict[str, list[Figures]] = {name: [] for name in wanted}
    start = time.monotonic()
    with nullcontext(real(url)) if url else mssql() if needs_server else nullcontext(NO_SERVER) as server:
        every: dict[str, Callable[[], Figures]] = {
            "dispatch": lambda: measures.limits() | measures.dispatch("dispatch"),
            "slow_disk": lambda: (
                measures.limits(500, preload=preload) | measures.dispatch("slow", 500, preload=preload)
            ),
            "mssql": lambda: (
                measures.limits() | measures.dispatch("mssql", 500, url=server.url("mssql"), busy=server.busy)
            ),
            "pickup": measures.pickup,
            "pickup_mssql": lambda: measures.pickup(server.url("pickup"), 30, "pickup-mssql"),
            "submit": measures.submit,
            "output": measures.output_flood,
            "command_line": measures.command_line,
            "sequences": measures.sequences,
            "scheduler": measures.scheduler,
            "sleepers": measures.sleepers,
            "idle": lambda: measures.idle(server.url("idle"), server.requests),
            "history": history,
        }
        for turn in range(number):
            for name, measure in every.items():
                if name not in wanted:
                    continue
                if time.monotonic() - start > LIMIT and found[name]:
                    continue
                Console(stderr=True).print(f"round {turn + 1} of {number}: {name}")
                found[name].append(measure())
    return found


def summary(found: dict[str, list[Figures]]) -> list[dict[str, object]]:
    """Minimum, median and maximum of every metric. Ratios are computed for each round."""
    rows: list[dict[str, object]] = []
    for measure, title, ratio, goal in RATIOS:
        values = sorted(ratio(metrics) for metrics in found.get(measure, []))
        if values:
            rows.append(
                {
                    "what": title,
                    "minimum": round(values[0], 3),
                    "median": round(statistics.median(values), 3),
                    "maximum": round(values[-1], 3),
                    "goal": goal,
                    "rounds": len(values),
                }
            )
    return rows


def main() -> None:
    """Run the benchmarks, print the table and write the metrics."""
    every = list(dict.fromkeys(row[0] for row in RATIOS))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(every))
    parser.add_argument("--url", default="", help="a database on a real SQL Server, which is emptied, for mssql")
    words = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        found = rounds(set(words.only.split(",")), words.rounds, words.url)
    finally:
        tidy()
    rows = summary(found)
    table = Table("what", "min", "median", "max", "goal", box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("what", "minimum", "median", "maximum", "goal")))
    Console(width=120).print(table)
    machine = {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    metrics = BUILD / "metrics.json"
    metrics.write_text(json.dumps({"machine": machine, "summary": rows, "rounds": found}, indent=1))
    print(f"{machine}; every figure of every round: {metrics}")


if __name__ == "__main__":
    main()
