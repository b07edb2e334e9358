"""A place that every user of this machine can reach, and a fleet on SQLite."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.factory import Factory
from tests.support.fleet import Fleet


@pytest.fixture
def crossroads() -> Iterator[Path]:
    """A folder that other users may enter, unlike those that pytest makes."""
    made = Path(tempfile.mkdtemp(prefix="crossroads-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def sqlite_fleet(sqlite_factory: Factory) -> Iterator[Fleet]:
    """On SQLite."""
    with Fleet(sqlite_factory) as made:
        yield made
