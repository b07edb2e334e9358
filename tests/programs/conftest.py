"""The stage, cleaned after each test, and this process as a worker."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.programs import become_subreaper, kill_marked
from jobfac.programs import children as children_module
from tests.support.process_stage import Stage, finish


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    """Let this process adopt orphans during the test, as a worker does."""
    children = children_module.children
    assert become_subreaper()
    yield
    children.sweep()
    assert children._list is not None
    os.close(children._list)
    children._list = None
    ctypes.CDLL(None).prctl(children_module.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    kill_marked(made.token)
    for process in made.processes:
        finish(process)
    for spool in made.spools:
        spool.close(delete=True)


@pytest.fixture(params=["adopting", "searching"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Find trees by adoption (Linux), or by a search of all processes (other systems)."""
    if request.param == "searching":
        monkeypatch.setattr(children_module.children, "_list", None)
    return str(request.param)
