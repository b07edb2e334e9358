"""Fleets on every engine, or on SQLite alone for what no engine can change."""

from collections.abc import Iterator

import pytest

from factory import Factory
from roles.fleet import Fleet


@pytest.fixture
def fleet(factory: Factory) -> Iterator[Fleet]:
    """On each engine in turn."""
    with Fleet(factory) as made:
        yield made


@pytest.fixture
def sqlite_fleet(sqlite_factory: Factory) -> Iterator[Fleet]:
    """On SQLite."""
    with Fleet(sqlite_factory) as made:
        yield made
