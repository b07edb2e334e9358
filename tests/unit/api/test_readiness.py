"""Readiness: a flood of questions asks the database once a second."""

import threading

import pytest

from jobfac.api.serving.readiness import AGE, Readiness
from jobfac.errors import Unreachable
from tests.support.factory import wait_for


def test_a_flood_asks_the_database_once_a_second() -> None:
    now, asked = [100.0], []
    readiness = Readiness(lambda: asked.append(now[0]), lambda: now[0])
    for _ in range(1000):
        readiness.check()
    now[0] += AGE
    for _ in range(1000):
        readiness.check()
    assert asked == [100.0, 100.0 + AGE]


def test_while_one_asks_the_others_get_the_last_answer() -> None:
    now, slow, asking = [0.0], threading.Event(), threading.Event()

    def check() -> None:
        if now[0]:
            asking.set()
            slow.wait(30)

    readiness = Readiness(check, lambda: now[0])
    readiness.check()
    now[0] = AGE
    first = threading.Thread(target=readiness.check)
    first.start()
    wait_for(asking.is_set, "the database is asked")
    for _ in range(100):
        readiness.check()
    slow.set()
    first.join(30)


def test_an_error_is_the_answer_until_the_next_question() -> None:
    now, errors = [0.0], [Unreachable("away")]

    def check() -> None:
        if errors:
            raise errors[0]

    readiness = Readiness(check, lambda: now[0])
    for _ in range(2):
        with pytest.raises(Unreachable, match="away"):
            readiness.check()
    errors.clear()
    now[0] += AGE
    readiness.check()
