"""Rehearses the upgrade of a fleet that works: roles of an earlier version beside those of this one.

    python -m scripts.deploy.upgrade_rehearsal --before COMMIT [--into FOLDER] [--url URL]

Builds the earlier version from COMMIT of this repository in FOLDER/before (that needs an index of packages), starts a
scheduler, an API and two workers of it, and starts jobs all the time. Then it upgrades as `jobfac help operating` says.
It checks that

- a role of this version refuses the old schema, and `db upgrade` refuses while old workers are alive, in a sentence;
- every start gave one run, each run succeeded, and no run was executed twice at the same time;
- long runs that were under way at the drain ended normally.

With ``--unasked`` the schema is changed by `db script` under the old workers, as somebody may do who does not read the
guide: their programs are stopped before the lease ends, and new workers execute the runs again.

The exit code is 0 if all of that holds. FOLDER has the logs. URL must name an empty database; default: a SQLite file.
"""

import argparse
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FINAL = {"succeeded", "failed", "stopped", "timed_out", "start_failed", "lost", "denied", "mixed"}

PROGRAM = """\
import os, sys, time
def say(what):
    run, attempt = os.environ["JOBFAC_RUN_ID"], os.environ["JOBFAC_ATTEMPT"]
    open(sys.argv[1], "a").write(f"{run} {attempt} {what} {time.time()}\\n")
say("begins")
end = time.time() + float(sys.argv[2])
while time.time() < end:
    time.sleep(0.1)
    say("works")
say("ends")
"""


class Fleet:
    """The processes of both versions on one database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.before = folder / "before" / "bin" / "jobfac"
        self.after = Path(sys.executable).with_name("jobfac")
        self.environment = {
            **os.environ, "JOBFAC_DATABASE_URL": url, "JOBFAC_LEASE": "6", "JOBFAC_HEARTBEAT": "1",
            "JOBFAC_LEASE_MARGIN": "2", "JOBFAC_SWEEP_INTERVAL": "1", "JOBFAC_API_PORT": "0",
        }  # fmt: skip
        self.roles: list[subprocess.Popen[bytes]] = []

    def run(self, program: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [program, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def do(self, program: Path, *words: str) -> str:
        """Run a command that must succeed; returns what it prints."""
        done = self.run(program, *words)
        assert done.returncode == 0, f"{words}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def role(self, program: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a role; its log is in the folder."""
        log = (self.folder / f"{len(self.roles)}-{words[0]}.log").open("wb")
        self.roles.append(
            subprocess.Popen([program, *words], cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        )
        return self.roles[-1]

    def end(self) -> None:
        """Kill what is left."""
        for role in self.roles:
            role.kill()
            role.wait()


def build(folder: Path, commit: str) -> None:
    """Install the earlier version into ``folder/before``, unless it is there."""
    if (folder / "before" / "bin" / "jobfac").exists():
        return
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", source], input=archive, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "before"], check=True)
    pip = folder / "before" / "bin" / "pip"
    subprocess.run(
        [pip, "install", "-q", "-c", source / "constraints.txt", f"{source}[mssql,mssql-python]"], check=True
    )


def until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.3)


class Starter(threading.Thread):
    """Starts a short job again and again, with a key for each; a start that fails is repeated with its key."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self.fleet, self.program = fleet, fleet.before
        self.started: dict[str, int] = {}
        self.refusals: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            key = f"key-{number}"
            done = self.fleet.run(self.program, "start", "short", "--key", key)
            if done.returncode == 0:
                self.started[key] = int(done.stdout)
                number += 1
            else:
                self.refusals.append(done.stderr.strip())
            time.sleep(0.5)


def overlaps(journal: str) -> list[str]:
    """Runs of which an attempt begins while another one still works."""
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in journal.splitlines():
        run, attempt, _, at = line.split()
        times[run, int(attempt)].append(float(at))
    ordered = sorted(times)
    return [
        later[0]
        for former, later in itertools.pairwise(ordered)
        if former[0] == later[0] and max(times[former]) > min(times[later])
    ]


def prepare(fleet: Fleet) -> None:
    """Create the old schema, the jobs and the old fleet."""
    (fleet.folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(fleet.folder / "program.py"), str(fleet.folder / "journal")]
    jobs = {"short": {"command": [*command, "0.2"]}, "long": {"command": [*command, "12"]}}
    (fleet.folder / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    fleet.do(fleet.before, "db", "upgrade")
    fleet.do(fleet.before, "apply", "jobs.json")
    fleet.role(fleet.before, "scheduler")
    fleet.role(fleet.before, "api")
    for name in ("old-1", "old-2"):
        fleet.role(fleet.before, "worker", "--name", name, "--slots", "3")
    until(lambda: len(json.loads(fleet.do(fleet.before, "workers", "list", "--json"))) == 2, "two old workers")
    for _ in range(3):
        fleet.do(fleet.before, "start", "long")
    until(lambda: (fleet.folder / "journal").exists(), "a run is under way")


def refused(fleet: Fleet) -> None:
    """What cannot be mixed says so."""
    for words in (("worker", "--name", "new"), ("scheduler",), ("api",), ("db", "upgrade")):
        done = fleet.run(fleet.after, *words)
        print(f"new {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()}")
        assert done.returncode in (4, 5), "that must be refused"
        assert re.search(r"version 0\d+", done.stderr), "the sentence must name the version"


def upgrade(fleet: Fleet, starter: Starter) -> None:
    """Upgrade as the guide says: drain the workers, stop the other roles, migrate, start the new roles."""
    scheduler, api, *workers = fleet.roles[:4]
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(90) == 0
    for role in (scheduler, api):
        role.send_signal(signal.SIGTERM)
        role.wait(30)
    print(f"old roles have ended; new db upgrade: {fleet.do(fleet.after, 'db', 'upgrade').strip()}")
    protect_spool(fleet)
    done = fleet.run(fleet.before, "start", "short", "--key", "old-client")
    print(f"old client on the new schema: exit {done.returncode}: {(done.stdout + done.stderr).strip()}")
    starter.program = fleet.after


def protect_spool(fleet: Fleet) -> None:
    """Workers refuse a spool that other users may read, as early versions left it."""
    spool = fleet.folder / "jobfac.db-spool"
    if spool.exists():
        print(f"chmod 700 of the spool, which had the mode {spool.stat().st_mode & 0o777:o}")
        spool.chmod(0o700)


def change_unasked(fleet: Fleet, url: str) -> None:
    """Change the schema under the old roles, and let them run on."""
    found = re.search(r"schema (?:is )?(?:version )?(\d+)", fleet.do(fleet.before, "db", "check"))
    assert found is not None
    script = fleet.do(fleet.after, "db", "script", "--dialect", "sqlite", "--from", found[1])
    with sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30) as conn:
        conn.executescript(script)
    print("the schema was changed by db script while old workers were alive")


def check(fleet: Fleet, starter: Starter) -> None:
    """Wait for the end of all runs and compare."""
    time.sleep(3)
    starter.over.set()
    starter.join()

    def runs() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(fleet.do(fleet.after, "runs", "list", "--limit", "5000", "--json"))
        return found

    until(lambda: all(run["state"] in FINAL for run in runs()), "all runs ended")
    found = {run["id"]: run for run in runs()}
    journal = (fleet.folder / "journal").read_text()
    ended = {line.split()[0] for line in journal.splitlines() if " ends " in line}
    attempts = sum(int(str(run["attempt"])) for run in found.values())
    print(f"{len(found)} runs, {attempts} executions, {len(starter.started)} starts with keys")
    print(f"{len(starter.refusals)} starts were refused and repeated: {set(starter.refusals)}")
    assert len(set(starter.started.values())) == len(starter.started), "two keys gave one run"
    assert set(starter.started.values()) <= set(found), "a run is gone"
    assert {run["state"] for run in found.values()} == {"succeeded"}, found
    assert {str(run) for run in found} == ended, "a run that succeeded never reached its end"
    assert overlaps(journal) == [], "a run was executed twice at the same time"


def main() -> None:
    """Parse the options and rehearse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="COMMIT", help="the earlier version")
    parser.add_argument("--into", type=Path, default=Path("/var/tmp/jobfac-upgrade"), help="folder of venv and logs")
    parser.add_argument("--url", help="an empty database; default: a SQLite file in the folder")
    parser.add_argument("--unasked", action="store_true", help="change the schema under old workers (SQLite)")
    options = parser.parse_args()
    build(options.into, options.before)
    for name in ("journal", "jobfac.db", "jobfac.db-wal", "jobfac.db-shm"):
        (options.into / name).unlink(missing_ok=True)
    url = options.url or f"sqlite:///{options.into / 'jobfac.db'}"
    fleet = Fleet(options.into.resolve(), url)
    try:
        prepare(fleet)
        starter = Starter(fleet)
        starter.start()
        refused(fleet)
        if options.unasked:
            change_unasked(fleet, url)
            protect_spool(fleet)
            starter.program = fleet.after
        else:
            upgrade(fleet, starter)
        fleet.role(fleet.after, "scheduler")
        for name in ("new-1", "new-2"):
            fleet.role(fleet.after, "worker", "--name", name, "--slots", "3")
        check(fleet, starter)
    finally:
        fleet.end()
    print("nothing was lost")


if __name__ == "__main__":
    main()
