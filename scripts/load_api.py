"""Load test of the API: many concurrent clients start runs and follow them to the end, with one worker.

    python scripts/load_api.py [--clients 200] [--rounds 8] [--seconds 10] [--slots 8]

Half of the clients wait with ``?wait=``, half follow the output as an event stream. Prints errors, latencies and the
API's memory after each round of ``--seconds``. Exits with 1 if anything failed, or if the API's memory grew by more
than ``MARGIN`` over the second half of the rounds (the first half is the warm-up). Uses JOBFAC_DATABASE_URL, or its own
SQLite file.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

MARGIN = 2.0
"""MiB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10, help="of each round")
    parser.add_argument("--slots", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(Path(folder), options))


def measure(folder: Path, options: argparse.Namespace) -> int:
    """Start the roles, load the API, print the results; returns the exit code."""
    environment = {"JOBFAC_DATABASE_URL": f"sqlite:///{folder / 'jobfac.db'}", **os.environ}
    environment["JOBFAC_SPOOL"] = str(folder / "spool")

    def jobfac(*words: str) -> str:
        command = [sys.executable, "-m", "jobfac", *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def role(name: str, *words: str) -> "subprocess.Popen[bytes]":
        with (folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "jobfac", name, *words]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    jobfac("db", "upgrade")
    definitions = folder / "jobs.json"
    definitions.write_text(json.dumps({"jobs": {"load": {"command": ["echo", "done"]}}}))
    jobfac("apply", str(definitions))
    key = json.loads(jobfac("keys", "create", "--role", "operator", "--json"))["key"]
    roles = [role("api", "--port", "0"), role("worker", "--slots", str(options.slots))]
    try:
        url = address(folder / "api.log")
        api = psutil.Process(roles[0].pid)
        print(f"{options.clients} clients; the API's memory is {mebibytes(api):.1f} MiB before the first request")
        memory, errors = [], 0
        for number in range(1, options.rounds + 1):
            results = asyncio.run(load(url, key, options.clients, options.seconds))
            memory.append(mebibytes(api))
            errors += results.errors.total()
            print(f"round {number}: {described(results)}; the API: {memory[-1]:.1f} MiB", flush=True)
    finally:
        for process in roles:
            process.send_signal(signal.SIGTERM)
        for process in roles:
            process.wait()
    grown = memory[-1] - memory[(len(memory) - 1) // 2]
    print(f"errors: {errors}; the memory grew by {grown:.1f} MiB in the second half, {MARGIN} are allowed")
    return int(errors > 0 or grown > MARGIN)


def address(log: Path) -> str:
    """The address of the API, read from its log."""
    end = time.monotonic() + 30
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
        if time.monotonic() > end:
            sys.exit(f"The API did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return found[0]


class Results:
    """The measurements of the clients: seconds of each start and each whole run, and errors by kind."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.runs: list[float] = []
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0


async def load(url: str, key: str, clients: int, seconds: float) -> Results:
    """Run ``clients`` concurrent clients for ``seconds``. Each starts and follows one run after the other."""
    results = Results()
    begin = time.monotonic()
    end = begin + seconds
    headers = {"Authorization": f"Bearer {key}"}

    async def client(number: int) -> None:
        follow = by_waiting if number % 2 else by_stream
        # One for each: a shared pool of this size costs more than everything else here.
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=90, verify=False) as api:
            while time.monotonic() < end:
                try:
                    await one(api, follow, results)
                except (httpx.HTTPError, AssertionError) as error:
                    results.errors[f"{type(error).__name__}: {error}"] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    results.seconds = time.monotonic() - begin
    return results


async def one(api: httpx.AsyncClient, follow: Any, results: Results) -> None:
    """Start a run and follow it to its end."""
    begin = time.monotonic()
    answer = await api.post("/v1/jobs/load/runs")
    assert answer.status_code == 201, f"start: {answer.status_code}"
    results.starts.append(time.monotonic() - begin)
    state = await follow(api, answer.json()["id"])
    assert state == "succeeded", f"run ended {state}"
    results.runs.append(time.monotonic() - begin)


async def by_waiting(api: httpx.AsyncClient, run: int) -> str:
    """Wait for a run with ?wait=; returns its state."""
    while True:
        answer = await api.get(f"/v1/runs/{run}?wait=30")
        assert answer.status_code == 200, f"wait: {answer.status_code}"
        state: str = answer.json()["state"]
        if state not in ("queued", "running"):
            return state


async def by_stream(api: httpx.AsyncClient, run: int) -> str:
    """Follow the output of a run to its end; returns its state."""
    text, kind = "", ""
    async with api.stream("GET", f"/v1/runs/{run}/output", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200, f"follow: {answer.status_code}"
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "output":
                text += json.loads(value)["text"]
            elif name == "data":
                assert text == "done\n", f"output: {text!r}"
                return str(json.loads(value)["state"])
    raise AssertionError("the stream ended before the run did")


def mebibytes(process: psutil.Process) -> float:
    """The resident memory of a process in MiB."""
    return float(process.memory_info().rss) / 2**20


def described(results: Results) -> str:
    """The results of a round in one line, and one more line for each kind of error."""
    parts = [f"{len(results.runs)} runs followed to their end in {results.seconds:.1f} s"]
    for name, times in (("start", results.starts), ("start to end", results.runs)):
        if len(times) > 1:
            cuts = statistics.quantiles(times, n=100)
            parts.append(f"{name} p50 {cuts[49] * 1000:.0f} ms, p95 {cuts[94] * 1000:.0f} ms")
    failures = (f"\n  {number} times {what}" for what, number in results.errors.most_common(10))
    return "; ".join(parts) + "".join(failures)


if __name__ == "__main__":
    main()
