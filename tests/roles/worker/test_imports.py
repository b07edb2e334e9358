"""An idle worker has imported nothing that only other roles or commands need, because each import costs memory."""

import os
import subprocess
import sys
from pathlib import Path

from jobfac.database.engine import Database

SCRIPT = """
import sys
from jobfac.cli import main
from jobfac.worker.worker import Worker

wait = Worker._until_next_timer


def tell(self, due):
    if self._lease.worker_id and not self._agenda.more:
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
        self.drain(0.0)
    return wait(self, due)


Worker._until_next_timer = tell
sys.argv = ["jobfac", "worker"]
main()
"""

OTHERS = {
    "alembic", "apprise", "crontab", "holidays", "httpcore", "httpx", "jinja2", "keyring", "mssql_python",
    "prometheus_client", "pyodbc", "requests", "rich", "ruamel", "starlette", "structlog", "tenacity", "uvicorn",
    "yaml",
}  # fmt: skip
"""What others need: YAML, HTTP servers and clients, pages, notifications, migrations, the other engine's drivers."""


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
