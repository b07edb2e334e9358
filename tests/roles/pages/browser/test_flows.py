"""What the night shift does, in a real browser."""

import re
import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from jobfac.database.tables import run
from jobfac.store.api_keys import Role
from jobfac.store.history import counts
from jobfac.web import live
from tests.roles.pages.browser.window import Window
from tests.roles.pages.stage import Stage
from tests.support.api_stage import Served
from tests.support.database import start


def test_log_in_by_key_and_by_link(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, _ = shared
    with Window(chromium, served) as window:
        page = window.open("/")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("status")).to_have_text("You are logged out.")
        page.fill("#key", "jf_000000000000_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")
        page.fill("#key", served.keys[Role.OPERATOR])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        page.goto(served.server.link("anna"))
        expect(page.locator(".who")).to_contain_text("anna")
        window.complaints = [one for one in window.complaints if "401" not in one]


def test_find_a_failed_run_among_thousands_and_retry_twenty(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, _ = shared
    with served.db.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO run (job, job_version, kind, state, queue, priority, attempt, failures, created_at, "
            "created_by, queued_at, started_at, ended_at, worker, reason, restartable, already_running) "
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999) SELECT 'export', 1, "
            "'program', CASE WHEN i % 100 = 7 THEN 'failed' ELSE 'succeeded' END, 'default', 0, 1, 0, at, 'me', at, "
            "at, at, 'w9', CASE WHEN i = 1207 THEN 'needle in the haystack' WHEN i % 100 = 7 THEN 'hay' END, 1, "
            "'start' FROM (SELECT i, strftime('%Y-%m-%d %H:%M:%f000', 'now', (i / 100.0 - 51.0) || ' minutes') AS at "
            "FROM n)"
        )
    with Window(chromium, served) as window:
        page = window.open("/runs")
        page.get_by_role("link", name="Failed", exact=True).click()
        page.get_by_label("Text").fill("NEEDLE")
        page.get_by_label("Since").fill("2h")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("[data-row]")).to_have_count(1)
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("of export")
        expect(page.locator("#facts")).to_contain_text("needle in the haystack")
        page.go_back()
        expect(page.locator("[data-row]")).to_have_count(1)
        page = window.open("/runs?state=failed&worker=w9&q=hay")
        for box in page.locator("input[name=run]").all()[:20]:
            box.check()
        expect(page.locator(".bulk")).to_contain_text("20 runs")
        page.locator(".bulk").get_by_role("button", name="Retry…").click()
        page.locator("#retry-them").get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status")).to_contain_text("20 runs were started again.")
        page.get_by_role("link", name="Acknowledge…").click()
        expect(page.locator("h1")).to_contain_text("Acknowledge 50 runs?")
        page.get_by_role("button", name="Acknowledge 50 runs").click()
        expect(page.get_by_role("status")).to_contain_text("50 runs were acknowledged. jobfac ack --state failed")
        assert "state=failed&worker=w9&q=hay" in page.url


def test_a_key_acts_on_the_chosen_row_alone(window: Window) -> None:
    """It retried the first run of the page, another one than that whose row had gone."""
    page = window.open("/")
    ignored = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', bubbles: true, cancelable: true}))"
    assert page.locator("[data-row] [data-key=r]").count() > 1
    assert page.evaluate(ignored)
    page.keyboard.press("j")
    page.evaluate("document.querySelector('.current[data-row]').remove()")
    assert page.evaluate(ignored)
    page.keyboard.press("j")
    assert page.evaluate("Boolean(document.querySelector('.current[data-row]'))")


def test_start_with_a_wrong_value_and_then_a_right_one(window: Window) -> None:
    page = window.open("/jobs")
    page.get_by_role("link", name="Start export").click()
    page.get_by_label("Arguments").fill("--part\n7")
    page.get_by_label("Delay").fill("soon")
    page.get_by_role("button", name="Start export").click()
    expect(page.get_by_role("alert")).to_contain_text("The delay must be")
    expect(page.get_by_label("Arguments")).to_have_value("--part\n7")
    page.get_by_label("Delay").fill("10m")
    page.get_by_role("button", name="Start export").click()
    expect(page.locator("h1")).to_contain_text("scheduled")
    expect(page.get_by_role("status").first).to_contain_text("jobfac start export --argument --part")
    window.complaints = [one for one in window.complaints if "422" not in one]


def test_a_page_listens_for_changes_again_after_the_output(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open("/fleet")
    end = "event: end\ndata: {}\n\n"
    page.route("**/output*", lambda route: route.fulfill(content_type="text/event-stream", body=end))
    page.clock.install()
    with page.expect_request(lambda asked: asked.url.endswith("/live") and "/runs/" in asked.frame.url):
        page.goto(f"{page.url.partition('/fleet')[0]}/runs/{shared[1].running}")
        expect(page.locator("#livemark")).to_have_text("It wrote nothing.")
        page.clock.fast_forward(5000)


def test_stop_asks_and_names_the_job(window: Window, shared: tuple[Served, Stage]) -> None:
    served, _ = shared
    run_id = start(served.db, "unwanted")
    page = window.open(f"/runs/{run_id}")
    page.keyboard.press("s")
    ask = page.locator(f"#stop-{run_id}")
    expect(ask).to_contain_text(f"Stop run {run_id} of unwanted?")
    expect(ask).to_contain_text(f"jobfac stop {run_id}")
    page.keyboard.press("Escape")
    expect(ask).not_to_be_visible()
    page.keyboard.press("s")
    ask.get_by_role("button", name="Stop politely").click()
    expect(page.get_by_role("status").first).to_contain_text(f"Run {run_id} of unwanted was queued and is now stopped.")


def test_the_graph_leads_to_the_failed_step(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open(f"/runs/{shared[1].sequence}")
    page.locator("#graph a:has(.node.failure)").click()
    expect(page.locator("h1")).to_contain_text("of broken")
    expect(page.locator("#facts")).to_contain_text("exit code 3")
    page.go_back()
    page.get_by_role("link", name="at step extract").click()
    expect(page.get_by_label("Begin with step")).to_have_value("")
    page.get_by_label("Begin with step").select_option("close")
    page.get_by_role("button", name="Start month-end").click()
    expect(page.get_by_role("status").first).to_contain_text("jobfac start month-end --from-step close")


def test_pause_a_schedule_and_drain_a_worker(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open("/jobs/export")
    page.get_by_role("button", name="Pause…").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").first).to_contain_text("Schedule nightly of export is paused.")
    page.get_by_role("button", name="Resume").click()
    page = window.open("/jobs?q=quiet")
    page.get_by_role("button", name="Disable quiet").click()
    expect(page.locator("#switch")).to_contain_text("jobfac jobs disable quiet")
    page.locator("#switch").get_by_role("button", name="Disable").click()
    expect(page.get_by_role("status").first).to_contain_text("Job quiet takes no more starts")
    page.get_by_role("button", name="Enable quiet").click()
    page = window.open("/fleet")
    page.get_by_role("button", name="Drain…").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Drain").click()
    expect(page.locator("table .state.draining")).to_be_visible()


def test_a_viewer_has_no_buttons(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    with Window(chromium, served, Role.VIEWER) as window:
        for path in ("/", "/runs", f"/runs/{stage.running}", "/jobs/export", "/fleet", "/notifications"):
            page = window.open(path)
            words = page.locator("#page button").all_inner_texts()
            assert not [word for word in words if re.match(r"Retry|Stop|Start|Pause|Drain|Disable|Deliver", word)], path


def test_an_open_page_hears_of_changes_but_not_while_text_is_selected(
    window: Window, shared: tuple[Served, Stage]
) -> None:
    served, _ = shared
    page = window.open("/runs?job=slow")
    rows = page.locator("[data-row]")
    number = rows.count()
    page.wait_for_timeout(300)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    start(served.db, "slow")
    waiting = page.locator("#counts a", has_text="waiting")
    before = waiting.inner_text()
    expect(page.locator("#changed")).to_be_visible()
    expect(waiting).not_to_have_text(before)
    expect(rows).to_have_count(number)
    page.evaluate("getSelection().removeAllRanges()")
    expect(rows).to_have_count(number + 1)
    expect(page.locator("#changed")).to_be_hidden()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    start(served.db, "slow")
    page.locator("#changed").click()
    expect(rows).to_have_count(number + 2)


def test_a_page_that_nobody_has_touched_for_a_minute_is_read_again(
    window: Window, shared: tuple[Served, Stage]
) -> None:
    served, _ = shared
    page = window.open("/runs?job=slow")
    rows = page.locator("[data-row]")
    number = rows.count()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    start(served.db, "slow")
    expect(page.locator("#changed")).to_be_visible()
    page.evaluate("const now = Date.now; Date.now = () => now() + 61000")
    expect(rows).to_have_count(number + 1)


def test_a_page_says_that_the_database_does_not_answer(
    window: Window, shared: tuple[Served, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(live, "SILENT", 0.5)
    monkeypatch.setattr(live, "BEAT", 0.5)
    real = counts.fingerprint

    def wait(conn: sa.Connection) -> object:
        answers.wait()
        return real(conn)

    page = window.open("/runs?job=slow")
    monkeypatch.setattr(counts, "fingerprint", wait)
    try:
        expect(page.locator("#offline")).to_contain_text("The database does not answer. The page shows what was at ")
    finally:
        answers.set()
    expect(page.locator("#offline")).to_be_hidden()


def test_a_page_whose_session_is_over_leads_to_the_login(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    with Window(chromium, shared[0]) as window:
        page = window.open("/runs?job=slow")
        page.context.clear_cookies()
        page.evaluate("disconnect(); connect()")
        expect(page).to_have_url(re.compile("/login"))
        window.complaints = [one for one in window.complaints if "401" not in one]


def test_a_page_is_read_again_after_the_clock_of_its_browser_was_set_back(window: Window) -> None:
    now = time.time()
    window.page.clock.install(time=now + 3600)
    page = window.open("/runs?job=slow")
    with page.expect_response(f"{window.served.url}/runs?job=slow"):
        page.evaluate("change()")
    page.clock.set_system_time(now)
    with page.expect_response(f"{window.served.url}/runs?job=slow"):
        page.evaluate("change()")
    expect(page.locator("time[data-ago]").first).to_contain_text(" ago")


def test_a_page_is_read_again_though_nothing_changes(window: Window) -> None:
    """What is dead sends no change."""
    window.page.clock.install()
    page = window.open("/runs?job=slow")
    with page.expect_response(f"{window.served.url}/runs?job=slow"):
        page.clock.fast_forward(31_000)


def test_the_server_goes_away_and_comes_back(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, _ = shared
    with Served(served.db, served.settings) as first:
        window = Window(chromium, first)
        window.__enter__()
        page = window.open("/runs?job=unwanted")
        rows = page.locator("[data-row]")
        number = rows.count()
        page.wait_for_timeout(300)
        port = first.server.port
    expect(page.locator("#offline")).to_be_visible()
    start(served.db, "unwanted")
    with Served(served.db, replace(served.settings, api_port=port)):
        expect(page.locator("#offline")).not_to_be_visible()
        expect(rows).to_have_count(number + 1)
        window.__exit__(None, None, None)


def test_the_keys_are_listed(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open("/jobs")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("month-end")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("month-end")
    with shared[0].db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one() > 0


def test_a_list_to_which_the_browser_returns_has_no_ticks(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    """The browser would put them at the same places, where other runs may stand by then."""
    served, _ = shared
    with Window(chromium, served) as window:
        page = window.open("/runs")
        page.locator("input[name=run]").nth(1).check()
        page.locator("a[data-open]").nth(2).click()
        expect(page.locator("h1")).to_contain_text("Run ")
        start(served.db, "export")
        page.go_back()
        expect(page.locator(".bulk")).to_be_attached()
        assert page.locator("input[name=run]:checked").count() == 0
