"""A hold that is placed, and a release that is done, are answered so, although the database goes away behind them."""

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.store.holds import moving
from jobfac.store.holds.placing import Scope
from tests.support.database import Hand, define, start, states

ME = Caller("me", retry_for=0)


def away(*_: object) -> int:
    raise Unreachable("The database cannot be reached.")


def test_who_holds_and_releases_is_not_told_to_do_it_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second hold would outlive the release of the first one."""
    define(db, a={})
    run_id = start(db, "a")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(moving, "set_aside", away)
        placed = holds.hold(db, ME, Scope(job="a"), "why")
    assert Hand(db).claim(1, held=True) == [], "they are set aside"
    db.transact(moving.set_aside, "s1")
    assert states(db, [run_id]) == ["blocked"]
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(moving, "free", away)
        assert holds.release(db, ME, placed.id).released_at is not None
    db.transact(moving.free_ended, "s1")
    assert states(db, [run_id]) == ["queued"]
