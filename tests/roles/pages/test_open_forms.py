"""Forms that stand open while a definition changes, and lists to which a browser returns."""

import re

from jobfac.store.api_keys import Role
from tests.roles.pages.stage import Browser
from tests.support.api_stage import Served

SIX, TWELVE, EIGHTEEN = ({"cron": f"0 {hour} * * *"} for hour in (6, 12, 18))


def test_no_other_schedule_is_paused_than_the_one_that_the_page_showed(place: Served) -> None:
    """The second of them has another rule after a change."""
    operator = Browser(place, place.keys[Role.OPERATOR])
    place.define("load", command=["true"], schedules=[SIX, EIGHTEEN])
    (version,) = set(re.findall(r'name="current" value="(\d+)"', operator.get("/jobs/load")))
    place.define("load", command=["true"], schedules=[SIX, TWELVE, EIGHTEEN])
    answer = operator.act("/jobs/load/pause", "/jobs/load", schedule="2", current=version)
    assert "has changed since this page was opened" in answer
    assert "Resume" not in operator.get("/jobs/load")
    assert "is paused" in operator.act("/jobs/load/pause", "/jobs/load", schedule="2", current="2")


def test_a_version_is_not_rolled_back_over_one_that_the_page_did_not_show(place: Served) -> None:
    admin = Browser(place, place.keys[Role.ADMIN])
    for word in ("a", "b", "c"):
        place.define("load", command=["echo", word])
    answer = admin.act("/jobs/load/rollback", "/jobs/load?version=1", version="1", current="2")
    assert "has changed since this page was opened" in answer
    assert "as version 4" in admin.act("/jobs/load/rollback", "/jobs/load", version="1", current="3")
