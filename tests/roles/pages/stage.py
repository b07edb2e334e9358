"""A small factory for tests of the pages: jobs in every situation, made in the database without running a program."""

from typing import Any, NamedTuple

import httpx

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification
from jobfac.states import RunState
from jobfac.store import output, runs, schedules
from tests.support.api_stage import Served
from tests.support.database import start
from tests.support.sequences import Player

NASTY = '<script>alert("x")</script>\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07 & \'"</title>'
"""Text of a program that wants to be more than text."""

JOBS: dict[str, dict[str, Any]] = {
    "export": {
        "name": "Export orders", "category": "finance", "description": "Writes orders.", "arguments": ["--full"],
        "schedules": [{"name": "nightly", "cron": "0 3 * * *"}], "environment": {"MODE": "nightly"},
    },
    "quiet": {},
    "broken": {"category": "finance", "command": ["python3", "-c", "import sys; sys.exit(3)"]},
    "unwanted": {"pool": "etl", "labels": {"zone": "a"}},
    "to-file": {"output": {"stdout": {"append": "/var/log/export.log"}, "stderr": "none"}},
    "slow": {"category": "ops", "concurrency": {"limit": 1, "key": "ledger"}},
    "month-end": {
        "category": "finance",
        "steps": [
            {"name": "extract", "jobs": ["broken"], "on_failure": {"step": "repair"}},
            {"name": "close", "jobs": ["export"], "on_success": "end"},
            {"name": "repair", "jobs": ["to-file"]},
        ],
    },
}  # fmt: skip


class Stage(NamedTuple):
    """The ids of the runs that there are."""

    worker: int
    succeeded: int
    failed: int
    running: int
    blocked: int
    unserved: int
    sequence: int
    to_file: int
    scheduled: int


def write(db: Database, run_id: int, text: str, stream: str = "stdout", attempt: int = 1) -> None:
    """Store output of a run."""
    at = db.query(output.end_of, run_id, attempt, stream)
    db.transact(output.append, [output.Stored(run_id, attempt, stream, at, text.encode())])


def furnish(db: Database) -> Stage:
    """Make the factory. Its worker holds what runs, with a lease of an hour."""
    bodies = {job: body if "steps" in body else {"command": ["true"], **body} for job, body in JOBS.items()}
    wanted = d.from_data({"jobs": bodies}).jobs
    plan = d.plan({}, {name: d.canonical(one) for name, one in wanted.items()}, prune=False)
    db.transact(schedules.apply, plan, wanted, "tester")
    player = Player(db)
    good, bad = start(db, "export", payload='{"day": 1}'), start(db, "broken")
    to_file, running = start(db, "to-file"), start(db, "slow")
    start(db, "quiet")  # it fails without a reason
    blocked, unserved, sequence = start(db, "slow"), start(db, "unwanted"), start(db, "month-end")
    scheduled = start(db, "export", delay=3600)
    player.look()
    write(db, good, "first line\nsecond line\n")
    write(db, good, "a warning\n", "stderr")
    player.finish("export", exit_code=0, exit_message="12 files")
    write(db, bad, NASTY + "\n")
    player.finish("broken", state=RunState.FAILED, exit_code=3, reason="exit code 3", exit_message=NASTY)
    player.finish("quiet", state=RunState.LOST)
    player.finish("to-file", paths={"stdout": "/var/log/export.log"}, pid=7)
    db.transact(runs.report_progress, running, 1, 0.4, f"half way {NASTY}")
    player.finish("broken", state=RunState.FAILED, exit_code=3, reason="exit code 3")
    player.look()
    _notify(db, bad)
    return Stage(player.id, good, bad, running, blocked, unserved, sequence, to_file, scheduled)


def _notify(db: Database, run_id: int) -> None:
    values = {
        "run_id": run_id, "job": "broken", "event": "failed", "dedupe": f"{run_id}.1.failed", "body": "{}",
        "recipient": '{"email": ["ops@example.org"]}', "state": "dead", "tries": 10, "error": "no route to host",
    }  # fmt: skip
    change = notification.insert().values({**values, "due_at": utcnow(), "created_at": utcnow()})
    db.transact(lambda conn: conn.execute(change))


class Browser:
    """A browser that is logged in with a key, as far as HTTP goes."""

    def __init__(self, served: Served, key: str) -> None:
        self.served = served
        self.client = served.client(None)
        self.client.headers["Accept"] = "text/html"
        answer = self.post("/login", key=key)
        assert answer.status_code == 303, answer.text

    def get(self, path: str) -> str:
        """The text of a page."""
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        return answer.text

    def post(self, path: str, page: str = "/", **fields: str | list[str]) -> httpx.Response:
        """Send a form of a page."""
        headers = {"Origin": self.served.url, "Referer": self.served.url + page}
        return self.client.post(path, data=fields, headers=headers)

    def act(self, path: str, page: str = "/", **fields: str | list[str]) -> str:
        """Send a form and return the page to which it leads."""
        answer = self.post(path, page, **fields)
        assert answer.status_code == 303, (path, answer.status_code, answer.text[:300])
        return self.get(answer.headers["location"])
