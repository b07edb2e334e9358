"""When a program is silent for too long, and when a run takes longer than usual."""

import pytest

from jobfac.definitions import Usual
from jobfac.states import Stop
from jobfac.worker.executions.lifecycle import Action, Cause, Lifecycle, Stage, merged
from jobfac.worker.executions.silence import Silence
from jobfac.worker.executions.warning import LongWarning, warning_of


def test_silence_is_measured_from_the_last_look_that_found_something_new() -> None:
    silence = Silence(10.0)
    assert not silence.is_too_long(100.0, 0)
    assert silence.next_time() == 100.5
    assert not silence.is_too_long(109.9, 0)
    assert silence.is_too_long(110.0, 0)
    assert not silence.is_too_long(110.5, 7)
    assert not silence.is_too_long(120.4, 7)
    assert silence.is_too_long(120.5, 7)


def test_a_look_that_comes_late_decides_nothing_once() -> None:
    """A container was paused: its programs had no chance to write. A busy worker is late each time."""
    silence = Silence(10.0)
    silence.is_too_long(100.0, 0)
    assert not silence.is_too_long(120.0, 0)
    assert silence.is_too_long(122.0, 0)
    assert not silence.is_too_long(122.5, 7)
    assert not silence.is_too_long(150.0, 7)
    assert not silence.is_too_long(150.5, 8)


@pytest.mark.parametrize(("limit", "step"), [(0.1, 0.05), (2.0, 0.1), (600.0, 10.0), (86400.0, 10.0)])
def test_it_looks_often_enough_and_no_more(limit: float, step: float) -> None:
    silence = Silence(limit)
    silence.is_too_long(1000.0, 0)
    assert silence.next_time() == 1000.0 + step


def test_a_silent_program_is_ended_politely_once() -> None:
    life = Lifecycle(None, 10.0, None, now=99.0)
    assert life.silent(99.5) == ()
    life.started(100.0)
    assert life.silent(150.0) == (Action.TERMINATE,)
    assert (life.stage, life.cause) == (Stage.ENDING, Cause.SILENT)
    assert life.silent(151.0) == ()
    assert life.tick(160.0, ended=False, leftovers=False) == (Action.KILL,)
    assert merged(Cause.SILENT, Stop.POLITE, requeue=True) == Cause.REQUEUED
    assert merged(Cause.SILENT, Stop.POLITE, requeue=False) == Cause.STOPPED


@pytest.mark.parametrize(
    ("warn_after", "usual", "wanted"),
    [
        (None, 10.0, LongWarning(None)),
        (60.0, 10.0, LongWarning(60.0, "still running after 1m")),
        (Usual(usual=1.5), 10.0, LongWarning(15.0, "still running after 15s; it usually takes 10s")),
        (Usual(usual=1.5, least=600.0), 10.0, LongWarning(600.0, "still running after 10m; it usually takes 10s")),
        (Usual(usual=2, least=5.0), 100.0, LongWarning(200.0, "still running after 3m20s; it usually takes 1m40s")),
        (Usual(usual=1.5, least=600.0), None, LongWarning(None)),
    ],
)
def test_longer_than_usual(warn_after: float | Usual | None, usual: float | None, wanted: LongWarning) -> None:
    assert warning_of(warn_after, usual) == wanted
