"""The logs of the roles: lines name the run, attempt, job and worker, and libraries log no tracebacks."""

import json
import subprocess
import sys

from tests.support.factory import wait_for
from tests.support.fleet import Fleet, Process, kill_with_guardian


def lines(fleet: Fleet, process: Process) -> list[dict[str, object]]:
    return [json.loads(line) for line in fleet.log(process).splitlines()]


def test_every_line_about_a_run_names_run_attempt_job_and_worker(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        good={"command": ["true"]},
        bad={"command": ["sh", "-c", "exit 3"], "retry": {"attempts": 2, "delay": "0s"}},
        absent={"command": ["/no/such"]},
        slow={"command": ["sleep", "600"], "timeout": "0.3s", "warn_after": "0.1s"},
        stopped={"command": ["sleep", "600"]},
        lost={"command": ["sleep", "600"], "restartable": False},
    )
    fleet.factory.environment["JOBFAC_LOG_LEVEL"] = "debug"
    worker = fleet.worker()
    ids = {job: fleet.start(job)[0] for job in ("good", "bad", "absent", "slow", "stopped", "lost")}
    fleet.wait(ids["stopped"], "running")
    fleet.factory.run("stop", str(ids["stopped"]))
    for job in ("good", "bad", "absent", "slow"):
        fleet.wait(ids[job])
    wait_for(lambda: any(line.get("state") == "timed_out" for line in lines(fleet, worker)), "the last is lines_of")
    kill_with_guardian(worker)
    other = fleet.worker("w2")
    fleet.wait(ids["lost"])
    wait_for(lambda: "run_orphaned" in fleet.log(other), "the loss is lines_of")
    about = [line for line in lines(fleet, worker) + lines(fleet, other) if "run" in line]
    assert all({"attempt", "job", "worker", "action", "level", "timestamp"} <= line.keys() for line in about)
    assert all(line["worker"] == "w1" and ids[str(line["job"])] == line["run"] for line in about)

    def lines_of(job: str) -> list[tuple[object, ...]]:
        return [(line["action"], line["attempt"], line.get("state")) for line in about if line["job"] == job]

    ended = "run_ended"
    assert lines_of("good") == [("run_started", 1, None), (ended, 1, "succeeded")]
    assert [lines_of("bad")[place] for place in (1, 3)] == [(ended, 1, "failed"), (ended, 2, "failed")]
    assert lines_of("absent") == [(ended, 1, "start_failed")]
    assert lines_of("slow") == [("run_started", 1, None), ("run_long", 1, None), (ended, 1, "timed_out")]
    assert lines_of("stopped") == [("run_started", 1, None), (ended, 1, "stopped")]
    assert ("run_orphaned", 1, "lost") in lines_of("lost")


OUTAGE = """
import logging
from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.telemetry.logs import configure
if {role}:
    configure(Settings())
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset", exc_info=True)
logging.getLogger("some.library").warning("it is %s", "odd")
"""


def logged(role: bool) -> str:
    script = OUTAGE.format(role=role)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr


def test_libraries_log_lines_but_no_tracebacks_of_an_outage() -> None:
    said = json.loads(logged(role=True))
    assert (said["event"], said["library"], said["level"]) == ("it is odd", "some.library", "warning")


def test_a_command_prints_no_traceback_of_an_outage() -> None:
    assert logged(role=False) == "it is odd\n"
