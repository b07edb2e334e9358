"""Readiness: a flood of questions asks the database once a second, and none waits long for it."""

import asyncio
import threading

import pytest

from jobfac.api.serving.readiness import AGE, Readiness
from jobfac.errors import Unreachable


def test_a_flood_asks_the_database_once_a_second() -> None:
    now, asked = [100.0], []
    readiness = Readiness(lambda: asked.append(now[0]), lambda: now[0])

    async def ask() -> None:
        await asyncio.gather(*(readiness.check() for _ in range(1000)))
        now[0] += AGE
        await asyncio.gather(*(readiness.check() for _ in range(1000)))

    asyncio.run(ask())
    assert asked == [100.0, 100.0 + AGE]


def test_while_one_asks_the_others_get_the_last_answer() -> None:
    now, slow = [0.0], threading.Event()
    readiness = Readiness(lambda: assert_set(slow) if now[0] else None, lambda: now[0])

    async def ask() -> None:
        await readiness.check()
        now[0] = AGE
        first = asyncio.create_task(readiness.check())
        await asyncio.sleep(0)  # it asks
        for _ in range(100):
            await readiness.check()
        assert not first.done()
        slow.set()
        await first

    asyncio.run(ask())


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


@pytest.mark.parametrize("known", [False, True])
def test_a_database_that_does_not_answer_is_not_ready(known: bool) -> None:
    """The last answer counted for as long as the check took: for a minute, if the network swallowed it."""
    now, slow = [0.0], threading.Event()
    readiness = Readiness(lambda: assert_set(slow) if now[0] or not known else None, lambda: now[0])

    async def ask() -> None:
        if known:
            await readiness.check()
        now[0] = AGE
        for _ in range(2):
            with pytest.raises(Unreachable, match="has not answered for"):
                await readiness.check(0.0)
        slow.set()

    asyncio.run(ask())


def test_an_error_is_the_answer_until_the_next_question() -> None:
    now, errors = [0.0], [Unreachable("away")]

    def check() -> None:
        if errors:
            raise errors[0]

    readiness = Readiness(check, lambda: now[0])

    async def ask() -> None:
        for _ in range(2):
            with pytest.raises(Unreachable, match="away"):
                await readiness.check()
        errors.clear()
        now[0] += AGE
        await readiness.check()

    asyncio.run(ask())
