"""The order in which many runs are stopped."""

from jobfac.states import JobKind, RunState
from jobfac.views.results.many import ManyView, Result


def line(run_id: int, state: RunState, kind: JobKind = JobKind.PROGRAM, inside: int | None = None) -> ManyView:
    return ManyView(run_id, "a", state, Result.CHOSEN, None, None, kind, inside)


def test_what_waits_comes_first_and_a_sequence_before_what_it_has_started() -> None:
    lines = [
        line(9, RunState.BLOCKED),
        line(8, RunState.QUEUED, JobKind.SEQUENCE),
        line(7, RunState.RUNNING),
        line(6, RunState.QUEUED, inside=4),
        line(5, RunState.RUNNING, inside=4),
        line(4, RunState.RUNNING, JobKind.SEQUENCE, inside=3),
        line(3, RunState.RUNNING, JobKind.SEQUENCE),
        line(2, RunState.STOPPING),
    ]
    assert [one.id for one in sorted(lines, key=lambda one: one.stop_order)] == [8, 9, 3, 4, 6, 2, 5, 7]
