"""The small factory, served, and a browser for each role."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.store.api_keys import Role
from tests.roles.pages.stage import Browser, Stage, furnish
from tests.support.api_stage import Served


@pytest.fixture
def place(sqlite_url: str, settings: Settings) -> Iterator[Served]:
    db = Database(sqlite_url)
    with Served(db, replace(settings, api_port=0)) as served:
        yield served
    db.close()


@pytest.fixture
def stage(place: Served) -> Stage:
    return furnish(place.db)


@pytest.fixture
def viewer(place: Served, stage: Stage) -> Browser:
    return Browser(place, place.keys[Role.VIEWER])


@pytest.fixture
def operator(place: Served, stage: Stage) -> Browser:
    return Browser(place, place.keys[Role.OPERATOR])
