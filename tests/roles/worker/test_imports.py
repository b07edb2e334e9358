"""An idle worker has imported nothing that only other roles or commands need, because each import costs memory."""

import os
import subprocess
import sys
from pathlib import Path

from jobfac.database.engine import Database

SCRIPT = """
import sys
from jobfac.cli import main
from jobfac.cli.commands import roles

make = roles._worker


def made(*words):
    worker = make(*words)
    wait = worker._until_next_timer

    def tell(due):
        if worker._lease.worker_id and not worker._agenda.more:
            print(*sorted({name.partition(".")[0] for name in sys.modules}))
            worker.drain(0.0)
        return wait(due)

    worker._until_next_timer = tell
    return worker


roles._worker = made
sys.argv = ["jobfac", "worker"]
main()
"""

OTHERS = {
    "alembic", "apprise", "asyncio", "crontab", "holidays", "httpcore", "httpx", "jinja2", "keyring", "mssql_python",
    "prometheus_client", "pyodbc", "requests", "rich", "ruamel", "ssl", "starlette", "structlog", "tenacity", "uvicorn",
    "yaml",
}  # fmt: skip
"""What others need: YAML, HTTP servers and clients with asyncio and TLS, pages, notifications, migrations, the other
engine's drivers."""


def test_an_idle_worker_has_imported_only_what_it_needs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobfac.db"
    db = Database(url)
    db.upgrade()
    db.close()
    environment = {**os.environ, "JOBFAC_DATABASE_URL": url}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {"sqlalchemy", "sqlite3"} <= modules
    assert modules & OTHERS == set()


def test_sqlalchemy_finds_asyncio_when_it_uses_it() -> None:
    script = """
import sys
from jobfac.cli.without_asyncio import import_sqlalchemy
import_sqlalchemy("sqlite://")
from sqlalchemy.util import concurrency
early = "asyncio" in sys.modules
async def nothing(): pass
waits = nothing()
found = concurrency.iscoroutine(waits), concurrency.is_exit_exception(ValueError()), concurrency.iscoroutine(1)
waits.close()
import asyncio
print(early, found, concurrency.is_exit_exception(asyncio.CancelledError()), "asyncio.events" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False (True, False, False) True True"
