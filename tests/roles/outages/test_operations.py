"""Operations happen once and return the true result, regardless of which answer of the database is lost."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import api_key, audit, job, job_version, notification, run, schedule, worker
from jobfac.operations import jobs, keys, notifications, retention, schedules, starting, stopping, workers
from jobfac.operations.caller import Caller
from jobfac.settings import Settings
from jobfac.store import api_keys
from jobfac.store import schedules as job_schedules
from jobfac.store.api_keys import Role
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from tests.support.api_stage import Served
from tests.support.database import Hand, define, now, start
from tests.support.engines import DRIVERS
from tests.support.factory import Factory
from tests.support.inprocess import InProcess

pytestmark = [pytest.mark.mssql, pytest.mark.parametrize("url", DRIVERS, indirect=True)]

BY = Caller("me")
CRON = {"schedules": [{"name": "day", "cron": "0 6 * * *"}]}
CHANGED = {"command": ["false"], "enabled": True}


@dataclass(frozen=True)
class Case:
    """An operation, and how each interface requests it. ``n``: the name of its job; ``i``: the id of its object."""

    definition: dict[str, Any]
    prepare: Callable[[Database, str], int]
    act: Callable[[Database, str, int], Any]
    command: tuple[str, ...] = ()
    request: tuple[str, str, Any] | None = None


def nothing(db: Database, n: str) -> int:
    return 0


def an_ended_run(db: Database, n: str) -> int:
    run_id = start(db, n)
    stopping.stop(db, BY, run_id)
    return run_id


def a_disabled_job(db: Database, n: str) -> int:
    jobs.disable(db, BY, n)
    return 0


def a_paused_schedule(db: Database, n: str) -> int:
    schedules.pause(db, BY, (n, None))
    return the_schedule(db, n)


def the_schedule(db: Database, n: str) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(schedule.c.id).where(schedule.c.job == n)).scalar_one())


def a_key(db: Database, n: str) -> int:
    return keys.create(db, BY, n, Role.VIEWER).id


def a_dead_notification(db: Database, n: str) -> int:
    values = {"job": n, "event": "failed", "dedupe": n, "recipient": "{}", "body": "{}", "state": "dead", "tries": 9}
    insert = notification.insert().values({**values, "due_at": utcnow(), "created_at": utcnow()})
    with db.begin() as conn:
        return int(conn.execute(insert.returning(notification.c.id)).scalar_one())


def an_old_run(db: Database, n: str) -> int:
    run_id = an_ended_run(db, n)
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == run_id).values(ended_at=utcnow(-86_400_000), counted=True))
    return run_id


def request(n: str, **more: Any) -> StartRequest:
    return StartRequest(n, "nobody", **more)


def read(n: str) -> jobs.Reader:
    return lambda known: d.from_data({"jobs": {n: CHANGED}}, known=known)


def owner(db: Database, key: str) -> api_keys.Caller:
    """Whose key it is, without the key's number, which differs from one to the next."""
    found = db.query(api_keys.check, key)
    assert found is not None
    return found._replace(key_id=None)


CASES: dict[str, Case] = {
    "start": Case(
        {}, nothing, lambda db, n, i: starting.start(db, BY, request(n))[0].state,
        ("start", "{n}"), ("POST", "/v1/jobs/{n}/runs", {}),
    ),
    "start with a key": Case(
        {}, nothing, lambda db, n, i: starting.start(db, BY, request(n, key="k"))[0].state,
        ("start", "{n}", "--key", "k"),
    ),
    "start of what may not run twice": Case(
        {"already_running": "deny"}, nothing, lambda db, n, i: starting.start(db, BY, request(n))[0].state,
        ("start", "{n}"), ("POST", "/v1/jobs/{n}/runs", {}),
    ),
    "start three": Case(
        {}, nothing, lambda db, n, i: len(starting.start_many(db, BY, request(n), 3)),
        ("start", "{n}", "--count", "3"),
    ),
    "retry": Case(
        {}, an_ended_run, lambda db, n, i: starting.retry(db, BY, i).state,
        ("retry", "{i}"), ("POST", "/v1/runs/{i}/retry", {}),
    ),
    "stop": Case(
        {}, start, lambda db, n, i: stopping.stop(db, BY, i),
        ("stop", "{i}"), ("POST", "/v1/runs/{i}/stop", {}),
    ),
    "enable": Case(
        {}, a_disabled_job, lambda db, n, i: jobs.enable(db, BY, n).enabled,
        ("jobs", "enable", "{n}"), ("POST", "/v1/jobs/{n}/enable", None),
    ),
    "disable": Case(
        {}, nothing, lambda db, n, i: jobs.disable(db, BY, n).enabled,
        ("jobs", "disable", "{n}"), ("POST", "/v1/jobs/{n}/disable", None),
    ),
    "delete": Case(
        CRON, nothing, lambda db, n, i: jobs.delete(db, BY, n, if_match='"1"'),
        ("jobs", "delete", "{n}"), ("DELETE", "/v1/jobs/{n}", None),
    ),
    "put": Case(
        {}, nothing, lambda db, n, i: jobs.put(db, BY, n, CHANGED, if_match='"1"').created,
        (), ("PUT", "/v1/jobs/{n}", CHANGED),
    ),
    "put what is new": Case(
        {}, nothing, lambda db, n, i: jobs.put(db, BY, f"{n}.new", CHANGED, if_absent=True).created,
        (), ("PUT", "/v1/jobs/{n}.new", CHANGED),
    ),
    "apply": Case(
        CRON, nothing, lambda db, n, i: jobs.apply(db, BY, read(n))._replace(wanted=d.Definitions()),
        ("apply", "{n}.yaml"),
    ),
    "pause": Case(
        CRON, the_schedule, lambda db, n, i: schedules.pause(db, BY, i),
        ("schedule", "pause", "{n}"), ("POST", "/v1/schedules/{i}/pause", None),
    ),
    "resume": Case(
        CRON, a_paused_schedule, lambda db, n, i: schedules.resume(db, BY, (n, "day")),
        ("schedule", "resume", "{n}"), ("POST", "/v1/schedules/{i}/resume", None),
    ),
    "drain": Case(
        {}, lambda db, n: Hand(db, n).id, lambda db, n, i: workers.drain(db, BY, i),
        ("workers", "drain", "{i}"), ("POST", "/v1/workers/{i}/drain", None),
    ),
    "create a key": Case(
        {}, nothing, lambda db, n, i: owner(db, keys.create(db, BY, n, Role.VIEWER).key),
        ("keys", "create", "--role", "viewer", "--name", "{n}"),
    ),
    "revoke a key": Case({}, a_key, lambda db, n, i: keys.revoke(db, BY, i), ("keys", "revoke", "{i}")),
    "requeue": Case(
        {}, a_dead_notification, lambda db, n, i: len(notifications.requeue(db, BY, [i])),
        ("notify", "requeue", "{i}"),
    ),
}  # fmt: skip


def facts(db: Database, n: str, since: int) -> dict[str, list[Any]]:
    """Return everything in the database that belongs to the job, key and worker of this name, without times and ids."""

    def of(*columns: Any, where: Any) -> list[Any]:
        return sorted(tuple(row) for row in conn.execute(sa.select(*columns).where(where)))

    with db.read() as conn:
        return {
            "runs": of(run.c.job, run.c.state, run.c.already_running, where=run.c.job == n),
            "jobs": of(job.c.id, job.c.version, where=lists.among(job.c.id, (n, f"{n}.new"))),
            "enabled": of(job.c.enabled, where=job.c.id == n),
            "versions": of(
                job_version.c.job, job_version.c.version, where=lists.among(job_version.c.job, (n, f"{n}.new"))
            ),
            "schedules": of(schedule.c.name, schedule.c.paused, where=schedule.c.job == n),
            "workers": of(worker.c.name, worker.c.state, where=worker.c.name == n),
            "keys": [found[0] is None for found in of(api_key.c.revoked_at, where=api_key.c.name == n)],
            "notifications": of(notification.c.state, notification.c.tries, where=notification.c.job == n),
            "audit": of(audit.c.action, where=audit.c.id > since),
        }


class Stage:
    """Runs each case with its own job, and returns the answer and its effects."""

    def __init__(self, db: Database, tds: Any) -> None:
        self.db, self.tds, self.number = db, tds, 0

    def play(self, case: Case, act: Callable[[str, int], Any], *faults: str) -> tuple[Any, dict[str, list[Any]], bool]:
        """Return the answer, the effects, and whether the last fault occurred. Names are replaced with ``name``."""
        self.number += 1
        n = f"job{self.number:04}"
        definition = d.from_data({"jobs": {n: {"command": ["true"], **case.definition}}}).jobs[n]
        self.db.transact(job_schedules.put, n, definition, "tester")
        i = case.prepare(self.db, n)
        with self.db.read() as conn:
            since = conn.execute(sa.select(sa.func.max(audit.c.id))).scalar() or 0
        self.tds.faults(*faults)
        answer = act(n, i)
        struck = bool(faults) and self.tds.stats()["faults"][-1]["fired"] > 0
        self.tds.faults()
        text = json.dumps([answer, facts(self.db, n, since)], default=str).replace(n, "name")
        answer, found = json.loads(re.sub(rf"(?<![\d.]){i}(?!\d)", "id", text) if i > 9 else text)
        return answer, found, struck


@pytest.fixture
def stage(db: Database, tds: Any) -> Iterator[Stage]:
    with db.begin() as conn:  # ids of two or more digits cannot be confused with counts
        conn.execute(audit.insert().values(at=utcnow()), [{"by": "me", "action": "x", "subject": "x"}] * 2)
    yield Stage(db, tds)
    tds.faults()


AT_ONCE = 6
"""The number of statements whose answers are lost in one call. Retries of this many have short pauses."""


def losing(first: int) -> list[str]:
    """Return rules that lose one answer in each try: of statement ``first``, the next one, ..., and of the commit."""
    rules, seen = [], 0
    for number in range(first, first + AT_ONCE):
        seen += number
        rules.append(f'drop after matching "jobfac" at {seen}')
    return ["drop after commit at 1", *rules]


def test_an_operation_happens_once_whichever_answer_is_lost(stage: Stage) -> None:
    for name, case in CASES.items():

        def act(n: str, i: int, case: Case = case) -> Any:
            return case.act(stage.db, n, i)

        expected = stage.play(case, act)
        assert expected[1]["audit"], f"{name}: it is in the audit"
        lost = stage.play(case, act, "drop after commit at 1")
        assert lost == (*expected[:2], True), f"{name}: the answer to its commit was lost"
        struck, first = True, 1
        while struck:
            *lost_too, struck = stage.play(case, act, *losing(first))
            assert tuple(lost_too) == expected[:2], f"{name}: answers from statement {first} on were lost"
            first += AT_ONCE


def test_command_line_and_http_do_an_operation_once(stage: Stage, url: str, tmp_path: Path) -> None:
    with Served(stage.db, Settings(api_port=0)) as served, InProcess(url, tmp_path) as factory:
        for name, case in CASES.items():
            for act in _interfaces(case, served, factory):
                expected = stage.play(case, act)
                lost = stage.play(case, act, "drop after commit at 1")
                assert lost[2], name
                assert lost[:2] == expected[:2], name


def _interfaces(case: Case, served: Served, factory: Factory) -> Iterator[Callable[[str, int], Any]]:
    def command(n: str, i: int) -> Any:
        (factory.folder / f"{n}.yaml").write_text(json.dumps({"jobs": {n: CHANGED}}), encoding="utf-8")
        done = factory.run(*(word.format(n=n, i=i) for word in case.command), code=None)
        return [done.returncode, _blank(done.stdout), _blank(done.stderr)]

    def http(n: str, i: int) -> Any:
        assert case.request is not None
        method, path, body = case.request
        answer = served.admin.request(method, path.format(n=n, i=i), json=body)
        return [answer.status_code, sorted(answer.json()) if answer.content else None]

    if case.command:
        yield command
    if case.request is not None:
        yield http


def _blank(text: str) -> str:
    """Remove ids and secrets."""
    return re.sub(r"jf_\S+|(?<!job)\b\d+\b", "#", text)


def test_a_purge_counts_all_removed_runs_despite_a_lost_answer(stage: Stage) -> None:
    case = Case({"retention": "1h"}, an_old_run, lambda db, n, i: None)
    # The first commit is that of the statistics, the second that of the batch, the eighth that of the audit.
    for faults in ((), ("drop after commit at 2",), ("drop after commit at 8",)):
        answer, found, struck = stage.play(
            case, lambda n, i: retention.purge(stage.db, BY, Keep(3600.0)).removed, *faults
        )
        assert (answer, found["runs"], found["audit"]) == (1, [], [["purge"]])
        assert struck == bool(faults)


def test_an_operation_without_effect_is_not_in_the_audit(stage: Stage, factory: Factory) -> None:
    define(stage.db, a={})
    run_id = an_ended_run(stage.db, "a")
    moment = now(stage.db)
    assert "no live worker 99" in factory.run("workers", "drain", "99", code=3).stderr
    factory.run("jobs", "enable", "a")
    factory.run("stop", str(run_id))
    factory.run("keys", "revoke", "99", code=3)
    with stage.db.read() as conn:
        assert conn.execute(sa.select(audit.c.action).where(audit.c.at > moment)).all() == []
