"""Which success shows that a failure is over: the one rule for ``recovered``, acknowledgement, pages and views.

A success of the same job that began later and ended after the failure shows it if it repeats the failed run, or if it
did the same work: with the same parameters, arguments and payload, and for a due time that is not earlier. The failure
of a backfill's run is over only by a success for the same due time. The views ``v_failures`` have the same text as
``shows_recovery``.
"""

import functools
from collections.abc import Collection, Hashable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import run, visit
from jobfac.database.types import BigId
from jobfac.states import JobKind, StepStart

REPEATS, DUE, BACKFILL, GIVEN, PATH = "first", "due_utc", "backfill", "given", "path"
"""Keys of a run's origin: the first run of the retries that led to it; the due time for which it stands, as a text of
UTC; whether it belongs to a backfill; the fingerprint of what its start gave: parameters, arguments, payload; and the
file that started it.

The start of a job without parameters that gave nothing has no fingerprint, nor has a run from before it was written."""

COMPARED = 200
"""Characters of parameters and of arguments that are read to find two runs that may have the same. Each may have a
million."""

SOME = 10
"""How many of the successes of one sequence, which did the same work, are compared with its failures at a time."""

TEXTS = ("length", "parameters", "arguments_length", "arguments")
"""The fields of ``Ended`` for them."""

_RULE = """
({failure}.for_worker IS NULL OR {success}.for_worker = {failure}.for_worker)
AND ({failure}.visit_id IS NULL OR {success}.visit_id IS NULL OR {success}.visit_id <> {failure}.visit_id)
AND (
    {success}.retry_of = {failure}.id
    OR {success[first]} = COALESCE({failure[first]}, {id})
    OR (
        (
            {success[given]} = {failure[given]}
            OR (
                (
                    {success}.parameters = {failure}.parameters{exactly}
                    OR ({success}.parameters IS NULL AND {failure}.parameters IS NULL)
                )
                AND (
                    {success}.arguments = {failure}.arguments{exactly}
                    OR ({success}.arguments IS NULL AND {failure}.arguments IS NULL)
                )
                AND {success.inside} IS NULL AND {failure.inside} IS NULL
                AND {success}.payload IS NULL AND {failure}.payload IS NULL
            )
        )
        AND COALESCE({success[path]}, '') = COALESCE({failure[path]}, '')
        AND ({success[due_utc]} IS NULL OR {failure[due_utc]} IS NULL OR {success[due_utc]} >= {failure[due_utc]})
        AND ({failure[backfill]} IS NULL OR {success[due_utc]} = {failure[due_utc]})
    )
)
AND """

_WORKED = """
({failure}.kind <> 'sequence' OR NOT EXISTS (
    SELECT 1
    FROM {schema}visit AS f
    JOIN {schema}visit AS k ON k.run_id = {success}.id AND k.step = f.step AND k.start = 'skipped'
    WHERE f.run_id = {failure}.id AND f.result IN ('failure', 'mixed')
        AND NOT EXISTS (
            SELECT 1 FROM {schema}visit AS d WHERE d.run_id = {success}.id AND d.step = f.step AND d.start = 'started'
        )
))
AND ({success}.kind <> 'sequence' OR EXISTS (
    SELECT 1 FROM {schema}visit AS v WHERE v.run_id = {success}.id AND v.start <> 'skipped'
))
"""


class _Run(str):
    """The name of a table ``run``. Its items are texts in SQL: the values of keys of the run's origin."""

    value = objects = "json_extract"

    def __getitem__(self, key: Any) -> str:
        return f"{self.value}({self}.origin, '$.{key}')"

    @property
    def inside(self) -> str:
        """The arguments or payloads that the start of a sequence gave to the jobs in it."""
        of = self.objects
        return f"COALESCE({of}({self}.overrides, '$.arguments'), {of}({self}.overrides, '$.payloads'))"


class _ServersRun(_Run):
    value, objects = "JSON_VALUE", "JSON_QUERY"


def _named(engine: str, name: str) -> _Run:
    return _ServersRun(name) if engine == "mssql" else _Run(name)


def shows_recovery(engine: str, success: str, failure: str) -> sa.TextClause:
    """Return the condition that a success shows that a failure of its job is over, by the names of two tables ``run``.

    Which of them began and ended first is up to the caller. What failed on one worker, as a run of a job with
    ``each_worker``, works again when it succeeds on that worker. Of the runs of one step with ``for_each`` none shows
    anything about another one. A sequence that skipped the step that had failed shows nothing about that, and one that
    skipped all of its steps shows nothing at all.
    """
    return sa.text(condition(engine, success, failure))


@functools.cache
def condition(engine: str, success: str, failure: str) -> str:
    """Return the condition of ``shows_recovery`` as a text of this engine's SQL."""
    return _filled(_RULE + _WORKED, engine, success, failure)


def repeats_work(engine: str, success: str, failure: str) -> sa.TextClause:
    """Return the condition that a success, which repeats a failure, did what had failed, as ``shows_recovery`` says."""
    return sa.text(_filled(_WORKED, engine, success, failure))


def _filled(rule: str, engine: str, success: str, failure: str) -> str:
    names = {"success": _named(engine, success), "failure": _named(engine, failure)}
    texts = {"schema": "", "exactly": "", "id": f"{failure}.id"}
    if engine == "mssql":
        texts = {"schema": "jobfac.", "exactly": " COLLATE Latin1_General_BIN2"}
        texts["id"] = f"CAST({failure}.id AS NVARCHAR(20))"
    return "(" + " ".join(rule.format(**texts, **names).split()) + ")"


def repeats(engine: str, firsts: Collection[int], name: str = "run") -> sa.ColumnElement[bool]:
    """Return the condition that a run is a retry of one of the runs ``firsts``, or of a retry of that.

    ``name``: that of a table ``run``.
    """
    return sa.and_(_retry_of(name).is_not(None), lists.among_ids(repeated(engine, name), "firsts", firsts))


def repeated(engine: str, name: str = "run") -> sa.ColumnElement[int]:
    """Return the column with the first run of the retries that led to a retry, for a table ``run`` of this name."""
    return sa.func.coalesce(sa.cast(first_one(engine, name), BigId), _retry_of(name))


def _retry_of(name: str) -> sa.ColumnElement[int]:
    return sa.literal_column(f"{name}.retry_of", BigId)


def first_one(engine: str, name: str = "run") -> sa.ColumnElement[Any]:
    """Return the column with the first run of the retries that led to a run, for a table ``run`` of this name.

    None: it is no retry, or is older than this key.
    """
    return sa.literal_column(_named(engine, name)[REPEATS])


def given(engine: str, name: str) -> sa.ColumnElement[Any]:
    """Return the column with the fingerprint of what the start of a run gave, for a table ``run`` of this name."""
    return sa.literal_column(_named(engine, name)[GIVEN])


def is_of_backfill(engine: str) -> sa.ColumnElement[bool]:
    """Return the condition that a run is of a backfill, also inside a sequence, or a retry of such a run."""
    return sa.literal_column(_named(engine, "run")[BACKFILL]).is_not(None)


def has_worked(table: sa.FromClause = run) -> sa.ColumnElement[bool]:
    """Return the condition that a run has done something: a sequence may have skipped all of its steps."""
    done = sa.exists().where(visit.c.run_id == table.c.id, visit.c.start != StepStart.SKIPPED).correlate(table)
    return sa.or_(table.c.kind != JobKind.SEQUENCE, done)


def unindexed(engine: str, column: str) -> sa.ColumnElement[Any]:
    """Return a column for a condition that no index of it serves, because few runs fulfil the other conditions.

    SQLite, which does not know their numbers, would rather search all runs of a job.
    """
    return sa.literal_column(f"+{column}" if engine == "sqlite" else column)


def utc_text(moment: datetime) -> str:
    """Return a due time as a text that sorts as the time does."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


class Ended(NamedTuple):
    """What an ended run has in common with another one that did the same work.

    ``parameters`` and ``arguments``: their beginning. ``has_more``: it was given a payload, or texts for the jobs in a
    sequence. ``due_utc``, ``given``, ``backfill`` and ``path``: of its origin.
    """

    id: int
    attempt: int
    job: str
    kind: str
    ended_at: datetime
    for_worker: str | None
    visit_id: int | None
    retry_of: int | None
    length: int | None
    parameters: str | None
    arguments_length: int | None
    arguments: str | None
    has_more: int | None
    first: Any
    due_utc: str | None
    given: str | None
    backfill: Any
    path: str | None

    @property
    def works(self) -> Iterator[Hashable]:
        """Two runs may be of the same work if they have one of these in common."""
        if not self.has_more:
            yield self.job, self.path, self.length, self.parameters, self.arguments_length, self.arguments
        if self.given is not None:
            yield self.job, self.path, "given", self.given


@functools.cache
def ended_runs(engine: str) -> sa.Select[Any]:
    """Return the query of runs as ``Ended``. The caller says which."""
    mine = _named(engine, "run")
    length = "LEN" if engine == "mssql" else "length"
    texts: list[sa.ColumnClause[Any]] = []
    for name in ("parameters", "arguments"):
        texts.append(sa.literal_column(f"{length}(run.{name})"))
        texts.append(sa.literal_column(f"SUBSTRING(run.{name}, 1, {COMPARED})"))
    more = f"CASE WHEN run.payload IS NOT NULL OR {mine.inside} IS NOT NULL THEN 1 END"
    of_origin: list[sa.Label[Any]] = [
        sa.literal_column(mine[key]).label(key) for key in (REPEATS, DUE, GIVEN, BACKFILL, PATH)
    ]
    return sa.select(
        run.c.id, run.c.attempt, run.c.job, run.c.kind, run.c.ended_at, run.c.for_worker, run.c.visit_id,
        run.c.retry_of, *(text.label(name) for text, name in zip(texts, TEXTS, strict=True)),
        sa.literal_column(more).label("has_more"), *of_origin,
    )  # fmt: skip


def candidates(failures: Iterable[Ended], successes: Iterable[Ended]) -> Iterator[tuple[Ended, list[Ended]]]:
    """Yield the failures that one of these successes may show to be over, and these. A pure function.

    ``shows_recovery`` tells whether they do. The number of pairs does not grow with the product of both numbers.
    """
    by_work: dict[Hashable, list[Ended]] = {}
    for one in sorted(successes, key=lambda one: -one.id):
        for work, due, worker in product(one.works, {None, one.due_utc}, {None, one.for_worker}):
            _keep(by_work.setdefault((work, due, worker), []), one)
        for repeated in {one.retry_of, None if one.first is None else int(one.first)} - {None}:
            by_work.setdefault(repeated, []).append(one)
    for failure in failures:
        due = None if failure.backfill is None else failure.due_utc  # only a success for the same one counts
        works = [*((work, due, failure.for_worker) for work in failure.works), failure.id]
        works.append(int(failure.first or failure.id))
        found = {one.id: one for work in works for one in by_work.get(work, ())}
        later = [one for one in found.values() if one.id > failure.id and one.ended_at >= failure.ended_at]
        if later:
            yield failure, later


def _keep(kept: list[Ended], one: Ended) -> None:
    """Keep a success, unless later ones of the same work show each failure to be over that it does.

    A sequence may have skipped a step, so the last ``SOME`` are kept. A success shows nothing about its own visit.
    """
    if one.kind == JobKind.SEQUENCE:
        if len(kept) < SOME:
            kept.append(one)
        return
    visits = {other.visit_id for other in kept if _is_as_late(other, one)}
    if not (None in visits or one.visit_id in visits or len(visits) > 1):
        kept.append(one)


def _is_as_late(other: Ended, one: Ended) -> bool:
    if other.ended_at < one.ended_at:
        return False
    return other.due_utc is None or (one.due_utc is not None and other.due_utc >= one.due_utc)
