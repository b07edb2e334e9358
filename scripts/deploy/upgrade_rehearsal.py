"""Rehearses the upgrade of a fleet that works: roles of an earlier version beside those of this one.

    python -m scripts.deploy.upgrade_rehearsal --before COMMIT [--into FOLDER] [--engine ENGINE | --url URL]

Builds the earlier version from COMMIT of this repository in FOLDER/before (that needs an index of packages), starts a
scheduler, an API and two workers of it, and starts jobs all the time. Then it upgrades as `jobfac help operating` says:
if the versions have the same schema, role by role, otherwise in the steps of that page. It checks that

- roles of this version refuse the old schema, `db upgrade` refuses while old workers are alive, and roles of the
  earlier version refuse the new schema, each in the sentence that the guide quotes;
- every start gave one run, and the same run when it is repeated with its key after the upgrade;
- each run succeeded in its first attempt, also the long ones that were under way at the drain.

The exit code is 0 if all of that holds. FOLDER has the logs. ENGINE is sqlite (a file in FOLDER), or mssql or
mssqlpython: the TDS test server, with that driver. URL must name an empty database.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from jobfac.guide import page

ROOT = Path(__file__).parents[2]
FINAL = {"succeeded", "failed", "stopped", "timed_out", "start_failed", "lost", "denied", "mixed"}
ROLES: tuple[tuple[str, ...], ...] = (("worker", "--name", "new"), ("scheduler",), ("api",))
NEW: tuple[tuple[str, ...], ...] = (
    ("scheduler",),
    ("api",),
    ("worker", "--name", "new-1", "--slots", "3"),
    ("worker", "--name", "new-2", "--slots", "3"),
)

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
            "XDG_STATE_HOME": str(folder / "state"),
        }  # fmt: skip
        self.roles: list[subprocess.Popen[bytes]] = []

    def run(self, program: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. A role that must refuse to start, and starts, raises TimeoutExpired."""
        return subprocess.run(
            [program, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    def do(self, program: Path, *words: str) -> str:
        """Run a command that must succeed; returns what it prints."""
        done = self.run(program, *words)
        assert done.returncode == 0, f"{words}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def refuses(self, program: Path, *words: str) -> None:
        """Run a command that must refuse the schema, in a sentence of the guide."""
        done = self.run(program, *words)
        sentence = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        which = "new" if program == self.after else "old"
        print(f"{which} {' '.join(words)}: exit {done.returncode}: {sentence}", flush=True)
        assert done.returncode in (4, 5), f"that must be refused: {done.stdout}{done.stderr}"
        assert any(form.fullmatch(sentence) for form in refusals()), "the guide quotes another sentence"

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


def refusals() -> list[re.Pattern[str]]:
    """The sentences of refusal that the guide quotes; versions and names of workers may differ."""
    chapter = page("operating").partition("## Upgrade a fleet that works")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```text\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE)
    sentences = [" ".join(sentence.split()) for sentence in block.split("\n\n")]
    return [re.compile(re.sub(r"batch\\-1", ".+", re.sub(r"\d{4}", r"\\d{4}", re.escape(one)))) for one in sentences]


def upgrade(fleet: Fleet, starter: Starter) -> None:
    """Upgrade across schemas: drain the workers, stop the other roles, migrate, start the new roles."""
    for words in (*ROLES, ("db", "upgrade")):
        fleet.refuses(fleet.after, *words)
    scheduler, api, *workers = fleet.roles[:4]
    drain(*workers)
    drain(scheduler, api)
    print(f"old roles have ended; new db upgrade: {fleet.do(fleet.after, 'db', 'upgrade').strip()}")
    protect_spool(fleet)
    for words in ROLES:
        fleet.refuses(fleet.before, *words)
    done = fleet.run(fleet.before, "start", "short", "--key", "old-client")
    print(f"old client on the new schema: exit {done.returncode}: {(done.stdout + done.stderr).strip()}")
    starter.program = fleet.after
    for words in NEW:
        fleet.role(fleet.after, *words)


def restart(fleet: Fleet, starter: Starter) -> None:
    """Upgrade between versions with one schema: the views, then each role starts beside an old one, which leaves."""
    print(f"old roles work; new db upgrade: {fleet.do(fleet.after, 'db', 'upgrade').strip()}")
    print(f"new db check: {fleet.do(fleet.after, 'db', 'check').strip()}")
    for old, words in zip(list(fleet.roles), NEW, strict=True):
        fleet.role(fleet.after, *words)
        time.sleep(2)  # both take runs
        drain(old)
    starter.program = fleet.after
    print("each old role was replaced by a new one")


def drain(*roles: subprocess.Popen[bytes]) -> None:
    """Send TERM to roles and wait until they have left; a worker's runs end first."""
    for role in roles:
        role.send_signal(signal.SIGTERM)
    for role in roles:
        assert role.wait(90) == 0, f"{role.args!r}: exit {role.returncode}"


def protect_spool(fleet: Fleet) -> None:
    """Workers refuse a spool that other users may read, as early versions left it."""
    for spool in (fleet.folder / "jobfac.db-spool", fleet.folder / "state" / "jobfac"):
        if spool.exists() and spool.stat().st_mode & 0o077:
            print(f"chmod 700 {spool}, which had the mode {spool.stat().st_mode & 0o777:o}")
            spool.chmod(0o700)


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
    assert attempts == len(found), "a run was executed again"
    for key, run in itertools.islice(starter.started.items(), 3):
        assert int(fleet.do(fleet.after, "start", "short", "--key", key)) == run, "a repeated start gave another run"
    assert len(runs()) == len(found)
    print(fleet.do(fleet.after, "apply", "jobs.json", "--dry-run").strip())


@contextlib.contextmanager
def database(engine: str, folder: Path) -> Iterator[str]:
    """An empty database of an engine; gives its URL."""
    if engine == "sqlite":
        for name in ("jobfac.db", "jobfac.db-wal", "jobfac.db-shm"):
            (folder / name).unlink(missing_ok=True)
        yield f"sqlite:///{folder / 'jobfac.db'}"
        return
    from tests.tds_server import harness

    driver = {"mssql": "pyodbc"}.get(engine, engine)
    with harness.running() as server, server.database("upgrade") as name:
        yield harness.url(server.port, driver, name).render_as_string(hide_password=False)


def rehearse(fleet: Fleet) -> None:
    """Run the old fleet, upgrade it while it works, and check what became of the runs."""
    prepare(fleet)
    starter = Starter(fleet)
    starter.start()
    checked = fleet.run(fleet.after, "db", "check")
    print(f"new db check: exit {checked.returncode}: {(checked.stdout + checked.stderr).strip()}")
    if checked.returncode == 0:
        restart(fleet, starter)
    else:
        upgrade(fleet, starter)
    check(fleet, starter)


def main() -> None:
    """Parse the options and rehearse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="COMMIT", help="the earlier version")
    parser.add_argument("--into", type=Path, default=Path("/var/tmp/jobfac-upgrade"), help="folder of venv and logs")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--engine", choices=["sqlite", "mssql", "mssqlpython"], default="sqlite")
    where.add_argument("--url", help="an empty database")
    options = parser.parse_args()
    folder = options.into.resolve()
    build(folder, options.before)
    (folder / "journal").unlink(missing_ok=True)
    with contextlib.nullcontext(options.url) if options.url else database(options.engine, folder) as url:
        fleet = Fleet(folder, url)
        try:
            rehearse(fleet)
        finally:
            fleet.end()
    print("nothing was lost, and nothing was executed twice")


if __name__ == "__main__":
    main()
