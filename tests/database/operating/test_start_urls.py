"""URLs that start a job, on every engine: only a hash is stored, starts are counted, a revoked one is gone."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import audit, run, start_url
from jobfac.definitions import DefinitionError
from jobfac.errors import NotFound, Refused
from jobfac.operations import jobs, start_urls
from jobfac.operations.caller import Caller
from jobfac.store.jobs import load
from jobfac.store.triggers import start_urls as store
from jobfac.store.triggers.start_urls import Delivery, StartUrl
from tests.support.database import being_written, define, get, now, origin, start, together

ANN = Caller("ann")


def known(db: Database, token: str) -> StartUrl:
    found = db.query(store.check, token)
    assert found is not None
    return found


def call(db: Database, token: str, delivery: Delivery | str | None = None, **given: str) -> int:
    url = known(db, token)
    job = db.query(load, url.job)
    assert job is not None
    by = Caller(url.caller, url.categories)
    if not isinstance(delivery, Delivery):
        delivery = Delivery(delivery)
    return start_urls.start(db, by, url, job.definition.call, dict(given), None, delivery).id


def test_a_url_starts_its_job_until_it_is_revoked(db: Database) -> None:
    define(db, load={"parameters": {"n": {}}, "call": {"most_per_minute": 3}})
    made = start_urls.create(db, ANN, "load", "github")
    with db.read() as conn:
        row = conn.execute(sa.select(start_url)).mappings().one()
    assert made.token not in str(dict(row))
    assert db.query(store.check, made.token[:-1]) is None
    assert db.query(store.check, "jf_" + made.token[3:]) is None

    first = call(db, made.token, "github 1", n="1")
    assert get(db, first)["created_by"] == f"url {made.id} (github)"
    assert origin(db, first) == f"start URL {made.id} (github)"
    assert call(db, made.token, "github 1", n="1") == first  # the same delivery
    with pytest.raises(DefinitionError, match="differs in parameters"):
        call(db, made.token, "github 1", n="2")
    assert len({call(db, made.token, "x" * 300), call(db, made.token)}) == 2
    with pytest.raises(start_urls.TooManyStarts, match="allows 3 starts in a minute"):
        call(db, made.token)
    assert call(db, made.token, "github 1", n="1") == first  # counts nothing
    with db.begin() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar() == 3
        conn.execute(start_url.update().values(window_at=now(db) - timedelta(seconds=61)))
    call(db, made.token)
    with db.begin() as conn:  # its minute began while the clock was ahead
        conn.execute(start_url.update().values(window_at=now(db) + timedelta(days=1), starts=3))
    call(db, made.token)
    with db.read() as conn:
        window_at, starts = conn.execute(sa.select(start_url.c.window_at, start_url.c.starts)).one()
    assert (window_at <= now(db), starts) == (True, 1)

    stale = known(db, made.token)
    assert start_urls.revoke(db, ANN, "load") == [made.id]
    assert db.query(store.check, made.token) is None
    with pytest.raises(Refused):
        start_urls.start(db, Caller("url"), stale, None, {}, None)
    with pytest.raises(NotFound, match="no active URL"):
        start_urls.revoke(db, ANN, "load", made.id)
    with db.read() as conn:
        noted = conn.execute(sa.select(audit.c.by, audit.c.action, audit.c.subject).order_by(audit.c.id)).all()
    assert {("ann", "create url", "load"), ("ann", "revoke url", "load")} <= {tuple(one) for one in noted}
    assert (f"url {made.id} (github)", "start", f"run {first}") in {tuple(one) for one in noted}


def test_a_signed_body_starts_once_whatever_the_headers_say(db: Database) -> None:
    define(db, load={}, busy={"already_running": "deny"})
    token = start_urls.create(db, ANN, "load", "github").token
    first = call(db, token, Delivery("github 1", "a" * 64, 3600))
    assert call(db, token, Delivery("github 2", "a" * 64, 3600)) == first
    assert call(db, token, Delivery(None, "a" * 64, 3600)) == first
    other = call(db, token, Delivery("github 2", "b" * 64, 3600))
    assert other != first, "its delivery was not stolen by the repetition"
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == first).values(created_at=now(db) - timedelta(seconds=3601)))
    assert call(db, token, Delivery("github 1", "a" * 64, 3600)) == first, "the sender repeats it"
    later = call(db, token, Delivery("github 3", "a" * 64, 3600))
    assert later not in (first, other), "an equal body much later is another delivery"
    assert call(db, token, Delivery("x" * 300, "a" * 64, 3600)) == later

    token = start_urls.create(db, ANN, "busy", "github").token
    running, denied = (call(db, token, Delivery(None, body * 64, 3600)) for body in "ab")
    assert [get(db, one)["state"] for one in (running, denied)] == ["queued", "denied"]
    assert call(db, token, Delivery(None, "b" * 64, 3600)) != denied


def test_equal_bodies_at_the_same_moment_start_once(db: Database) -> None:
    define(db, load={})
    token = start_urls.create(db, ANN, "load", "github").token
    ids = together(4, lambda place: call(db, token, Delivery(f"github {place}", "a" * 64, 3600)))
    assert len(set(ids)) == 1
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar() == 1
        assert conn.execute(sa.select(start_url.c.starts)).scalar() == 1


def test_a_url_sees_what_its_maker_saw_and_goes_with_its_job(db: Database) -> None:
    define(db, load={"category": "etl"}, quiet={"on_demand": False})
    limited = Caller("bob", categories=("etl",))
    with pytest.raises(NotFound):
        start_urls.create(db, limited, "quiet", "x")
    with pytest.raises(Refused, match="on_demand: false"):
        start_urls.create(db, ANN, "quiet", "x")
    made = start_urls.create(db, limited, "load", "x")
    call(db, made.token)
    define(db, load={"category": "other"})
    with pytest.raises(NotFound):
        call(db, made.token)
    jobs.delete(db, ANN, "load")
    define(db, load={"category": "etl"})
    assert db.query(store.check, made.token) is None


def test_a_signed_body_is_found_while_its_run_is_just_being_claimed(db: Database) -> None:
    define(db, load={"call": {}})
    url = known(db, start_urls.create(db, ANN, "load", "github").token)
    delivery = Delivery(None, "a" * 64, 3600)
    key = store.key_of(url.id, delivery)
    assert key is not None
    first = start(db, "load", key=key)
    with being_written(db, first):
        assert db.query(store.overtaken, "load", url.id, delivery, "another") == key


def test_a_url_that_two_people_revoke_is_revoked_by_the_first_one(db: Database) -> None:
    define(db, load={"call": {}})
    made = start_urls.create(db, ANN, "load", "github")
    again: list[list[int]] = []

    def listen(conn: object, cursor: object, statement: str, *more: object) -> None:
        if not again and "UPDATE" in statement and "start_url" in statement:
            again.append([])
            again[0] = db.transact(store.revoke, "load", "bob", made.id)

    if db.dialect.name != "sqlite":  # which has one writer
        sa.event.listen(db.engine, "before_cursor_execute", listen)
        with pytest.raises(NotFound):
            start_urls.revoke(db, ANN, "load", made.id)
        assert again == [[made.id]]
