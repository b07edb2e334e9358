"""The parameters of runs: read when a run starts, completed when it begins, kept in its row."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.tables import run, schedule
from jobfac.definitions import AnyJob, DefinitionError, Job, Problem
from jobfac.definitions.parameters import (
    Context,
    Declared,
    UnresolvedError,
    Values,
    constants,
    fill,
    fill_value,
    fingerprint,
    needs_previous,
    read_parameters,
    split,
    texts_given,
)
from jobfac.definitions.parameters.uses import job_texts, step_texts
from jobfac.states import RunState
from jobfac.store.history.recovery import GIVEN, REPEATS, has_worked
from jobfac.views.serialization import read_json

LATEST = 200
"""How many of a job's latest successes are looked at for the one that was due last."""


class Start(NamedTuple):
    """The parts of a start that concern parameters; see ``StartRequest``.

    ``is_of_schedule``: ``due`` is a due time of a schedule, in UTC unless the origin names another zone.
    ``written``: parameters, arguments and payload as the definition of a sequence says them; None: as they are.
    """

    job: str
    parameters: Mapping[str, Any]
    origin: Mapping[str, Any]
    is_template: bool
    arguments: Sequence[str] | None
    payload: str | None
    overrides: Mapping[str, Any] | None
    due: datetime | None
    is_of_schedule: bool = False
    written: Mapping[str, Any] | None = None


def prepare(conn: sa.Connection, definition: AnyJob, start: Start) -> dict[str, Any]:
    """Return columns of the new run: its parameters, its origin, and the texts with filled placeholders.

    Raises:
        DefinitionError: the parameters do not fit the definition, or a placeholder has no value.
    """
    declared = definition.parameters
    texts = {"arguments": start.arguments, "payload": start.payload, "overrides": start.overrides}
    origin = dict(start.origin)
    parts: tuple[Values | None, Values | None] = (None, None)
    is_dated = start.due is not None and not start.is_of_schedule  # a sequence's jobs stand for the same time
    if declared or start.parameters or is_dated or _uses_time(definition) or (start.is_template and _has_dollar(texts)):
        context = _context(conn, definition, start, texts)
        origin["due"] = context.due.isoformat()
        given = start.parameters
        try:
            if start.is_template:
                given = {name: fill_value(value, context) for name, value in given.items()}
            values = read_parameters(start.job, declared, given, context)
            if start.is_template and _has_dollar(texts):
                texts = _filled(texts, replace(context, values=values))
            else:
                values = _without_late(declared, given, values)
        except UnresolvedError as error:
            raise DefinitionError([Problem(f"a value of its start {error}", "parameters", start.job)]) from error
        parts = split(declared, values)
    given_texts = texts_given(start.arguments, start.payload, start.overrides)
    said = {**start.parameters, **given_texts} if start.written is None else start.written
    if declared or said:
        origin.setdefault(GIVEN, fingerprint(declared, said, start.is_template or start.written is not None))
    return {**texts, "parameters": _written(parts[0]), "sensitive": _written(parts[1]), "origin": _written(origin)}


def _without_late(declared: Declared, given: Mapping[str, Any], values: Values) -> Values:
    """Leave out what the last success decides, until the run begins: the runs of a backfill wait for each other.

    Values that a text of the start refers to stay: the program gets the same in both places.
    """
    late = {name for name in values if given.get(name) is None and needs_previous({name: declared[name]}, {})}
    return {name: value for name, value in values.items() if name not in late}


def _context(conn: sa.Connection, definition: AnyJob, start: Start, texts: Mapping[str, Any]) -> Context:
    if "due" in start.origin:
        due = datetime.fromisoformat(start.origin["due"])
    else:
        moment = start.due or current_time(conn)
        due = moment.astimezone(UTC if start.is_of_schedule else zone_of(definition))
    wanted = needs_previous(definition.parameters, start.parameters)
    wanted = wanted or (start.is_template and "${previous." in json.dumps([texts, start.parameters], default=str))
    previous = previous_success(conn, start.job, definition, due) if wanted else None
    return Context(due=due, previous=previous, trigger=start.origin)


def zone_of(definition: AnyJob) -> tzinfo:
    """Return the time zone in which a start by hand is dated: that of the job's first schedule, else UTC.

    Raises:
        DefinitionError: this machine does not know it.
    """
    name = definition.schedules[0].timezone if definition.schedules else None
    try:
        return UTC if name is None else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise DefinitionError([Problem(f"its date needs the unknown time zone {name!r}; install tzdata")]) from None


def _uses_time(definition: AnyJob) -> bool:
    texts = job_texts(definition) if isinstance(definition, Job) else step_texts(definition)
    return any("${" in field.text for field in texts)


def _has_dollar(texts: Mapping[str, Any]) -> bool:
    return any(value is not None and "${" in json.dumps(value) for value in texts.values())


def _filled(value: Any, context: Context) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(one, context) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, context) for one in value]
    return fill(value, context) if isinstance(value, str) else value


def _written(values: Mapping[str, Any] | None) -> str | None:
    return json.dumps(values, ensure_ascii=False) if values else None


def previous_success(conn: sa.Connection, job: str, definition: AnyJob | None, before: datetime) -> datetime | None:
    """Return when the last success of a job before a time was due or, without a schedule, started; None: there is none.

    That is not always the one that started last: a backfill or a retry may have been of an older day. Nor has it always
    started before that time: a backfill, and a sequence that was due before, start later.
    """
    found = [*conn.execute(_successes(job, before).order_by(run.c.id.desc()).limit(LATEST))]
    if len(found) == LATEST:  # all of them may be of one backfill
        ids = conn.execute(_SCHEDULES.where(schedule.c.job == job)).scalars().all()
        of_schedules = _successes(job, before).where(sa.text("schedule_id IS NOT NULL")).limit(1)
        for one in ids:
            found += conn.execute(of_schedules.where(run.c.schedule_id == one).order_by(run.c.due_at.desc()))
    times = (due_of(row.origin, row.due_at, row.created_at, definition) for row in found)
    return max((moment for moment in times if moment < before), default=None)


_SCHEDULES = sa.select(schedule.c.id).order_by(schedule.c.id)


def _successes(job: str, before: datetime) -> sa.Select[Any]:
    """Return a query for the successes of a job that may stand for a time before this one."""
    return (
        # Without PASS: a success whose row somebody is just writing, perhaps to count it, would not be seen.
        sa.select(run.c.origin, run.c.due_at, run.c.created_at)
        .where(run.c.job == job, sa.text(f"state = '{RunState.SUCCEEDED}'"))
        .where(sa.or_(run.c.due_at.is_(None), run.c.due_at < before), has_worked())
    )


def is_undated(origin: str | None) -> bool:
    """Whether a run's origin leaves the zone that counts to the definition: T-SQL cannot choose it.

    Then it has no due time, or one that ends with ``Z``.
    """
    return str(json.loads(origin).get("due", "Z") if origin else "Z").endswith("Z")


def due_of(
    origin: str | None, due_at: datetime | None, created_at: datetime, definition: AnyJob | None = None
) -> datetime:
    """Return the time for whose date a run stands, with the offset of the zone that counts.

    ``definition``: names the zone of a run whose origin does not; None: UTC. A schedule's run without one is of UTC.
    """
    said = json.loads(origin).get("due") if origin else None
    if said is None and due_at is not None:
        return due_at.astimezone(UTC)
    moment = created_at if said is None else datetime.fromisoformat(said)
    if not is_undated(origin):
        return moment
    return moment.astimezone(UTC if definition is None else zone_of(definition))


class Row(NamedTuple):
    """The columns of a run that its placeholders need."""

    id: int
    job: str
    parameters: str | None
    sensitive: str | None
    origin: str | None
    due_at: datetime | None
    created_at: datetime

    @property
    def given(self) -> Values:
        """The stored values, the sensitive ones included."""
        return {**_read(self.parameters), **_read(self.sensitive)}


class Renamed(NamedTuple):
    """The names of a parameter that is gone and of one that is new: they may stand for the same."""

    old: str
    new: str


def renamed(
    given: Values, former: AnyJob | DefinitionError, declared: Mapping[str, Any], changes: Collection[str]
) -> Renamed | None:
    """Return a parameter that may have been renamed since a run, and with whose default a retry would do other work.

    A pure function.

    Args:
        former: the definition with which the run started; its defaults do not count.
        changes: the parameters that the retry gives a value.
    """
    before = {} if isinstance(former, DefinitionError) else former.parameters
    usual = constants(before)
    calculated = {name for name, one in before.items() if one.default_placeholders()}
    names = (name for name in given if name not in declared and name not in calculated)
    old = next((name for name in names if given[name] is not None and given[name] != usual.get(name)), None)
    new = [name for name in declared if name not in given and name not in before]
    return None if old is None or not new or not set(new).isdisjoint(changes) else Renamed(old, new[0])


def row_of(found: "sa.Row[Any] | tuple[Any, ...]") -> Row:
    """Return these columns of a row, or of a NamedTuple with fields of the same names, which may have more."""
    return Row(*(getattr(found, name) for name in Row._fields))


def _read(text: str | None) -> Values:
    try:
        found: Values = read_json(text) if text else {}
    except ValueError as error:  # a login may have stored it
        raise DefinitionError([Problem(f"parameters cannot be read: {error}", "parameters")]) from None
    return found


COLUMNS = tuple(run.c[name] for name in Row._fields)


def time_of(row: Row, definition: AnyJob | None) -> datetime:
    """Return the time for whose date a run stands, as ``due_of`` does."""
    return due_of(row.origin, row.due_at, row.created_at, definition)


def context_of(
    row: Row, definition: AnyJob | None, values: Values | None = None, previous: datetime | None = None
) -> Context:
    """Return what the placeholders in the texts of a run's definition stand for."""
    origin = json.loads(row.origin) if row.origin else {}
    return Context(due=time_of(row, definition), values=values or {}, run_id=row.id, previous=previous, trigger=origin)


def values_of(row: Row, definition: AnyJob, previous: datetime | None = None) -> Values:
    """Return all values of a run, checked by the function that checks every start.

    Raises:
        DefinitionError: values that a statement of T-SQL stored do not fit the definition.
    """
    if not (declared := definition.parameters):
        return {}
    given = row.given
    if REPEATS in json.loads(row.origin or "{}"):  # over T-SQL a retry has all values of the run that it repeats
        given = {name: value for name, value in given.items() if name in declared}
    return read_parameters(row.job, declared, given, context_of(row, definition, previous=previous))


def complete(
    conn: sa.Connection,
    row: Row,
    definition: AnyJob,
    arguments: str | None = None,
    payload: str | None = None,
    overrides: str | None = None,
) -> Row:
    """Store the values that are still missing: those that need the run's id, and all that T-SQL did not fill in.

    With them goes the fingerprint of what T-SQL gave: values, and the run's arguments, payload and overrides.

    The caller has locked the run. Values that do not fit are left as they are: the start of the run refuses them.
    """
    declared = definition.parameters
    if not declared and arguments is None and payload is None and overrides is None:
        return row
    try:
        origin: dict[str, Any] = json.loads(row.origin) if row.origin else {}
        if GIVEN in origin and declared.keys() <= row.given.keys():
            return row
        texts = {} if GIVEN in origin else texts_given(_list(arguments), payload, _read(overrides))
        if not declared and not texts:
            return row
        needs = needs_previous(declared, row.given)
        previous = previous_success(conn, row.job, definition, time_of(row, definition)) if needs else None
        shown, secret = split(declared, values_of(row, definition, previous))
    except DefinitionError:
        return row
    origin.setdefault(GIVEN, fingerprint(declared, {**row.given, **texts}, is_template=False))
    change: dict[str, Any] = {"origin": _written(origin)}
    if declared:
        change |= {"parameters": _written(shown), "sensitive": _written(secret)}
    conn.execute(run.update().where(run.c.id == row.id).values(change))
    return row._replace(**change)


def _list(text: str | None) -> Sequence[Any] | None:
    try:
        return None if text is None else list(read_json(text))
    except (TypeError, ValueError):  # a login may have stored it
        return [text]


def is_value(engine: str, name: str, value: str, run_id: str) -> sa.ColumnElement[bool]:
    """Condition on a run: the parameter has this value, written as JSON without quotes. Masked values never match.

    ``run_id``: the column with the run's id, in SQL.
    """
    if engine == "mssql":
        table, shown = "jobfac.run AS its CROSS APPLY OPENJSON(its.parameters) AS p", "p.[value]"
    else:
        table = "run AS its, json_each(its.parameters) AS p"
        shown = "CASE p.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(p.value AS TEXT) END"
    key = "p.[key]" if engine == "mssql" else "p.key"
    text = f"EXISTS (SELECT 1 FROM {table} WHERE its.id = {run_id} AND {key} = :p_name AND {shown} = :p_value)"
    condition: sa.ColumnElement[bool] = sa.text(text).bindparams(  # type: ignore[assignment]
        sa.bindparam("p_name", name, type_=sa.Unicode(64), unique=True),
        sa.bindparam("p_value", value, type_=sa.UnicodeText(), unique=True),
    )
    return condition


def sensitive_of(conn: sa.Connection, run_id: int) -> Values:
    """Return the sensitive values of a run, which only an operator may see."""
    return _read(conn.execute(sa.select(run.c.sensitive).where(run.c.id == run_id)).scalar())
