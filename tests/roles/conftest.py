"""Fleets and APIs on every engine, or on SQLite only for tests that do not depend on the engine."""

import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.settings import Settings
from tests.support.api_stage import Served
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet
from tests.support.inprocess import Forked, InProcess

TREE = {"steps": [{"name": "one", "jobs": ["hello"]}]}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each role's log with a failed test, and in it the stacks of those that live."""
    report = yield
    fleets = [one for one in item.funcargs.values() if isinstance(one, Fleet)]
    if report.failed and report.when == "call":
        for role in (role for fleet in fleets for role in fleet.factory.roles if isinstance(role, Forked)):
            role.write_stacks()
        report.sections += [
            (f"Log {path.name}", path.read_text()[-8000:]) for fleet in fleets for path in fleet.log_files()
        ]
    return report


@pytest.fixture
def fleet(factory: Factory) -> Iterator[Fleet]:
    """A fleet on each engine."""
    with Fleet(factory) as made:
        yield made


@pytest.fixture
def sqlite_fleet(sqlite_factory: Factory) -> Iterator[Fleet]:
    """A fleet on SQLite."""
    with Fleet(sqlite_factory) as made:
        yield made


@pytest.fixture
def served(sqlite_url: str, settings: Settings) -> Iterator[Served]:
    """An API on SQLite."""
    yield from _serve(sqlite_url, settings)


@pytest.fixture
def served_everywhere(url: str, settings: Settings) -> Iterator[Served]:
    """An API on each engine."""
    yield from _serve(url, settings)


def _serve(url: str, settings: Settings) -> Iterator[Served]:
    db = Database(url)
    # The worker shares this process with other roles, so its lease must not expire on a busy machine.
    with Served(db, replace(settings, api_port=0, lease=30.0, lease_margin=3.0)) as served:
        yield served
    db.close()


@pytest.fixture
def remote(sqlite_factory: Factory, tmp_path: Path) -> Iterator[InProcess]:
    """A user without access to the database, with only the API's address and an admin key."""
    sqlite_factory.apply(
        {
            "hello": {"command": ["sh", "-c", "echo hello; printf '\\377' >&2"]},
            "bad": {"command": ["false"]},
            "long": {"command": ["sleep", "600"], "already_running": "deny"},
            "tree": TREE,
            "timed": {"command": ["true"], "schedules": [{"cron": "0 6 * * *"}, {"cron": "0 7 * * *", "name": "late"}]},
        }
    )
    key = sqlite_factory.json("keys", "create", "--role", "admin", "--name", "ann")["key"]
    process = sqlite_factory.role("api", "--port", "0")

    def url() -> str | None:
        text = (sqlite_factory.folder / "api-0.log").read_text()
        assert process.poll() is None, text
        found = re.search(r"http://127\.0\.0\.1:\d+", text)
        return found[0] if found else None

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with InProcess("sqlite:////nowhere/jobfac.db", folder) as far:
        far.environment |= {"JOBFAC_API_URL": wait_for(url, "the API listens"), "JOBFAC_API_KEY": key}
        yield far
