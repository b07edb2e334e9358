"""The output of a run on its page, live and complete, in a real browser."""

import re
import time

from playwright.sync_api import expect

from jobfac.states import RunState
from jobfac.store import runs
from tests.roles.pages.browser.window import Window
from tests.roles.pages.stage import Stage, write
from tests.support.api_stage import Served
from tests.support.database import Hand, define, make_due, start


def test_follow_output_without_jumping_and_at_the_end(window: Window, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    for number in range(200):
        write(served.db, stage.running, f"line {number}\n")
    page = window.open(f"/runs/{stage.running}")
    log = page.locator(".log")
    expect(log).to_contain_text("line 199")
    log.evaluate("log => { log.scrollTop = 300; }")
    for number in range(1, 31):  # as fast as the lines arrive
        write(served.db, stage.running, f"more {number}\n")
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


def test_lines_that_are_not_shown_any_more_are_said(window: Window, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    page = window.open("/fleet")
    page.route(
        re.compile(r"/logs\.js"), lambda route: route.fulfill(response=route.fetch(), body=few(route.fetch().text()))
    )
    write(served.db, stage.running, "".join(f"numbered {number}\n" for number in range(50)))
    page.goto(f"{page.url.rpartition('/')[0]}/runs/{stage.running}")
    expect(page.locator(".log .cut").first).to_contain_text("earlier lines are not shown here")
    assert page.locator(".log .ln").count() <= 20
    page.get_by_label("Search in the output").fill("numbered 1")
    expect(page.locator("[data-log=hits]")).to_have_text("0 found in the lines shown")


def few(script: str) -> str:
    """The script, with fewer lines that it shows at most."""
    assert "MOST = 50000" in script
    return script.replace("MOST = 50000", "MOST = 20")


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


def test_a_page_that_was_open_before_the_run_began_says_what_came_of_it(
    window: Window, shared: tuple[Served, Stage]
) -> None:
    """It said that the output will come, had no attempts, and its links led to the first one."""
    db = shared[0].db
    define(db, again={"pool": "again", "retry": {"attempts": 2}})
    run_id = start(db, "again")
    page = window.open(f"/runs/{run_id}")
    expect(page.locator("#output-head")).to_contain_text("will come when the run has started")
    expect(page.locator("#attempts")).to_be_hidden()
    hand = Hand(db, "again", pools=["again"])
    hand.end(hand.claim(1, ("again",))[0], RunState.FAILED, retry_after=0.0)
    make_due(db)
    db.transact(runs.promote_due, "s1")
    hand.end(hand.claim(1, ("again",))[0], outputs={"rows": 7})
    page.evaluate("read()")
    expect(page.locator("#attempts tbody tr")).to_have_count(2)
    expect(page.locator("#output-head")).not_to_contain_text("will come")
    expect(page.locator("#input")).to_contain_text('"rows": 7')
    links = [one.get_attribute("href") for one in page.locator("#downloads a").all()]
    assert all(link and "attempt=2&" in link for link in links)


def test_a_note_that_is_being_written_does_not_hide_the_end_of_the_run(
    window: Window, shared: tuple[Served, Stage]
) -> None:
    """The page said "running" for as long as the note was not sent."""
    db = shared[0].db
    define(db, noted={"pool": "noted"})
    run_id, hand = start(db, "noted"), Hand(db, "noted", pools=["noted"])
    (claimed,) = hand.claim(1, ("noted",))
    page = window.open(f"/runs/{run_id}")
    expect(page.locator("h1")).to_contain_text("running")
    page.fill("#note", "I look at it")
    hand.end(claimed, RunState.FAILED)
    page.evaluate("change()")
    expect(page.locator("h1")).to_contain_text("failed")
    expect(page.locator("#note")).to_have_value("I look at it")
