"""What an attacker or a bad night meets: an API and fleets on SQLite, and a place that other users reach."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.settings import Settings
from tests.support.api_stage import Served
from tests.support.factory import Factory
from tests.support.fleet import Fleet


@pytest.fixture
def served(sqlite_url: str, settings: Settings) -> Iterator[Served]:
    """The API in this process."""
    db = Database(sqlite_url)
    # The worker shares this process with everything else: a lease that a busy machine does not end.
    with Served(db, replace(settings, api_port=0, lease=30.0, lease_margin=3.0)) as served:
        yield served
    db.close()


@pytest.fixture
def real_fleet(sqlite_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Roles as processes of their own."""
    with Factory(sqlite_url, tmp_path) as factory, Fleet(factory) as fleet:
        yield fleet


@pytest.fixture
def sqlite_fleet(sqlite_factory: Factory) -> Iterator[Fleet]:
    """On SQLite."""
    with Fleet(sqlite_factory) as made:
        yield made


@pytest.fixture
def crossroads() -> Iterator[Path]:
    """A folder that other users may enter, unlike those that pytest makes."""
    made = Path(tempfile.mkdtemp(prefix="crossroads-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)
