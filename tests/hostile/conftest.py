"""Fixtures for tests with attackers and faults: an API, fleets on SQLite, and a folder that others can enter."""

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
    # The worker shares this process with other roles, so its lease must not expire on a busy machine.
    with Served(db, replace(settings, api_port=0, lease=30.0, lease_margin=3.0)) as served:
        yield served
    db.close()


@pytest.fixture
def sqlite_fleet(sqlite_factory: Factory) -> Iterator[Fleet]:
    """A fleet on SQLite."""
    with Fleet(sqlite_factory) as made:
        yield made


@pytest.fixture
def crossroads() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    made = Path(tempfile.mkdtemp(prefix="crossroads-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)
