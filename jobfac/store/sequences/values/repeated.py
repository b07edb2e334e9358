"""What failed in a step and was retried by hand with success, so that a retry from the failed step takes it over."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import run, visit
from jobfac.states import RunState
from jobfac.store.history import places, retries
from jobfac.store.sequences.visits import named, place_of
from jobfac.views.serialization import read_json

Place = tuple[str, str | None]
"""A job and, with ``for_each``, its values as JSON."""

Runs = Sequence[Any]
"""Runs of a visit with one name: id, job, item and state."""

Given = tuple[str | None, ...]
"""The columns ``places.VALUES`` of a run."""


def add_by_hand(
    conn: sa.Connection,
    row: Any,
    items: Sequence[Any] | None,
    failed: Sequence[tuple[Place, Runs]],
    found: defaultdict[Place, list[int]],
) -> None:
    """Add the retries by hand that stand for what did not succeed in a visit, or was never started there.

    A retry of what another retry of the sequence did at the same place counts, too, if it began after the failure, and
    this had the same values. Values of ``for_each`` are compared, because a retry by hand may have changed them.

    Args:
        failed: what the visit has started, and what has not succeeded.
        found: what has succeeded there; gets the retries.
    """
    others = _elsewhere(conn, row)
    by_hand = _ByHand.read(conn, [its for _, its in failed], others, sorted(items[0]) if items else ())
    if by_hand is None:
        return

    def add(place: Place, run_id: int | None) -> bool:
        if run_id is None or run_id in found[place]:
            return False
        found[place].append(run_id)
        return True

    for place, its in [(place, its) for place, its in failed if not add(place, by_hand.of(its))]:
        same = (other for other in others.get(place, ()) if by_hand.are_same(its, other))
        any(add(place, by_hand.of(other, its[-1].id)) for other in same)
    room = Counter({None: 1} if items is None else [value_of(one) for one in items])
    begun = Counter(place for place, _ in failed)
    for place, each in others.items():
        if room[place[1]] > begun[place] + len(found[place]):  # it was not started in this visit
            add(place, by_hand.of(each[0]))


class _ByHand:
    """The successes among the retries of failed runs.

    Attributes:
        retried: these, by failed run.
        given: what the runs were given, by run.
        names: of the parameters with the values of ``for_each``.
    """

    def __init__(self, retried: Mapping[int, list[int]], given: Mapping[int, Given], names: Sequence[str]) -> None:
        self.retried = retried
        self.given = given
        self.names = names

    @classmethod
    def read(
        cls, conn: sa.Connection, failed: Sequence[Runs], others: Mapping[Place, list[Runs]], names: Sequence[str]
    ) -> "_ByHand | None":
        """Read them; None: there is none."""
        of_jobs: dict[str, list[int]] = defaultdict(list)
        for one in (one for its in [*failed, *chain.from_iterable(others.values())] for one in its):
            if one.state != RunState.SUCCEEDED:
                of_jobs[one.job].append(one.id)
        retried: dict[int, list[int]] = defaultdict(list)
        for job, run_ids in of_jobs.items():
            for failure, success in retries.by_hand(conn, job, run_ids):
                retried[failure].append(success)
        if not retried:
            return None
        wanted = {*retried, *chain.from_iterable(retried.values())}
        if others:
            wanted |= {one.id for its in [*failed, *chain.from_iterable(others.values())] for one in its}
        query = sa.select(run.c.id, *(run.c[name] for name in places.VALUES)).where(lists.by_id(run.c.id, wanted))
        return cls(retried, {run_id: tuple(values) for run_id, *values in conn.execute(query)}, names)

    def of(self, its: Runs, after: int = 0) -> int | None:
        """Return the run that stands for these runs of a job; None: one of them did not succeed, nor a later retry.

        ``after``: the retries are later than this run.
        """
        found = None
        for one in its:
            done = [new for new in self.retried.get(one.id, ()) if new > after and self._has_value_of(one.id, new)]
            if one.state != RunState.SUCCEEDED and not done:
                return None
            found = found or (one.id if one.state == RunState.SUCCEEDED else max(done))
        return found

    def are_same(self, its: Runs, others: Runs) -> bool:
        """Whether these runs of a job were given the same as others."""
        mine, theirs = (Counter(self.given.get(one.id) for one in each) for each in (its, others))
        return mine == theirs

    def _has_value_of(self, one: int, other: int) -> bool:
        if not self.names:
            return True
        mine, its = (dict(zip(places.VALUES, self.given[run_id], strict=True)) for run_id in (one, other))
        return all(
            {**_read(mine[key])}.get(name) == {**_read(its[key])}.get(name)
            for key in ("parameters", "sensitive")
            for name in self.names
        )


def _read(text: str | None) -> Mapping[str, Any]:
    return read_json(text) if text else {}


def _elsewhere(conn: sa.Connection, row: Any) -> Mapping[Place, list[Runs]]:
    """Return what the last visits of a step in other retries of a sequence run had started without success, by place,
    the latest first."""
    first = retries.first_ones(conn, {row.run_id})[row.run_id]
    others = places.with_retries(conn, row.job, {first}) - {row.run_id}
    found: dict[Place, list[Runs]] = defaultdict(list)
    if not others:
        return found
    query = sa.select(visit.c.id, visit.c.run_id, visit.c.for_each).where(lists.by_id(visit.c.run_id, others))
    last = {one.run_id: one for one in conn.execute(query.where(visit.c.step == row.step).order_by(visit.c.id))}
    for one in sorted(last.values(), key=lambda one: -one.id):
        items = items_of(one)
        for name, its in runs_of(conn, one.id).items():
            if any(each.state != RunState.SUCCEEDED for each in its):
                found[place_in(name, items)].append(its)
    return found


def items_of(row: Any) -> Sequence[Any] | None:
    """Return the values of ``for_each`` of a visit; None: it has none."""
    return None if row.for_each is None else json.loads(row.for_each)


def runs_of(conn: sa.Connection, visit_id: int) -> Mapping[str, Runs]:
    """Return the runs of a visit, by name: with ``each_worker`` several ones have the same."""
    found: dict[str, list[Any]] = defaultdict(list)
    theirs = sa.select(run.c.id, run.c.job, run.c.item, run.c.state).where(run.c.visit_id == visit_id)
    for one in conn.execute(theirs.order_by(run.c.id)):
        found[one.job if one.item is None else named(one.job, one.item)].append(one)
    return found


def place_in(name: str, items: Sequence[Any] | None) -> Place:
    """Return the place for which a name stands in a visit with these values."""
    if items is None:
        return name, None
    job, at = place_of(name)
    return job, value_of(items[at])


def value_of(item: Any) -> str:
    """Return values of ``for_each`` as they are compared."""
    return json.dumps(item, sort_keys=True)
