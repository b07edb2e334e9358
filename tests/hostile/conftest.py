"""A place that every user of this machine can reach."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def crossroads() -> Iterator[Path]:
    """A folder that other users may enter, unlike those that pytest makes."""
    made = Path(tempfile.mkdtemp(prefix="crossroads-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)
