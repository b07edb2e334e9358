"""Views: rows, JSON and the API's models follow from one list of columns by type."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from jobfac.api import models
from jobfac.database import tables
from jobfac.states import Delivery, JobKind, Role, RunState, StepStart, WorkerState
from jobfac.views.holds import HoldView
from jobfac.views.jobs import JobView, OverdueView
from jobfac.views.keys import KeyView
from jobfac.views.notifications import NotificationView
from jobfac.views.overview import DueSchedule, Overview, RunLine, WaitingRuns
from jobfac.views.runs import AttemptView, EventView, RunHistory, RunView, history_as_json
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.sequences import StepRunView, StepVisitView
from jobfac.views.serialization import as_json, columns, fields, from_json, from_row
from jobfac.views.workers import WorkerView

NOON = datetime(2027, 1, 31, 12, 0, 0, 5000, UTC)

RUN: dict[str, Any] = dict.fromkeys(columns(RunView)) | {
    "id": 7,
    "job": "load",
    "state": "failed",
    "attempt": 1,
    "priority": 0,
    "arguments": '["--x", "2027-01-31T22:00:00"]',
    "payload": "2027-01-31T22:00:00.000+00:00",
    "created_at": NOON,
    "kind": "sequence",
    "job_version": 1,
    "queue": "default",
    "created_by": "me",
    "outputs": '{"at": "2027-01-31T22:00:00+01:00"}',
    "exit_message": "2027-01-31T22:00:00 step 3",
}
"""A row of the table."""


def test_a_row_is_converted_to_the_types_of_its_view() -> None:
    run = from_row(RunView, RUN)
    assert (run.state, run.kind) == (RunState.FAILED, JobKind.SEQUENCE)
    assert isinstance(run.state, RunState)
    assert (run.created_at, run.started_at) == (NOON, None)
    assert (run.arguments, run.outputs) == (["--x", "2027-01-31T22:00:00"], {"at": "2027-01-31T22:00:00+01:00"})


def test_json_is_written_by_type_and_not_by_text() -> None:
    shown = as_json(from_row(RunView, RUN))
    assert list(shown) == list(columns(RunView))
    assert shown["created_at"] == "2027-01-31T12:00:00.005+00:00"
    assert (shown["state"], shown["arguments"]) == ("failed", ["--x", "2027-01-31T22:00:00"])
    assert (shown["payload"], shown["exit_message"]) == (RUN["payload"], RUN["exit_message"])
    assert type(shown["state"]) is str


def test_json_is_read_back_as_the_same_view() -> None:
    run = from_row(RunView, RUN)
    document = json.loads(json.dumps(as_json(run))) | {"added_later": 1}
    assert from_json(RunView, document) == run
    with pytest.raises(KeyError, match="job"):
        from_json(RunView, {"id": 7})
    with pytest.raises(ValueError, match="no_such_state"):
        from_json(RunView, document | {"state": "no_such_state"})


def test_nested_views_keep_their_types_and_defaults_are_omitted() -> None:
    line = from_row(StepRunView, dict.fromkeys(columns(StepRunView)) | {"job": "a", "state": "succeeded"})
    values: dict[str, Any] = dict.fromkeys(columns(StepVisitView)) | {"step": "one", "number": 1, "entered_at": NOON}
    visit = StepVisitView(**{**values, "start": StepStart.STARTED, "runs": [line]})
    outer = line._replace(job="inner", kind=JobKind.SEQUENCE, path=[visit])
    assert "path" not in as_json(line)
    document = json.loads(json.dumps(as_json(outer)))
    assert list(document)[-1] == "path"
    assert from_json(StepRunView, document) == outer
    event = EventView(1, 1, NOON, "failed", "w1", None)
    history = RunHistory(from_row(RunView, RUN), [], [event])
    assert list(history_as_json(history)) == [*columns(RunView), "attempts", "events"]
    assert list(history_as_json(history._replace(path=[visit])))[-1] == "path"


def test_an_overview_is_one_document() -> None:
    worker = from_row(
        WorkerView,
        dict.fromkeys(columns(WorkerView))
        | {"id": 1, "pools": '["default"]', "labels": '{"os": "linux"}', "state": "active", "seen_at": NOON},
    )
    run = from_row(RunLine, RUN)
    overview = Overview(
        NOON, [worker], [WaitingRuns("default", 2, 0.5, None)], 0, 1, 2, [run], [run], [DueSchedule("load", "1", NOON)],
        [run], [HoldView(1, "etl", None, None, "why", NOON, NOON, "ann", None, None)],
        [OverdueView("load", NOON, NOON, NOON)],
    )  # fmt: skip
    assert from_json(Overview, json.loads(json.dumps(as_json(overview)))) == overview
    assert (worker.pools, worker.labels, worker.state) == (["default"], {"os": "linux"}, WorkerState.ACTIVE)


def test_times_of_a_preview_have_whole_seconds() -> None:
    shown = as_json(CandidateView(NOON.replace(microsecond=0), "1", NOON.replace(microsecond=0), True, None))
    assert (shown["due_at"], shown["local"]) == ("2027-01-31T12:00:00+00:00",) * 2


@pytest.mark.parametrize(
    ("view", "table", "besides"),
    [
        (RunView, tables.run, ()),
        (RunLine, tables.run, ()),
        (AttemptView, tables.attempt, ()),
        (EventView, tables.run_event, ()),
        (StepRunView, tables.run, ()),
        (WorkerView, tables.worker, ("busy", "seen_at", "lease_until", "cpu_pressure", "free_memory")),
        (ScheduleView, tables.schedule, ("job_enabled",)),
        (NotificationView, tables.notification, ("channel", "to")),
        (KeyView, tables.api_key, ()),
        (JobView, tables.job, ("definition",)),
    ],
)
def test_the_fields_of_a_view_are_columns_of_its_table(
    view: type[tuple[Any, ...]], table: Any, besides: tuple[str, ...]
) -> None:
    """Whether a field may be None agrees with the table, too."""
    for field in fields(view):
        if field.is_column and field.name not in besides:
            column = table.c[field.name]
            if table is not tables.run or view is RunView:
                assert (type(None) in getattr(field.kind, "__args__", ())) == column.nullable, field.name


@pytest.mark.parametrize(
    ("view", "model"),
    [
        (RunView, models.Run),
        (AttemptView, models.Attempt),
        (EventView, models.RunEvent),
        (JobView, models.Job),
        (WorkerView, models.Worker),
        (ScheduleView, models.Schedule),
        (CandidateView, models.Candidate),
    ],
)
def test_the_models_of_the_api_have_the_fields_of_the_views(view: type[tuple[Any, ...]], model: Any) -> None:
    more = ("waits_for", "origin") if view is RunView else ()  # no column: it is read where runs are shown
    assert tuple(model.model_fields) == (*columns(view), *more)
    assert model.__doc__ == view.__doc__


def test_another_column_needs_only_a_field_of_the_view() -> None:
    """Selection, typed row, JSON and the API's model follow from the field that is added to the view."""

    class WithPid(NamedTuple):
        """An attempt."""

        number: int
        pid: int | None
        ended_at: datetime | None
        state: RunState | None

    row = {"number": 1, "pid": 5, "ended_at": NOON, "state": "lost"}
    selected = [tables.attempt.c[name].name for name in columns(WithPid)]
    shown = as_json(from_row(WithPid, row))
    model = models.model_of("WithPid", WithPid)
    assert selected == list(shown) == list(model.model_fields) == list(row)
    assert shown["ended_at"] == "2027-01-31T12:00:00.005+00:00"
    assert model.model_validate(shown).model_dump(mode="json").keys() == row.keys()


def test_states_are_enums() -> None:
    assert (from_row(KeyView, dict.fromkeys(columns(KeyView)) | {"role": "admin"}).role) is Role.ADMIN
    found = from_row(NotificationView, dict.fromkeys(columns(NotificationView)) | {"state": "dead"})
    assert found.state is Delivery.DEAD
