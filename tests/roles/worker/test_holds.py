"""A worker and a scheduler at work, on each dialect, while holds come and go."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_what_was_held_starts_when_its_hold_is_released_or_ends(factory: Factory) -> None:
    factory.apply({"a": {"command": ["true"], "pool": "big"}, "b": {"command": ["true"]}, "c": {"command": ["true"]}})
    factory.worker("w1", "--pool", "big", "--pool", "default")
    factory.role("scheduler")
    pool = factory.json("hold", "--pool", "big", "--reason", "why")
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    factory.json("hold", "--job", "b", "--reason", "for a moment", "--until", soon)
    held, ending, free = (factory.json("start", job)["id"] for job in ("a", "b", "c"))
    assert factory.wait(free)["state"] == "succeeded"
    ended = factory.wait(ending)
    assert (ended["state"], ended["started_at"] >= soon[:23]) == ("succeeded", True)
    assert factory.show(held)["state"] == "queued"
    assert [one["id"] for one in factory.json("holds")] == [pool["id"]]
    factory.run("release", str(pool["id"]))
    assert factory.wait(held)["state"] == "succeeded"
