"""The engines under test, a fresh database for each test, and jobfac's commands."""

import fcntl
import gc
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from tests.roles.pages.browser.executable import executable
from tests.support import lock_order
from tests.support.engines import CC, DRIVERS, ENGINES, HAS_ODBC, REAL
from tests.support.factory import Factory
from tests.support.inprocess import InProcess

# Collect garbage seldom: otherwise that is a fifth of the imports' processor time, and a sixth of the tests'.
gc.set_threshold(50_000, 20, 20)

# The suite draws the same examples each time, so that it judges the change and not the draw;
# `make fuzz` draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report once that a real server cannot be reached, not in every test."""
    if REAL:
        try:
            db = Database(REAL)
            db.version()
            db.close()
        except Unreachable as error:
            pytest.exit(f"JOBFAC_TEST_MSSQL_URL: {error}", returncode=2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip, under `-m alone`, the modules without such a test: importing them all takes half a minute."""
    if config.option.markexpr != "alone" or not collection_path.name.startswith("test_"):
        return None
    return "mark.alone" not in collection_path.read_text(encoding="utf-8") or None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """On a fresh clone let one process rewrite the asserts of all modules, and the others read what it has written."""
    cache = Path(__file__).parent / "unit" / "__pycache__"  # of the last modules
    if "PYTEST_XDIST_WORKER" not in os.environ or any(cache.glob("test_*.pyc")):
        return (yield)
    with Path(__file__).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.flock(file, fcntl.LOCK_UN)
        return (yield)


def pytest_collection_finish() -> None:
    """Never look for garbage among what was imported."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run each test through one of the drivers, chosen by its name, where both would send the same statements.

    Tests of what the drivers do differently (values, errors, outages) have the mark ``each_driver``, and
    ``JOBFAC_TEST_DRIVERS=each`` runs every test through each of them.
    """
    if os.environ.get("JOBFAC_TEST_DRIVERS") != "each":
        _choose_drivers(config, items)
    items[:] = long_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _choose_drivers(config: pytest.Config, items: list[pytest.Item]) -> None:
    drivers_of: dict[str, list[str]] = {}
    of_item = {}
    for item in items:
        driver = (
            item.callspec.params.get("url") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
        )
        if driver in DRIVERS and item.get_closest_marker("each_driver") is None:
            name = item.nodeid.replace(str(driver), "")
            of_item[item] = (name, driver)
            drivers_of.setdefault(name, []).append(str(driver))
    left_out = [
        item
        for item, (name, driver) in of_item.items()
        if driver != drivers_of[name][zlib.crc32(name.encode()) % len(drivers_of[name])]
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def long_first(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Order the tests so that each process begins with files of ``tests/roles``, which start real programs.

    pytest-xdist gives each process one part of the list, and one that has ended takes half of what another one has
    left. With the long tests at the end, the last minute would belong to one or two processes.
    """
    files: dict[Path, list[pytest.Item]] = {}
    short = []
    for item in items:
        if "roles" in item.path.parts:
            files.setdefault(item.path, []).append(item)
        else:
            short.append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for long in sorted(files.values(), key=len, reverse=True):
        min(shares, key=len).extend(long)
    ordered: list[pytest.Item] = []
    for number, share in enumerate(shares):
        size = (len(items) - len(ordered)) // (processes - number)
        room = max(0, size - len(share))
        ordered += [*share, *short[:room]]
        short = short[room:]
    return [*ordered, *short]


@pytest.fixture(scope="session", autouse=True)
def locks_in_order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Check that every transaction of the session takes its locks in the prescribed order."""
    breaches = lock_order.watch(tmp_path_factory.mktemp("locks"))
    yield
    assert not breaches.exists(), breaches.read_text(encoding="utf-8")[:8000]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("template") / "jobfac.db"
    db = Database(f"sqlite:///{path}")
    db.upgrade()
    db.close()
    return path


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The PostgreSQL behind all test servers of this process."""
    from tests.tds_server import postgres

    with postgres.running() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def tds(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The TDS test server with a template database that was migrated through it.

    At the end Microsoft's grammar parses every distinct statement that was sent, in one of the processes that sent it.
    No statement may have several plans:
    none was sent with several declarations of its parameters, and no text varies with the length of a list.
    """
    from tests.tds_server import grammar, harness, lists

    captured = tmp_path_factory.mktemp("captured")
    with harness.serving(postgres_dsn, capture=captured) as server, server.database("migrated") as name:
        db = Database(harness.url(server.port, DRIVERS[0], name).render_as_string(hide_password=False))
        db.upgrade()
        db.close()
        yield server
        texts = server.command(declarations=True)["texts"]
        assert texts == [], "these statements have several plans each, by their values"
    statements = list(captured.glob("*.sql"))
    assert statements, "the test server recorded no statement"
    assert lists.varying(one.read_text(encoding="utf-8").partition("\n")[2] for one in statements) == []
    folder = tmp_path_factory.getbasetemp()
    checked = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "checked-statements"
    checked.mkdir(exist_ok=True)
    assert grammar.check_files([one for one in statements if _is_first(checked / one.name)]) == []


@pytest.fixture(scope="session")
def recycled(tds: Any) -> Iterator[Any]:
    """Migrated databases on the test server. Several tests use each one in turn."""
    from tests.tds_server.recycled import Recycled

    pool = Recycled(tds, "migrated")
    yield pool
    pool.close()


@pytest.fixture
def faults(tds: Any) -> Iterator[Callable[..., None]]:
    """A function that sets the fault rules of the test server; they are removed after the test."""
    yield tds.faults
    tds.faults()


def _is_first(path: Path) -> bool:
    """Whether no other process of this test run has made this file; so each statement is parsed once."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a fresh SQLite database."""
    path = tmp_path / "jobfac.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, migrated database on each engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    elif request.param == "real":
        yield from _real_url()
    else:
        from tests.tds_server import harness

        server = request.getfixturevalue("tds")
        with request.getfixturevalue("recycled").database() as name:
            yield harness.url(server.port, request.param, name).render_as_string(hide_password=False)


def _real_url() -> Iterator[str]:
    """Empty a real server's database. Its tables stay, so a test needs no migration."""
    from jobfac.database.tables import metadata

    assert REAL is not None
    db = Database(REAL)
    db.upgrade()
    with db.begin() as conn:
        for table in metadata.sorted_tables:
            conn.execute(table.delete())
    db.close()
    yield REAL


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """A fresh database on each engine."""
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def factory(url: str, tmp_path: Path) -> Iterator[Factory]:
    """The command line and the roles on a fresh database of each engine, without a new Python process for each."""
    with InProcess(url, tmp_path) as made:
        yield made


@pytest.fixture
def sqlite_factory(sqlite_url: str, tmp_path: Path) -> Iterator[Factory]:
    """The same only on SQLite, for tests that do not depend on the engine."""
    with InProcess(sqlite_url, tmp_path) as made:
        yield made


@pytest.fixture
def cold_factory(sqlite_url: str, tmp_path: Path) -> Iterator[Factory]:
    """The same with a new Python process for each command and role."""
    with Factory(sqlite_url, tmp_path) as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with short intervals for roles that run inside the test process."""
    return Settings(
        spool=str(tmp_path / "spool"),
        lease=3.0,
        heartbeat=0.4,
        lease_margin=1.0,
        drain_limit=5.0,
        ship_interval=0.1,
        wait_seconds=1.0,
        sweep_interval=0.3,
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line about what this run could not test, and how to test it."""
    if not REAL:
        terminalreporter.write_line(
            "NOT TESTED here: a real SQL Server (its locking, plans, permissions); "
            "make test-mssql JOBFAC_TEST_MSSQL_URL=mssql+pyodbc://USER:PASSWORD@HOST/DATABASE"
        )
    if not HAS_ODBC:
        terminalreporter.write_line(
            "NOT TESTED here: the mssql dialect through pyodbc, because libodbc is missing; "
            "sudo apt-get install libodbc2 libltdl7"
        )
    if executable() is None:
        terminalreporter.write_line(
            "NOT TESTED here: the pages in a real browser, because there is no Chromium; sudo apt-get install chromium"
        )
    if CC is None:
        terminalreporter.write_line("NOT TESTED here: a job program in C, because there is no cc; install a C compiler")
