"""Definitions in the database: versioned, enabled, disabled and deleted, with an audit entry for every change."""

import json

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit as audit_table
from jobfac.database.tables import job as job_table
from jobfac.database.tables import job_version
from jobfac.errors import NotFound
from jobfac.store import audit, jobs
from tests.support.database import define, now, start, together


def job(**body: object) -> d.AnyJob:
    return d.from_data({"jobs": {"job": {"command": ["true"], **body}}}).jobs["job"]


def put(db: Database, **body: object) -> int:
    return db.transact(jobs.put, "job", job(**body), "me")


def load(db: Database, job_id: str = "job") -> jobs.Stored | None:
    with db.read() as conn:
        return jobs.load(conn, job_id)


def audited(db: Database) -> list[tuple[str, str, str, str | None, str | None]]:
    with db.read() as conn:
        rows = conn.execute(sa.select(audit_table).order_by(audit_table.c.id))
        return [(row.by, row.action, row.subject, row.before, row.after) for row in rows]


def test_a_stored_definition_is_read_back(db: Database) -> None:
    wanted = job(command=["echo", "Grüße 'n' \"x\" 漢"], category="c", pool="big", labels={"os": "linux"}, timeout="5m")
    assert db.transact(jobs.put, "job", wanted, "me") == 1
    found = load(db)
    assert found is not None
    assert found.definition == wanted
    assert found[:6] == ("job", 1, "program", True, "c", "big[os=linux]")
    assert load(db, "nothing") is None


def test_only_a_change_creates_a_new_version(db: Database) -> None:
    assert [put(db), put(db), put(db, priority=1), put(db, priority=1), put(db)] == [1, 1, 2, 2, 3]
    with db.read() as conn:
        assert [jobs.load_version(conn, "job", version).priority for version in (1, 2, 3)] == [0, 1, 0]
        with pytest.raises(sa.exc.NoResultFound):
            jobs.load_version(conn, "job", 4)


def test_enabling_and_disabling_create_no_version(db: Database) -> None:
    put(db)
    assert db.transact(jobs.enable, "job", False, "me")
    found = load(db)
    assert found is not None
    assert (found.version, found.enabled, found.definition.enabled) == (1, False, False)
    assert put(db, enabled=True) == 1
    assert put(db, enabled=False) == 1
    found = load(db)
    assert found is not None
    assert not found.enabled
    assert not db.transact(jobs.enable, "nothing", True, "me")
    assert [action for _, action, *_ in audited(db)] == ["apply", "disable", "enable", "disable"]


def test_a_deleted_job_continues_its_version_numbers(db: Database) -> None:
    put(db)
    put(db, priority=1)
    run_id = start(db, "job")
    assert db.transact(jobs.remove, "job", "me")
    assert not db.transact(jobs.remove, "job", "me")
    assert load(db) is None
    with pytest.raises(NotFound):
        start(db, "job")
    with db.read() as conn:
        assert jobs.load_version(conn, "job", 2).priority == 1
    assert put(db, priority=1) == 3
    assert start(db, "job") > run_id


def test_every_step_is_audited_with_before_and_after(db: Database) -> None:
    put(db)
    put(db)
    put(db, priority=1)
    db.transact(jobs.remove, "job", "you")
    one, two = ({"command": ["true"]}, {"command": ["true"], "priority": 1})
    found = [(*row[:3], *(json.loads(text) if text else None for text in row[3:])) for row in audited(db)]
    assert found == [
        ("me", "apply", "job", None, one),
        ("me", "apply", "job", one, two),
        ("you", "delete", "job", two, None),
    ]


def test_an_audit_entry_is_truncated_to_its_columns(db: Database) -> None:
    before = now(db)
    db.transact(audit.note, "b" * 300, "a" * 40, "s" * 300, None, "nach her ✓")
    assert audited(db) == [("b" * 200, "a" * 32, "s" * 200, None, "nach her ✓")]
    with db.read() as conn:
        assert before <= conn.execute(sa.select(audit_table.c.at)).scalar_one() <= now(db)


def test_a_plan_is_applied_completely_or_not_at_all(db: Database) -> None:
    define(db, stays={}, goes={}, changes={})
    bodies = {"stays": {}, "changes": {"priority": 5}, "comes": {}}
    wanted = d.from_data({"jobs": {name: {"command": ["true"], **body} for name, body in bodies.items()}}).jobs

    def work(conn: sa.Connection, fail: bool) -> None:
        stored = {one.id: d.canonical(one.definition) for one in jobs.load_all(conn)}
        plan = d.plan(stored, {name: d.canonical(one) for name, one in wanted.items()}, prune=True)
        jobs.apply(conn, plan, wanted, "me")
        if fail:
            raise ZeroDivisionError

    def ids() -> list[str]:
        with db.read() as conn:
            return list(jobs.ids(conn))

    with pytest.raises(ZeroDivisionError):
        db.transact(work, True)
    assert ids() == ["changes", "goes", "stays"]
    db.transact(work, False)
    assert ids() == ["changes", "comes", "stays"]
    with db.read() as conn:
        assert {one.id: one.version for one in jobs.load_all(conn)} == {"changes": 2, "comes": 1, "stays": 1}


def test_every_queue_ever_used_is_known(db: Database) -> None:
    define(
        db,
        plain={},
        picky={"pool": "big", "labels": {"os": "linux", "gpu": "yes"}},
        series={"steps": [{"name": "only", "jobs": ["plain"]}]},
    )
    db.transact(jobs.remove, "picky", "me")
    with db.read() as conn:
        assert sorted(jobs.known_queues(conn)) == [
            ("@sequences", "@sequences", {}, 1),
            ("big[gpu=yes,os=linux]", "big", {"gpu": "yes", "os": "linux"}, 1),
            ("default", "default", {}, 1),
        ]


def test_load_many_returns_an_error_for_an_unreadable_job(db: Database) -> None:
    define(db, a={}, b={}, c={})
    with db.begin() as conn:
        future = {"definition": '{"command": ["true"], "from_the_future": 1}'}
        conn.execute(job_version.update().where(job_version.c.job == "b").values(future))
    with db.read() as conn:
        found = jobs.load_many(conn, ["a", "b", "nothing"])
    assert set(found) == {"a", "b"}
    assert isinstance(found["a"], jobs.Stored)
    assert isinstance(found["b"], d.DefinitionError)


def test_concurrent_applies_of_the_same_definition_agree(db: Database) -> None:
    versions = together(6, lambda position: put(db, priority=position % 2, pool="new"))
    assert set(versions) <= set(range(1, 7))
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(job_table)).scalar_one() == 1
        assert jobs.load_version(conn, "job", max(versions)) is not None
