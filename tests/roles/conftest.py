"""Fleets and APIs on every engine, or on SQLite only for tests that do not depend on the engine."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobfac.database.engine import Database
from jobfac.settings import Settings
from tests.support.api_stage import Served
from tests.support.factory import Factory
from tests.support.fleet import Fleet


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
