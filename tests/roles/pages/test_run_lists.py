"""The history of runs, by HTTP: how it is searched, and what is done to many runs at once."""

import re

from jobfac.database.dialects import utcnow
from jobfac.database.tables import audit, run
from jobfac.store import runs
from jobfac.store.history.audit_log import SCAN
from jobfac.store.runs import StartRequest
from tests.roles.pages.stage import Browser, Stage
from tests.support.api_stage import Served
from tests.support.database import now, start

FOUND: tuple[tuple[str, set[str]], ...] = (
    ("state=failed&job=broken", {"failed"}),
    ("state=waiting", {"blocked", "unserved", "scheduled"}),
    ("state=failed&q=SCRIPT", {"failed"}),
    ("q=half+way", {"running"}),
    ("job=to-file", {"to_file"}),
    ("category=ops", {"running", "blocked"}),
    ("worker=w1&state=succeeded", {"succeeded", "to_file"}),
    ("since=2027-01-01", set()),
    ("until=1h", set()),
    ("since=yesterday&until=today&state=running", {"running"}),
    ("state=unacknowledged&job=broken", {"failed"}),
    ("since=1h&state=running", {"running"}),
)
"""The runs that a search finds, by what is in its URL."""


def test_runs_are_found(operator: Browser, stage: Stage) -> None:
    named = {name: run for name, run in stage._asdict().items() if name not in ("worker", "sequence")}
    for query, found in FOUND:
        shown = {int(one) for one in re.findall(r'data-row="run-(\d+)"', operator.get(f"/runs?{query}"))}
        assert {name for name, run in named.items() if run in shown} == found, query


def test_a_wrong_filter_says_what_is_wrong(operator: Browser) -> None:
    assert "&#39;since&#39; must be a time such as 2h, yesterday" in operator.get("/runs?since=soon")
    assert "must be NAME=VALUE, such as day=2027-01-31" in operator.get("/runs?parameter=day")
    assert "select them in the list" in operator.get("/runs/all?do=retry&parameter=day=1")
    assert "There is no state &#39;broken&#39;" in operator.get("/runs?state=broken")


def test_runs_are_found_by_a_parameter(place: Served, operator: Browser) -> None:
    place.define("dated", parameters={"day": {"type": "date"}})
    ids = [start(place.db, "dated", parameters={"day": f"2027-01-0{day}"}) for day in (1, 2)]
    text = operator.get("/runs?parameter=day=2027-01-02")
    assert re.findall(r'data-row="run-(\d+)"', text) == [str(ids[1])]
    assert "All that match" not in text


def test_a_filter_is_shown_as_a_command(operator: Browser, stage: Stage) -> None:
    query = "job=export&state=stopped&q=a+b&category=ops&worker=w1&since=2h&sequence=7&parameter=day=1"
    text = operator.get(f"/runs?{query}")
    line = "--job export --state stopped --category ops --worker w1 --since 2h --sequence 7 --text &#39;a b&#39;"
    assert f"jobfac runs list {line} --parameter day=1" in text
    operator.client.cookies.set("jobfac-zone", "Asia%2FTokyo")
    assert "--until 2027-02-01T00:00:00+09:00" in operator.get("/runs?until=2027-01-31")
    assert "--unacknowledged" in operator.get("/runs?state=unacknowledged")


def test_a_page_of_runs_leads_to_the_next(place: Served, operator: Browser) -> None:
    for _ in range(60):
        place.start("export")
    first = operator.get("/runs?job=export")
    (link,) = re.findall(r'href="(\?[^"]*below=\d+)"', first)
    second = operator.get(f"/runs{link.replace('&amp;', '&')}")
    rows = [set(re.findall(r'data-row="run-(\d+)"', page)) for page in (first, second)]
    assert (len(rows[0]), len(rows[1])) == (40, 22)
    assert not rows[0] & rows[1]


def test_the_search_box_finds_jobs_runs_and_text(operator: Browser, stage: Stage) -> None:
    for words, path in (
        (str(stage.failed), f"/runs/{stage.failed}"), ("export", "/jobs/export"), ("expo", "/jobs?q=expo"),
        ("half way", "/runs?q=half+way"), ("", "/runs"),
    ):  # fmt: skip
        assert operator.client.get("/search", params={"q": words}).headers["location"] == path


def test_runs_are_retried_and_stopped(operator: Browser, stage: Stage) -> None:
    text = operator.act(f"/runs/{stage.failed}/retry", f"/runs/{stage.failed}")
    assert f"is the retry of run {stage.failed}: queued" in text
    assert f"jobfac retry {stage.failed}" in text
    text = operator.act(f"/runs/{stage.running}/stop", f"/runs/{stage.running}")
    assert f"Run {stage.running} of slow was running and is now stopping." in text
    text = operator.act("/runs/selected", "/runs", run=[str(stage.succeeded), str(stage.running)], do="retry")
    assert f"1 run was started again. 1 skipped: run {stage.running}, it is stopping." in text
    assert "for run in" not in text, "no loop does the same as an act on several runs"
    assert "0 runs were started again. 1 skipped" in operator.act(
        "/runs/selected", "/runs", run=str(stage.failed), do="retry"
    )
    text = operator.act("/runs/selected", "/runs", run=[str(stage.blocked), str(stage.unserved)], do="stop")
    assert "2 runs were asked to stop." in text
    assert "No run is selected." in operator.act("/runs/selected", "/runs", do="stop")


def test_all_runs_of_a_filter_are_shown_and_then_changed(operator: Browser, stage: Stage) -> None:
    assert "/runs/all?" not in operator.get("/runs?state=failed")  # it says not which
    listed = operator.get("/runs?state=failed&q=exit+code")
    link = re.findall(r'href="(/runs/all\?[^"]*do=acknowledge)"', listed)[0].replace("&amp;", "&")
    assert "do=retry" in listed
    assert "do=stop" not in listed
    shown = operator.get(link)
    ids = re.findall(r'name="run" value="(\d+)"', shown)
    assert (len(ids), "Acknowledge 2 runs?" in shown) == (2, True)
    assert "jobfac ack --state failed --state lost --state start_failed --state timed_out --text" in shown
    assert "is acknowledged" in operator.act(f"/runs/{ids[0]}/acknowledge", "/")
    text = operator.act("/runs/selected", link, run=ids, do="acknowledge", filter="state=failed&q=exit+code")
    assert f"1 run was acknowledged. 1 skipped: run {ids[0]}, it was acknowledged: operator." in text
    assert "jobfac ack --state failed" in text
    assert "No run matches." in operator.get(link)
    shown = operator.get("/runs/all?do=retry&state=unacknowledged&q=quiet")
    assert "Retry 1 run?" in shown
    assert "jobfac retry" not in shown, "it would retry the acknowledged ones, too"
    shown = operator.get("/runs/all?do=stop&category=ops")
    assert "jobfac stop --category ops --all" in shown
    assert "Stop 2 runs?" in shown
    assert "Select runs" in operator.get("/runs/all?do=stop&state=running")
    assert "none of these" in operator.client.get("/runs/all?do=delete&job=a").text


def test_a_retry_that_a_browser_sends_again_starts_nothing_again(place: Served, operator: Browser) -> None:
    """The first one may have ended by then."""
    place.define("load", command=["true"])
    first = place.start("load")
    place.admin.post(f"/v1/runs/{first}/stop")
    (once,) = set(re.findall(r'name="once" value="(\w+)"', operator.get(f"/runs/{first}")))
    operator.act(f"/runs/{first}/retry", once=once)
    place.admin.post(f"/v1/runs/{first + 1}/stop")
    assert f"Run {first + 1} of load is the retry of run {first}: stopped" in operator.act(
        f"/runs/{first}/retry", once=once
    )


def test_the_fleet_names_the_runs_of_each_worker(operator: Browser, stage: Stage) -> None:
    """However many sequences, which have no worker, and runs of other workers began before them."""
    db = operator.served.db
    wanted = ["month-end"] * 200 + ["export"] * 8
    ids = db.transact(lambda conn: [runs.start(conn, StartRequest(job, "tester")) for job in wanted])
    with db.begin() as conn:
        begun = run.update().values(state="running", attempt=1, started_at=utcnow(-60_000))
        conn.execute(begun.where(run.c.id.between(ids[0], ids[199])))
        held = begun.values(worker="w1", worker_id=stage.worker, started_at=utcnow())
        conn.execute(held.where(run.c.id.between(ids[200], ids[-1])))
    fleet = operator.get("/fleet")
    assert f'<a href="/runs/{ids[203]}">{ids[203]}</a> export' in fleet
    assert '<span class="sub">and 4 more</span>' in fleet, "two of the stage and eight of export"


def test_a_page_says_how_far_it_has_looked_through_the_audit(operator: Browser) -> None:
    """Many starts of other jobs do not make a job look as if nobody had changed it."""
    operator.act("/jobs/export/disable", "/jobs/export")
    assert "Older entries" not in operator.get("/jobs/export")
    moment = now(operator.served.db)
    with operator.served.db.begin() as conn:
        entries = [{"at": moment, "by": "app", "action": "start", "subject": f"run {n}"} for n in range(SCAN)]
        conn.execute(audit.insert(), entries)
    text = operator.get("/jobs/export")
    assert "Nothing among the newest 5,000 entries of the audit." in text
    (older,) = re.findall(r'href="(/audit[^"]+)">Older entries', text)
    assert "<td>operator</td><td>disable</td>" in operator.get(older.replace("&amp;", "&"))
    assert "No entry matches among 5,000; older ones may." in operator.get("/audit?action=disable")
