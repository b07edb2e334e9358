"""A real Chromium, and the small factory that it looks at."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import sync_playwright

from jobfac.database.engine import Database
from jobfac.settings import Settings
from tests.roles.pages.browser.executable import executable
from tests.roles.pages.browser.window import Window
from tests.roles.pages.stage import Stage, furnish
from tests.support.api_stage import Served


# Not for longer: Playwright runs an event loop in this thread, where other tests run theirs.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One browser for the tests of a module; each has a context of its own."""
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium; scripts/browser.sh says how to get one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(path), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Stage]]:
    """A factory that tests look at and do not change in a way that matters to others."""
    path = tmp_path_factory.mktemp("pages") / "jobfac.db"
    shutil.copy(sqlite_template, path)
    db = Database(f"sqlite:///{path}")
    with Served(db, replace(Settings(), database_url=f"sqlite:///{path}", api_port=0)) as served:
        yield served, furnish(db)
    db.close()


@pytest.fixture
def window(chromium: Chromium, shared: tuple[Served, Stage]) -> Iterator[Window]:
    """A window of an operator."""
    with Window(chromium, shared[0]) as opened:
        yield opened
