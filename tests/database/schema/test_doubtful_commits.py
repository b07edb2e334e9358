"""A server that goes away while it commits, and stays away, as in a failover that takes longer than a command waits."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from jobfac.database.engine import Database
from jobfac.errors import InDoubt, Unreachable
from jobfac.operations import jobs, starting
from jobfac.operations.bulk.backfill import BackfillRequest, backfill
from jobfac.operations.caller import Caller
from jobfac.store.history import search
from jobfac.store.runs import StartRequest
from tests.support.database import define
from tests.support.engines import DRIVERS

pytestmark = [pytest.mark.each_driver, pytest.mark.parametrize("url", DRIVERS, indirect=True)]

Faults = Callable[..., None]
BY, REQUEST = Caller("me", retry_for=0.3), StartRequest("job", "me")
AWAY = "error 40613 login always"


def test_who_starts_is_told_that_the_start_may_have_been_done(db: Database, faults: Faults) -> None:
    """Otherwise the job is started again."""
    define(db, job={})
    faults("drop after commit at 1", AWAY)
    with pytest.raises(InDoubt, match="may have been done; look before you repeat it"):
        starting.start(db, BY, REQUEST)
    with pytest.raises(Unreachable) as caught:
        starting.start(db, BY, REQUEST)
    assert not isinstance(caught.value, InDoubt), "it sent nothing"
    faults()
    with db.read() as conn:
        assert len(search.find_all(conn)) == 1


def test_an_error_that_nobody_knows_after_a_commit_without_an_answer_is_a_doubt(db: Database, faults: Faults) -> None:
    define(db, job={})
    faults("drop after commit at 1", 'error 8623 matching "^SELECT.*audit" always')
    with pytest.raises(InDoubt, match=r"answers with an error: .*8623.* may have been done; look before you repeat it"):
        starting.start(db, BY, REQUEST)


def test_who_starts_many_is_told_the_key_that_starts_the_others(db: Database, faults: Faults) -> None:
    define(db, job={})
    faults("drop after commit at 1", AWAY)
    with pytest.raises(InDoubt, match=r"0 of 2 runs were started for certain; the key '\w+' with the same count"):
        starting.start_many(db, BY, REQUEST, 2)
    faults()
    with db.read() as conn:
        assert len(search.find_all(conn)) == 2


def test_who_backfills_is_told_that_the_same_request_starts_the_others(db: Database, faults: Faults) -> None:
    jobs.put(db, BY, "job", {"command": ["true"], "schedules": [{"cron": "0 6 * * *", "timezone": "UTC"}]})
    day = datetime(2026, 1, 5, tzinfo=UTC)
    request = BackfillRequest("job", day, day + timedelta(days=2))
    faults("drop after commit at 1", AWAY)
    with pytest.raises(InDoubt, match="0 of 2 runs were started for certain; the same request starts the others"):
        backfill(db, BY, request)
    faults()
    assert [line.result for line in backfill(db, BY, request).items] == ["exists", "exists"]
