"""What the pages say of schedules: when they are due next, and why they start nothing."""

from jobfac.database.dialects import utcnow
from jobfac.database.tables import schedule
from jobfac.store import schedulers
from jobfac.store.api_keys import Role
from tests.roles.pages.stage import Browser
from tests.support.api_stage import Served

HOUR = [{"name": f"every-{number}", "every": "30m", "jitter": 1} for number in range(49)]


def test_the_page_of_a_job_and_the_first_page_tell_the_state_of_each_schedule(place: Served) -> None:
    """A schedule that is due rarely, is off, or of a held job looked like one that is not due."""
    rarely, off = {"name": "weekly", "cron": "0 3 * * SUN"}, {"name": "x", "cron": "0 3 * * *", "enabled": False}
    body = {"command": ["true"], "schedules": [{"name": "often", "every": "1m"}, rarely, off]}
    assert place.admin.put("/v1/jobs/nightly", json=body).status_code == 201
    assert place.admin.put("/v1/jobs/many", json={"command": ["true"], "schedules": HOUR}).status_code == 201
    with place.db.begin() as conn:
        conn.execute(schedule.update().where(schedule.c.name == "often").values(fire_at=utcnow(-300_000)))
    browser = Browser(place, place.keys[Role.OPERATOR])
    text = browser.get("/jobs/nightly")
    weekly, its_off = (text[text.index(f'<td class="job">{name} ') :] for name in ("weekly", "x"))
    assert weekly[: weekly.index("</tr>")].count('<span class="sub">') == 3
    assert "> off</span>" in its_off[: its_off.index("</tr>")]
    text = browser.get("/")
    assert 'number">49+</span>' in text, "one of the 50 that were read is late"
    assert "No scheduler inserts its run" in text
    place.db.transact(schedulers.register, "s1")
    assert "A scheduler runs but has not started it" in browser.get("/")
    place.admin.post("/v1/holds", json={"job": "nightly", "reason": "the move"})
    text = browser.get("/jobs/nightly")
    assert "<b>Job nightly on hold:</b> the move." in text
    assert "> held</span>" in text
    assert browser.post("/jobs/nightly/disable", "/jobs/nightly").status_code == 303
    text = browser.get("/jobs/nightly")
    assert text.count("> job disabled</span>") == 2
    assert '<span class="sub">' not in text[text.index('id="schedules-title"') : text.index('id="definition"')]
