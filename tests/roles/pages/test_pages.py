"""Every page, by HTTP: what it shows, what it does, who may, and that text stays text."""

import re
from urllib.parse import urljoin

from jobfac.store import sequences
from jobfac.store.api_keys import Role
from jobfac.web.pages import ALL
from tests.roles.pages.stage import NASTY, Browser, Stage
from tests.support.api_stage import Served
from tests.support.database import start

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
    elsewhere = operator.get(f"/runs/{stage.to_file}")
    assert "stdout is in the file /var/log/export.log on worker w1." in elsewhere
    assert "stderr is kept nowhere" in elsewhere
    assert "no live worker serves" in operator.get(f"/runs/{stage.unserved}")
    assert operator.client.get("/runs/999999").status_code == 404
    assert "There is no run 999999" in operator.client.get("/runs/999999").text


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
    ("since=1h&state=running", {"running"}),
)
"""The runs that a search finds, by what is in its URL."""


def test_runs_are_found(operator: Browser, stage: Stage) -> None:
    named = {name: run for name, run in stage._asdict().items() if name not in ("worker", "sequence")}
    for query, found in FOUND:
        shown = {int(one) for one in re.findall(r'data-row="run-(\d+)"', operator.get(f"/runs?{query}"))}
        assert {name for name, run in named.items() if run in shown} == found, query


def test_a_wrong_filter_says_what_is_wrong(operator: Browser) -> None:
    assert "is no time: write 2h" in operator.get("/runs?since=yesterday")
    assert "There is no state &#39;broken&#39;" in operator.get("/runs?state=broken")
    assert "jobfac runs list --job export --state failed" in operator.get("/runs?job=export&state=failed")


def test_a_page_of_runs_leads_to_the_next(place: Served, operator: Browser) -> None:
    for _ in range(60):
        place.start("export")
    first = operator.get("/runs?job=export")
    (link,) = re.findall(r'href="(\?[^"]*below=\d+)"', first)
    second = operator.get(f"/runs{link.replace('&amp;', '&')}")
    rows = [set(re.findall(r'data-row="run-(\d+)"', page)) for page in (first, second)]
    assert (len(rows[0]), len(rows[1])) == (50, 12)
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
    text = operator.act("/runs/selected", "/runs", run=[str(stage.failed), str(stage.running)], do="retry")
    assert "1 run was started again. 1 refused:" in text
    text = operator.act("/runs/selected", "/runs", run=[str(stage.blocked), str(stage.unserved)], do="stop")
    assert "2 runs were asked to stop." in text
    assert "No run is selected." in operator.act("/runs/selected", "/runs", do="stop")


def test_a_job_is_started_with_a_form(operator: Browser, stage: Stage) -> None:
    form = operator.get("/jobs/export/start")
    assert ">--full</textarea>" in form
    answer = operator.post("/jobs/export/start", "/jobs/export/start", arguments="--full", priority="high")
    assert (answer.status_code, "must be a whole number" in answer.text) == (422, True)
    assert 'value="high"' in answer.text
    answer = operator.post("/jobs/export/start", "/jobs/export/start", arguments="a", delay="soon")
    assert "The delay must be" in answer.text
    text = operator.act("/jobs/export/start", arguments="--part\r\n7", payload="x", priority="5", delay="10m")
    assert "of export is scheduled" in text
    assert "--part\n7" in text
    assert "jobfac start export --argument --part --argument 7 --payload x --priority 5 --in 600s" in text


def test_jobs_schedules_workers_and_notifications_are_steered(operator: Browser, stage: Stage) -> None:
    assert "is paused" in operator.act("/jobs/export/pause", "/jobs/export", schedule="nightly")
    assert "Resume" in operator.get("/jobs/export")
    assert "is resumed" in operator.act("/jobs/export/resume", "/jobs/export", schedule="nightly")
    assert "starts nothing more" in operator.act("/jobs/export/disable", "/jobs/export")
    assert "Enable" in operator.get("/jobs/export")
    assert "may start again" in operator.act("/jobs/export/enable", "/jobs/export")
    assert "claims nothing more" in operator.act(f"/fleet/{stage.worker}/drain", "/fleet")
    assert "draining" in operator.get("/fleet")
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


def test_starts_are_held_and_released(operator: Browser, stage: Stage) -> None:
    text = operator.act("/holds", "/fleet", scope="pool", name="etl", reason="upgrade", lasts="2h")
    assert "Nothing new starts in pool etl until hold 1 ends." in text
    assert "jobfac hold --pool etl --until 2h --reason upgrade" in text
    first = operator.get("/")
    assert "Pool etl on hold:" in first
    assert "hold 1 of pool etl: upgrade" in operator.get(f"/runs/{stage.unserved}")
    assert "Hold 1 of pool etl has ended." in operator.act("/holds/1/release", "/")
    assert "on hold:" not in operator.get("/")
    assert "say which" in operator.act("/holds", "/fleet", scope="pool", name="", reason="x")


def test_a_job_with_parameters_has_a_field_for_each(place: Served, operator: Browser) -> None:
    parameters = {
        "region": {"type": "choice", "choices": ["eu", "us"], "required": True, "description": "Where"},
        "limit": {"type": "integer", "minimum": 1, "default": 10},
        "token": {"type": "text", "sensitive": True},
    }
    place.define("load", command=["echo", "${parameters.region}"], parameters=parameters)
    form = operator.get("/jobs/load/start")
    assert '<select name="parameter.region" required>' in form
    given = {"parameter.region": "eu", "parameter.limit": "none", "parameter.token": "s3cret"}
    answer = operator.post("/jobs/load/start", "/jobs/load/start", **given)
    assert (answer.status_code, "must be a whole number" in answer.text) == (422, True)
    assert "s3cret" not in answer.text
    text = operator.act("/jobs/load/start", "/jobs/load/start", **{**given, "parameter.limit": "5"})
    assert "jobfac start load --set region=eu --set limit=5" in text
    assert "token=..." in text
    assert "<dt>limit</dt><dd><code>5</code>" in text


def test_a_step_that_waits_for_a_person_is_decided(place: Served, operator: Browser) -> None:
    asks = {"percent": {"type": "integer", "required": True}, "regions": {"many": True}}
    approve = {"by": "operator", "message": "Publish?", "parameters": asks}
    steps = [{"name": "release", "approve": approve}, {"name": "go", "jobs": "export"}]
    assert place.admin.put("/v1/jobs/gated", json={"steps": steps}).status_code == 201
    run_id = start(place.db, "gated")
    place.db.transact(sequences.begin_queued, "w1")
    page = operator.get(f"/runs/{run_id}")
    assert "waits for approval" in page
    assert all(words in page for words in ("Publish?", 'name="parameter.percent" value="" required', "--set percent="))
    form = {"decision": "approve", "reason": "tested", "parameter.regions": "eu, us"}
    call = f"/runs/{run_id}/steps/release/approve"
    answer = operator.post(call, f"/runs/{run_id}", **form, **{"parameter.percent": "x"})
    assert (answer.status_code, "must be a whole number" in answer.text) == (422, True)
    text = operator.act(call, f"/runs/{run_id}", **form, **{"parameter.percent": "20"})
    assert "Step release of" in text
    assert "--reason tested --set percent=20 --set regions=eu --set regions=us" in text
    assert "percent: 20" in text
    assert "approved by operator" in text


def test_a_version_is_rolled_back(place: Served, stage: Stage) -> None:
    place.define("export", command=["python3", "export.py"])
    admin = Browser(place, place.keys[Role.ADMIN])
    assert "Roll back to version 1" in admin.get("/jobs/export?version=1")
    assert "Version 1 of export is in force again, as version 3." in admin.act("/jobs/export/rollback", version="1")
    assert "Roll back" not in Browser(place, place.keys[Role.OPERATOR]).get("/jobs/export?version=1")


def test_the_load_of_the_coming_days_is_drawn(operator: Browser) -> None:
    text = operator.get("/timeline/load?days=1")
    assert "Pool default" in text
    assert re.search(r"\d\d:00: 1 runs", text)
    assert "jobfac schedule load --days 1" in text


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
                run=stage.failed, job="export", worker=stage.worker, step="x", hold=1
            )
            answer = viewer.client.post(path, headers={"Origin": viewer.served.url})
            assert answer.status_code == 403, path
    assert viewer.client.get("/jobs/export/start").status_code == 403


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
