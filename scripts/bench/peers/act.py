"""What happens in the venv of the peers, in a process of its own:

    python -m scripts.bench.peers.act PEER submit|singles|work TARGET FOLDER NUMBER

``submit`` creates the tables and submits runs one by one, ``singles`` submits a run whenever the one before has ended,
``work`` executes runs. Figures are written as JSON: those of ``work`` to the folder, when that many runs have ended.
"""

import json
import resource
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

COMMANDS = {"true": ["/bin/true"], "stamp": ["/bin/sh", "-c", "date +%s%N"]}


class Programs:
    """Runs programs with their output in files, and writes the figures of the first so many."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._lock = threading.Lock()
        self._begin: tuple[float, float] | None = None
        self._ended = 0

    def execute(self, number: int, kind: str) -> None:
        """Run one program to its end."""
        if self._begin is None:
            with self._lock:
                self._begin = self._begin or (time.perf_counter(), spent())
        with (self._folder / f"{number}.out").open("wb") as out, (self._folder / f"{number}.err").open("wb") as err:
            subprocess.Popen(
                COMMANDS[kind], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, close_fds=True
            ).wait()
        with self._lock:
            self._ended += 1
            if self._ended != self._number:
                return
        seconds, cpu = time.perf_counter() - self._begin[0], spent() - self._begin[1]
        part = self._folder / "part"
        part.write_text(json.dumps({"rate": self._number / seconds, "cpu_ms": 1000 * cpu / self._number}))
        part.rename(self._folder / "work.json")


def spent() -> float:
    """CPU seconds of this process and its children so far."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def submit(peer: Any, target: str, number: int) -> float:
    """Submit runs one by one; returns how many a second."""
    peer.prepare(target)
    with peer.submitting(target) as one:
        start = time.perf_counter()
        for run in range(number):
            one(run, "true")
        return number / (time.perf_counter() - start)


def singles(peer: Any, target: str, folder: Path, number: int) -> list[float]:
    """Milliseconds from before each submission until the program's first act."""
    taken = []
    with peer.submitting(target) as one:
        for run in range(1_000_000, 1_000_000 + number):
            time.sleep(0.05 + run % 7 * 0.01)
            before = time.time_ns()
            one(run, "stamp")
            file = folder / f"{run}.out"
            until = time.monotonic() + 20
            while not file.exists() or not file.read_bytes().endswith(b"\n"):
                if time.monotonic() > until:
                    raise TimeoutError(f"run {run} was not executed")
                time.sleep(0.005)
            taken.append((int(file.read_bytes()) - before) / 1e6)
    return taken


def main() -> None:
    """Act as the command line says."""
    name, act, target, folder, number = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])
    peer = import_module(f"scripts.bench.peers.{name}")
    if act == "submit":
        print(json.dumps(submit(peer, target, number)))
    elif act == "singles":
        print(json.dumps(singles(peer, target, folder, number)))
    else:
        peer.work(target, Programs(folder, number).execute)


if __name__ == "__main__":
    main()
