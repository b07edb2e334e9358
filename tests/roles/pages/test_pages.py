"""Every page, by HTTP: what it shows, what it does, who may, and that text stays text."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.tables import attempt, job_version, note, run, start_hold
from jobfac.store import schedulers, schedules, sequences, workers
from jobfac.store.api_keys import Role
from jobfac.web.pages import ALL
from tests.roles.pages.stage import NASTY, Browser, Stage
from tests.support.api_stage import Served
from tests.support.database import define, start
from tests.support.sequences import children

SAMPLES = Path(__file__).parents[3] / "scripts" / "samples"
PATHS = (
    "/", "/runs", "/runs?state=failed&since=24h", "/runs/{failed}", "/runs/{running}", "/runs/{sequence}",
    "/runs/{to_file}", "/runs/{blocked}", "/jobs", "/jobs/export", "/jobs/month-end", "/timeline",
    "/timeline?span=day&by=worker",
    "/timeline/load", "/fleet", "/reports", "/notifications", "/audit", "/guide", "/guide/sequences",
    "/guide?q=lease", "/docs", "/login",
)  # fmt: skip


def test_every_page_shows_itself_and_every_link_leads_somewhere(operator: Browser, stage: Stage) -> None:
    links: set[str] = set()
    for path in PATHS:
        path = path.format(**stage._asdict())
        answer = operator.client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "unsafe-" not in policy
        assert "default-src 'none'" in policy
        text = answer.text
        assert not re.search(r"""<script(?! src="/static/)|\sstyle=|\son\w+=|(src|href)="(https?:)?//""", text), path
        assert "<script>" not in text
        found = re.findall(r'<a [^>]*href="([^"#]+)', text)
        links |= {urljoin(path, one.replace("&amp;", "&")) for one in found}
    for link in sorted(links):
        assert operator.client.get(link).status_code in (200, 303), link


def test_every_job_of_the_samples_has_its_pages(place: Served, operator: Browser) -> None:
    wanted = {job: body for file in sorted(SAMPLES.glob("*.yaml")) for job, body in d.load(file).jobs.items()}
    plan = d.plan({}, {job: d.canonical(body) for job, body in wanted.items()}, prune=False)
    place.db.transact(schedules.apply, plan, wanted, "tester")
    for job in wanted:
        assert job in operator.get(f"/jobs/{job}")
        assert job in operator.get(f"/jobs/{job}/start")


def test_a_definition_that_cannot_be_read_has_its_page(place: Served, operator: Browser, stage: Stage) -> None:
    """A newer jobfac may have stored it."""
    newer = {"definition": '{"command": ["true"], "of_a_later_version": 1, "name": "Newer"}'}
    with place.db.begin() as conn:
        conn.execute(job_version.update().where(job_version.c.job == "export").values(newer))
    text = operator.get("/jobs/export")
    assert "This version of jobfac cannot read the definition" in text
    assert "of_a_later_version: 1" in text
    assert "Newer" in operator.get("/jobs")
    assert operator.client.get("/jobs/export/start").status_code == 409


def test_what_a_program_says_stays_text(operator: Browser, stage: Stage) -> None:
    for path in ("/", "/runs", f"/runs/{stage.failed}", f"/runs/{stage.running}", "/timeline", "/fleet"):
        text = operator.get(path)
        assert "<script>alert" not in text
        assert "\x1b" not in text.replace(NASTY, "") or "&lt;script&gt;" in text


def test_the_first_page_says_what_needs_attention(operator: Browser, stage: Stage) -> None:
    text = operator.get("/")
    assert "exit code 3" in text
    assert "no live worker serves pool &#39;etl&#39; (labels zone=a)" in text
    assert f"concurrency limit 1 of &#39;ledger&#39;: run {stage.running} of slow" in text
    assert "scheduled until 20" in text
    assert "40 %" in text
    (link,) = set(re.findall(r'href="(/runs\?state=failed[^"]*)"', text))
    with operator.served.db.begin() as conn:  # as a sequence that waited for somebody
        conn.execute(run.update().where(run.c.id <= stage.failed).values(created_at=utcnow(-2 * 86_400_000)))
    assert f'data-row="run-{stage.failed}"' in operator.get(link.replace("&amp;", "&")), "it failed in these 24 hours"


def test_a_run_tells_its_facts(operator: Browser, stage: Stage) -> None:
    good = operator.get(f"/runs/{stage.succeeded}")
    assert "12 files" in good
    assert "--full" in good
    assert "MODE" in good
    assert "&#34;day&#34;: 1" in good
    assert "no route to host" in operator.get(f"/runs/{stage.failed}")  # its notification
    sequence = operator.get(f"/runs/{stage.sequence}")
    assert 'class="node failure"' in sequence
    assert "because it was a failure" in sequence
    inside = children(operator.served.db, stage.sequence)[0]["id"]
    for run_id, origin in ((stage.succeeded, "tester"), (inside, f"step extract of run {stage.sequence}")):
        assert f"<dt>Origin</dt><dd>{origin}</dd>" in operator.get(f"/runs/{run_id}")
        assert operator.client.get(f"/v1/runs/{run_id}", headers={"Accept": "*/*"}).json()["origin"] == origin
    elsewhere = operator.get(f"/runs/{stage.to_file}")
    assert "stdout is in the file /var/log/export.log on worker w1." in elsewhere
    assert "stderr is discarded, as the definition says." in elsewhere
    assert "no live worker serves" in operator.get(f"/runs/{stage.unserved}")
    assert operator.client.get("/runs/999999").status_code == 404
    assert "There is no run 999999" in operator.client.get("/runs/999999").text


def test_a_run_that_waits_for_its_worker_or_for_a_retry_is_not_said_to_run(operator: Browser, stage: Stage) -> None:
    db = operator.served.db
    define(db, each={"each_worker": True})
    start(db, "each")
    fleet = operator.get("/fleet")
    assert '<td class="job">worker w1</td>' in fleet
    db.transact(workers.set_message, stage.worker, "unhealthy: no space in /spool")
    assert "its workers claim nothing" in operator.get("/fleet"), "it was said to be active"
    db.transact(workers.set_message, stage.worker, None)
    assert "jobfac worker --pool @worker" not in fleet
    with db.begin() as conn:
        first = {"state": "scheduled", "attempt": 1, "started_at": utcnow(-60_000), "ready_at": utcnow(60_000)}
        conn.execute(run.update().where(run.c.id == stage.scheduled).values(first))
    shown = operator.get(f"/runs/{stage.scheduled}")
    assert "Started first" in shown
    assert "Runs for" not in shown
    assert "Its next attempt has not started" in shown


def test_jobs_schedules_workers_and_notifications_are_steered(operator: Browser, stage: Stage) -> None:
    assert "is paused" in operator.act("/jobs/export/pause", "/jobs/export", schedule="nightly")
    assert "Resume" in operator.get("/jobs/export")
    assert "is resumed" in operator.act("/jobs/export/resume", "/jobs/export", schedule="nightly")
    assert "takes no more starts" in operator.act("/jobs/export/disable", "/jobs/export")
    assert "Enable" in operator.get("/jobs/export")
    assert "may start again" in operator.act("/jobs/export/enable", "/jobs/export")
    said = "are stopped and queued again, or end as lost if their job has restartable: false."
    assert said in operator.get("/fleet"), "the button says what happens to runs that take longer"
    assert said in operator.act(f"/fleet/{stage.worker}/drain", "/fleet")
    assert "draining" in operator.get("/fleet")
    assert "claims runs again" in operator.act(f"/fleet/{stage.worker}/undrain", "/fleet")
    assert "No scheduler runs" in operator.get("/fleet")
    operator.served.db.transact(schedulers.register, "mill-17")
    assert "mill-17" in operator.get("/fleet")
    assert "1 notification waits for delivery again" in operator.act("/notifications/requeue", "/notifications")
    audit = operator.get("/audit")
    for word in ("pause", "resume", "disable", "enable", "drain", "requeue"):
        assert f"<td>operator</td><td>{word}</td>" in audit


def test_versions_and_their_differences(place: Served, operator: Browser) -> None:
    place.define("export", command=["python3", "export.py"], description="Changed.")
    text = operator.get("/jobs/export")
    assert "version 2 of" in text
    assert "<ins>+    description: Changed.</ins>" in text
    assert "Writes orders." in operator.get("/jobs/export?version=1")


def test_failures_are_acknowledged_and_notes_written(operator: Browser, stage: Stage) -> None:
    assert f"/runs/{stage.failed}/acknowledge" in operator.get("/")
    assert "is acknowledged" in operator.act(f"/runs/{stage.failed}/acknowledge", "/")
    assert f"/runs/{stage.failed}/acknowledge" not in operator.get("/")
    text = operator.act(f"/runs/{stage.failed}/notes", f"/runs/{stage.failed}", text="The disk was <full>.")
    assert "The disk was &lt;full&gt;." in text
    assert "by operator" in text
    refused = operator.act(f"/runs/{stage.succeeded}/acknowledge", f"/runs/{stage.succeeded}")
    assert "so there is no failure to acknowledge" in refused


def test_many_holds_and_notes_leave_the_pages_small(operator: Browser, stage: Stage, place: Served) -> None:
    def write(conn: sa.Connection) -> None:
        place_hold, write_note = start_hold.insert().values(created_at=utcnow()), note.insert().values(at=utcnow())
        conn.execute(place_hold, [{"pool": "etl", "reason": "upgrade", "created_by": "x"}] * 125)
        conn.execute(write_note, [{"run_id": stage.failed, "by": "x", "text": f"<{number}>"} for number in range(125)])

    place.db.transact(write)
    for path in ("/", "/fleet"):
        text = operator.get(path)
        assert text.count("Pool etl on hold:") == 20
        assert "And 105 more holds" in text
    text = operator.get(f"/runs/{stage.failed}")
    assert text.count('<td class="why">&lt;') == 100
    assert "&lt;124&gt;" in text
    assert "&lt;24&gt;" not in text


def test_starts_are_held_and_released(operator: Browser, stage: Stage) -> None:
    text = operator.act("/holds", "/fleet", scope="pool", name="etl", reason="upgrade", lasts="2h")
    assert "Nothing new starts in pool etl until hold 1 ends." in text
    assert "jobfac hold --pool etl --until 2h --reason upgrade" in text
    first = operator.get("/")
    assert "Pool etl on hold:" in first
    assert "hold 1 of pool etl: upgrade" in operator.get(f"/runs/{stage.unserved}")
    assert "Hold 1 of pool etl has ended." in operator.act("/holds/1/release", "/")
    assert "on hold:" not in operator.get("/")
    assert "choose one" in operator.act("/holds", "/fleet", scope="pool", name="", reason="x")


def test_a_step_that_waits_for_a_person_is_decided(place: Served, operator: Browser) -> None:
    asks = {"percent": {"type": "integer", "required": True}, "regions": {"many": True}}
    approve = {"by": "operator", "message": "Publish?", "parameters": asks}
    steps = [{"name": "release", "approve": approve}, {"name": "go", "jobs": "export"}]
    assert place.admin.put("/v1/jobs/gated", json={"steps": steps}).status_code == 201
    assert "(approval by operator)" in operator.get("/jobs/gated")
    run_id = start(place.db, "gated")
    place.db.transact(sequences.begin, "w1")
    page = operator.get(f"/runs/{run_id}")
    fields = 'name="parameter.percent" value="" required', 'name="number" value="1"', "Publish?", "--set percent="
    assert all(words in page for words in ("waits for an approval", *fields))
    form = {"decision": "approve", "reason": "tested", "parameter.regions": "eu, us", "number": "1"}
    call, shown = f"/runs/{run_id}/steps/release/approve", f"/runs/{run_id}"
    assert "must be a whole number" in operator.act(call, shown, **form, **{"parameter.percent": "x"})
    form["parameter.percent"] = "20"
    assert "does not wait at the step" in operator.act(call, shown, **form | {"number": "2" * 5000})
    text = operator.act(call, shown, **form)
    assert "--reason tested --set percent=20 --set regions=eu --set regions=us" in text
    assert all(words in text for words in ("Step release of", "percent: 20", "approved by operator"))


def test_a_start_url_is_made_shown_once_and_revoked(place: Served) -> None:
    place.define("export")
    admin = Browser(place, place.keys[Role.ADMIN])
    text = admin.act("/jobs/export/urls", "/jobs/export", name="github")
    (url,) = set(re.findall(r"http://[^ <]+/v1/call/ju_\w+[\w-]+", text))
    assert "/v1/call/" not in admin.get("/jobs/export")
    assert place.client(None).post(url).status_code == 202
    assert "is revoked" in admin.act("/jobs/export/urls/1/revoke", "/jobs/export")
    assert place.client(None).post(url).status_code == 404
    assert "Start URLs" not in Browser(place, place.keys[Role.OPERATOR]).get("/jobs/export")


def test_a_version_is_rolled_back(place: Served, stage: Stage) -> None:
    place.define("export", command=["python3", "export.py"])
    admin = Browser(place, place.keys[Role.ADMIN])
    assert "Roll back to version 1" in admin.get("/jobs/export?version=1")
    assert "Version 1 of export is current again, as version 3." in admin.act("/jobs/export/rollback", version="1")
    assert "Roll back" not in Browser(place, place.keys[Role.OPERATOR]).get("/jobs/export?version=1")


def test_a_span_says_which_runs_were_not_looked_for(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    page, said = "/timeline?from=2026-01-01T00%3A00Z", " are left out."
    assert said not in operator.get(page)
    monkeypatch.setattr("jobfac.store.history.spans.LATER", 1)
    text = operator.get(page)
    assert "Nothing ran and nothing is due in this hour." in text
    assert said in text, "one of them may have been under way"
    later = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}T02:30:00Z"
    assert "export is due, schedule nightly" in operator.get(f"/timeline?from={later}"), "its next time is earlier"
    assert "Nothing ran in this hour." in operator.get(f"/timeline?from={later}&by=worker"), "due times have no worker"


def test_each_attempt_is_drawn_in_the_lane_of_its_worker(place: Served, stage: Stage, operator: Browser) -> None:
    """The lane of the last worker showed the run from its first attempt on, with the waits and the work of others."""
    with place.db.begin() as conn:
        one = attempt.c.run_id == stage.running
        conn.execute(run.update().where(run.c.id == stage.running).values(attempt=2, started_at=utcnow(-1_200_000)))
        conn.execute(attempt.update().where(one).values(number=2, started_at=utcnow(-61_000)))
        first = {"run_id": stage.running, "number": 1, "worker_id": 0, "worker": "other", "state": "failed"}
        times = {"started_at": utcnow(-1_200_000), "ended_at": utcnow(-1_170_000)}
        conn.execute(attempt.insert().values(**first, **times))
    text = operator.get("/timeline?by=worker")
    assert f"run {stage.running} of slow, attempt 1: failed, 30 s" in text
    assert f"run {stage.running} of slow, attempt 2: running, 1 min " in text
    assert 'aria-label="other: 1 entries"' in text
    assert f"run {stage.running} of slow: running, 20 min" in operator.get("/timeline?by=job")


def test_the_load_of_the_coming_days_is_drawn(operator: Browser) -> None:
    text = operator.get("/timeline/load?days=7")
    assert "Pool default" in text
    assert re.search(r"\d\d:00: 1 runs", text)
    assert "jobfac schedule load --days 7" in text


def test_reports_are_csv_too(operator: Browser) -> None:
    answer = operator.client.get("/reports/failures.csv?days=7")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "broken,failed,2" in answer.text
    assert operator.client.get("/reports/nothing.csv").status_code == 404


def test_a_viewer_sees_no_button_and_may_do_nothing(viewer: Browser, stage: Stage) -> None:
    for path in PATHS:
        text = viewer.get(path.format(**stage._asdict()))
        actions = set(re.findall(r'<form method="post" action="([^"]+)"', text)) - {"/theme", "/logout", "/login"}
        assert actions <= {"/runs/selected"}, path
        assert 'name="do"' not in text
        assert 'popovertarget="stop-' not in text
    for page in ALL:
        if page.method == "POST" and page.role is not None and page.role.allows(Role.OPERATOR):
            path = page.path.replace(":id", "").format(
                run=stage.failed, job="export", worker=stage.worker, step="x", hold=1, url=1
            )
            answer = viewer.client.post(path, headers={"Origin": viewer.served.url})
            assert answer.status_code == 403, path
    assert viewer.client.get("/jobs/export/start").status_code == 403
    assert viewer.client.get("/runs/all?do=stop&job=export").status_code == 403


def test_a_limited_key_sees_its_categories_alone(place: Served, stage: Stage) -> None:
    browser = Browser(place, place.key(Role.OPERATOR, ["ops"]))
    text = browser.get("/") + browser.get("/runs") + browser.get("/jobs") + browser.get("/timeline")
    assert "slow" in text
    assert not re.search(r"broken|month-end|unwanted|to-file", text)
    assert browser.client.get(f"/runs/{stage.failed}").status_code == 404
    assert browser.client.get("/jobs/export").status_code == 404
    assert browser.client.get("/audit").status_code == 403
    assert browser.post(f"/fleet/{stage.worker}/drain", "").status_code == 403


def test_an_empty_factory_says_what_to_do(place: Served) -> None:
    browser = Browser(place, place.keys[Role.OPERATOR])
    assert "jobfac worker" in browser.get("/")
    assert "jobfac apply" in browser.get("/jobs")
    assert "jobfac start JOB" in browser.get("/runs")
    assert "jobfac worker --slots 4" in browser.get("/fleet")
    assert "jobfac help notifications" in browser.get("/notifications")


def test_what_is_not_there_is_a_page_for_people_and_a_problem_for_programs(operator: Browser) -> None:
    page = operator.client.get("/nowhere")
    assert (page.status_code, "There is no page /nowhere." in page.text) == (404, True)
    problem = operator.client.get("/nowhere", headers={"Accept": "application/json"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert operator.client.get("/v1/nowhere").headers["content-type"] == "application/problem+json"


def test_all_assets_are_local_small_and_kept(operator: Browser) -> None:
    seen: set[str] = set()
    for path in ("/login", "/", "/runs/1"):
        seen |= set(re.findall(r'(?:src|href)="(/static/[^"]+)"', operator.get(path)))
    size = 0
    for path in seen:
        with operator.client.stream("GET", path) as answer:
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            size += sum(map(len, answer.iter_raw()))
    assert len(seen) == 6
    assert size < 40_000
    assert operator.client.get("/static/nothing.js").status_code == 404
    assert "Zero-Clause BSD" in operator.get("/static/htmx.LICENSE.txt")
