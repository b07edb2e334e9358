"""What each page of the guide presupposes, and what its commands must print.

A page begins in an empty folder with an empty database. ``Stage.database`` writes rows that the page's numbers refer
to, and ``Stage.script`` is typed before the page.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification, run
from jobfac.states import RunState
from jobfac.store import schedules
from tests.support.database import Hand, define, start

AGENT_JOB = """\
EXEC msdb.dbo.sp_add_job @job_name=N'Nightly load', @enabled=1, @notify_level_email=2,
    @notify_email_operator_name=N'DBA'
EXEC msdb.dbo.sp_add_jobstep @job_name=N'Nightly load', @step_name=N'Load', @step_id=1, @subsystem=N'TSQL',
    @command=N'SELECT 41 + 1 AS rows_loaded', @on_success_action=3, @on_fail_action=2
EXEC msdb.dbo.sp_add_jobstep @job_name=N'Nightly load', @step_name=N'Copy', @step_id=2, @subsystem=N'CmdExec',
    @command=N'true', @on_success_action=1, @on_fail_action=2
EXEC msdb.dbo.sp_add_jobschedule @job_name=N'Nightly load', @name=N'Every night', @enabled=1, @freq_type=4,
    @freq_interval=1, @freq_subday_type=1, @active_start_date=20260101, @active_start_time=13000
GO
"""

AGENT_OPERATOR = "EXEC msdb.dbo.sp_add_operator @name=N'DBA', @enabled=1, @email_address=N'dba@example.org'\nGO\n"

CRONTAB = """\
#!/bin/sh
case "$1" in
    -) cat > installed ;;
    *) echo '15 3 * * * backup-home' ;;
esac
"""
"""Stands in for the program of that name, because a test must not change a user's crontab."""

UP = """\
jobfac up --slots 2 > up.log 2>&1 &
until grep -q "http://" up.log && grep -q "worker started" up.log; do sleep 0.05; done"""
WORKER = "jobfac worker --slots 1 > worker.log 2>&1 &"


@dataclass(frozen=True)
class Stage:
    """What a page presupposes. ``prints``: texts of its output; ``python``: what its Python blocks begin with."""

    prints: tuple[str, ...]
    database: Callable[[Database], None] = lambda db: None
    script: str = ""
    files: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    python: str = ""


def begin_runs_at(db: Database, number: int) -> None:
    """Let the next run have this id."""
    first = start(db, "before")
    with db.begin() as conn:
        conn.execute(run.delete())
        conn.execute(sa.text("UPDATE sqlite_sequence SET seq = :number WHERE name = 'run'"), {"number": number - 1})
    assert first < number


def _bulk(db: Database) -> None:
    define(db, report={})
    timed = d.from_data({"jobs": {"load": {"command": ["true"], "schedules": [{"cron": "0 6 * * *"}]}}})
    db.transact(schedules.put, "load", timed.jobs["load"], "tester")
    hand = Hand(db)
    start(db, "report")
    hand.end(hand.take(), RunState.FAILED, exit_code=3)
    start(db, "report")


def _duty(db: Database) -> None:
    for limit in ("1m", "2m", "3m", "4m", "5m"):
        define(db, load={"timeout": limit}, before={"pool": "etl", "category": "finance"}, **{"orders-export": {}})
    begin_runs_at(db, 4711)
    hand = Hand(db)
    for _ in range(3):
        start(db, "load")
        hand.end(hand.take(), RunState.FAILED, exit_code=3)


def _http(db: Database) -> None:
    define(db, before={}, **{"orders-export": {"command": ["sh", "-c", "echo $0"], "arguments": ["--short"]}})
    begin_runs_at(db, 17)


def _notifications(db: Database) -> None:
    define(db, **{"ledger-close": {}})
    row = {"event": "failed", "recipient": '{"email": ["ops@example.org"]}', "body": "{}", "state": "dead", "tries": 9}
    with db.begin() as conn:
        for number in range(12):
            values = {**row, "job": "ledger-close", "dedupe": str(number), "due_at": utcnow(), "created_at": utcnow()}
            conn.execute(notification.insert().values(values))


def _operating(db: Database) -> None:
    define(db, books={"command": ["sh", "-c", "touch runs; exec sleep 60"]})
    start(db, "books")


def _programs(db: Database) -> None:
    define(db, before={})
    begin_runs_at(db, 17)
    start(db, "before", delay=3600.0)
    with db.begin() as conn:  # the page's own starts get the ids before
        conn.execute(sa.text("UPDATE sqlite_sequence SET seq = 40 WHERE name = 'run'"))


def _troubleshooting(db: Database) -> None:
    define(db, before={"command": ["sh", "-c", "echo no rows; exit 3"]})
    begin_runs_at(db, 17)
    start(db, "before")


STAGES = {
    "agent": Stage(
        ("42", "Nightly-load.Copy", "3 added", "succeeded"),
        script=f"export SQL_AGENT_URL=sqlite:///agent.db\n{WORKER}",
        files={"jobs.sql": AGENT_JOB, "operators.sql": AGENT_OPERATOR},
    ),
    "bulk": Stage(("nothing was changed", "2026-01-31"), _bulk),
    "definitions": Stage(("2 to add", "2 added", "Export orders")),
    "duty": Stage(("double bookings", "released", "timeout", "version 6"), _duty),
    "history": Stage(("Summary", "Slowest")),
    "http": Stage(
        ('"id":17', '"state":"succeeded"', "--full", '"id":18', "orders-export"),
        _http,
        script=UP,
        python="import os\n\nkey = os.environ['KEY']\n",
    ),
    "monitoring": Stage(("0 workers", "Fleet")),
    "notifications": Stage(("sent", "dead", "requeued"), _notifications, script=WORKER),
    "operating": Stage(
        ("worker 1 is draining", "worker 1 is active"),
        _operating,
        script="jobfac worker --name batch-1 > worker.log 2>&1 &\nuntil [ -e runs ]; do sleep 0.05; done",
    ),
    "output": Stage(("one line",)),
    "parameters": Stage(("2027-01-31 of us, at most 1000", "IN ITS ZONE")),
    "programs": Stage(
        ("half way", "working", "exit_code  0", "run 17 was scheduled", "1200 rows"),
        _programs,
        script=f"export JOBFAC_REPORT=$PWD/report.jsonl\n{WORKER}",
        python="import os\n\ndel os.environ['JOBFAC_REPORT']\n",
    ),
    "schedules": Stage(("3 added", "IN ITS ZONE"), programs={"crontab": CRONTAB}),
    "secrets": Stage(("token is ***",)),
    "sequences": Stage(("7 added", "flowchart", "repair")),
    "settings": Stage(("mssql+pyodbc://user:***@server/database",)),
    "sql": Stage(("   1   1200", "succeeded")),
    "troubleshooting": Stage(("no rows", "exit_code", "3"), _troubleshooting, script=UP),
}
"""Every page with commands that run here."""

NOT_HERE = {
    ("agent", "$ export SQL_AGENT_URL='mssql+pyodbc://user:password@server/msdb'"): (
        "needs the msdb of a SQL Server; tests/roles/cli/test_import.py reads one through Microsoft's drivers"
    ),
    ("agent", "$ jobfac import agent --url env:SQL_AGENT_URL --timezone $ZONE --compare"): (
        "needs the msdb of a SQL Server; tests/roles/cli/test_import.py compares with one"
    ),
    ("deploying", "sudo python3 -m venv /opt/jobfac"): (
        "installs into the system; scripts/deploy/rehearse.sh does it on a bare Debian"
    ),
    ("deploying", "sudo systemd-run --wait --pipe --uid=jobfac \\"): (
        "needs systemd as the first process; tests/roles/monitoring/test_deploy.py has the units verified"
    ),
    ("deploying", "cd scripts/deploy/container"): "needs a container engine",
    ("deploying", "kubectl create namespace jobfac"): "needs a Kubernetes cluster",
    ("deploying", "sudo sh jobfac-0.1.0-linux_x86_64-cp313.sh /opt/jobfac"): (
        "needs a bundle of this platform; tests/roles/cli/test_bundle.py builds and installs one"
    ),
    ("sqlserver", "$ pip install 'jobfac[mssql]'"): (
        "needs a SQL Server; tests/roles/outages/test_mssql_fleet.py runs a fleet through Microsoft's drivers"
    ),
}
"""Blocks of commands that cannot run in a test, by page and first line, and why."""
