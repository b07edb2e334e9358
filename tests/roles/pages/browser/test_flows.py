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
from tests.roles.pages.stage import Stage, write
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


def test_follow_output_without_jumping_and_at_the_end(window: Window, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    for number in range(200):
        write(served.db, stage.running, f"line {number}\n")
    page = window.open(f"/runs/{stage.running}")
    log = page.locator(".log")
    expect(log).to_contain_text("line 199")
    log.evaluate("log => { log.scrollTop = 300; }")
    end, number = time.monotonic() + 3, 0
    while time.monotonic() < end or number < 30:  # as fast as the lines arrive, for three seconds
        write(served.db, stage.running, f"more {number}\n")
        number += 1
        expect(page.locator("#news")).to_have_text(f"{number} new line{'' if number == 1 else 's'} ↓")
        assert log.evaluate("log => log.scrollTop") == 300
    page.locator("#news").click()
    taken, at_end = [], "log => log.scrollHeight - log.scrollTop - log.clientHeight < 4"
    for number in range(3):  # the best counts: the machine may be busy with other tests
        began = time.monotonic()
        write(served.db, stage.running, f"\x1b[31mlast line {number}\x1b[0m\n", "stderr")
        expect(log.locator(".stderr .f1").last).to_have_text(f"last line {number}")
        window.until(lambda: log.evaluate(at_end), "at the end")
        taken.append(time.monotonic() - began)
    assert min(taken) < 1.0
    page.get_by_label("Search in the output").fill("line 19")
    expect(page.locator("[data-log=hits]")).to_have_text("11 found")
    page.get_by_label("Go to line").fill("7")
    page.get_by_label("Go to line").press("Enter")
    expect(log.locator(".at")).to_have_text("7line 6")
    page.get_by_label("Stream").select_option("stderr")
    expect(log.locator(".ln:visible")).to_have_count(3)
    page.goto(page.url.partition("#")[0] + "#L120")
    page.reload()
    expect(log.locator(".at")).to_contain_text("line 119")


def test_output_is_read_again_after_the_answer_of_a_proxy(window: Window, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    page = window.open(f"/runs/{stage.failed}")
    page.route("**/output*", lambda route: route.fulfill(status=502))
    page.goto(f"{page.url.rpartition('/')[0]}/{stage.running}")
    expect(page.locator("#livemark")).to_have_text("The output cannot be read; trying again.")
    page.unroute("**/output*")
    expect(page.locator("#livemark")).to_have_text("live")
    write(served.db, stage.running, "the first line after it\n")
    expect(page.locator(".log")).to_contain_text("the first line after it")
    window.complaints.clear()  # the browser's own about the answer


def test_a_line_that_returns_to_its_start_stays_until_it_is_drawn_over(
    window: Window, shared: tuple[Served, Stage]
) -> None:
    served, stage = shared
    page = window.open(f"/runs/{stage.running}")
    expect(page.locator("#livemark")).to_have_text("live")
    for text, shown in (
        ("copied 10 %\r", "copied 10 %"), ("3 files FAILED\r", "3 files FAILED"), ("\nERROR\r", "ERROR"),
        ("\n1 %\r2 %", "2 %"), ("\r", "2 %"), ("\r\nend\r\n", "end"),
    ):  # fmt: skip
        write(served.db, stage.running, text)
        expect(page.locator(".ln span").last).to_have_text(shown)
    assert page.locator(".ln span").all_inner_texts()[-4:] == ["3 files FAILED", "ERROR", "2 %", "end"]


def test_a_page_listens_for_changes_again_after_the_output(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open("/fleet")
    end = "event: end\ndata: {}\n\n"
    page.route("**/output*", lambda route: route.fulfill(content_type="text/event-stream", body=end))
    page.clock.install()
    with page.expect_request(lambda asked: asked.url.endswith("/live") and "/runs/" in asked.frame.url):
        page.goto(f"{page.url.partition('/fleet')[0]}/runs/{shared[1].running}")
        expect(page.locator("#livemark")).to_have_text("It wrote nothing.")
        page.clock.fast_forward(5000)


def test_windows_with_live_output_leave_connections_for_others(window: Window, shared: tuple[Served, Stage]) -> None:
    """A browser holds six connections to one server for all its windows."""
    page = window.open(f"/runs/{shared[1].running}")
    others = [page.context.new_page() for _ in range(3)]
    for one in others:
        one.goto(page.url)
        expect(one.locator("#livemark")).to_have_text("live")
    last = page.context.new_page()
    last.goto(f"{page.url.partition('/runs')[0]}/fleet", timeout=10_000)
    expect(last.locator("h1")).to_have_text("Fleet")
    for one in (*others, last):
        one.close()


def test_what_a_program_says_stays_text(window: Window, shared: tuple[Served, Stage]) -> None:
    page = window.open(f"/runs/{shared[1].failed}")
    expect(page.locator(".log")).to_contain_text('<script>alert("x")</script>red')
    assert page.locator(".log script, .log a[href^=http]").count() == 0
    assert "\x1b" not in page.locator(".log").inner_text()


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
    expect(page.get_by_role("status").first).to_contain_text("Job quiet starts nothing more")
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
