"""Every page in a real browser: no complaint, nothing for axe to find, no sideways scroll from 360 px on."""

from playwright.sync_api import Browser as Chromium

from tests.roles.pages.browser.window import Window
from tests.roles.pages.stage import Stage
from tests.support.api_stage import Served

PATHS = (
    "/", "/runs", "/runs?q=exit", "/runs/all?do=retry&q=exit",
    "/runs/{failed}", "/runs/{sequence}", "/jobs", "/jobs/export", "/jobs/export/start",
    "/jobs/month-end", "/timeline", "/timeline/load",
    "/fleet", "/reports", "/notifications", "/audit", "/guide/sequences",
    "/guide?q=lease", "/docs", "/login", "/nowhere",
)  # fmt: skip


def test_axe_finds_nothing(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    found: dict[tuple[str, str], list[str]] = {}
    with Window(chromium, served, color_scheme="light", bypass_csp=True) as window:
        for path in PATHS:
            page = window.open(path.format(**stage._asdict()))
            found[path, "light"] = window.axe()
            page.emulate_media(color_scheme="dark")
            found[path, "dark"] = window.axe("color-contrast")
            page.emulate_media(color_scheme="light")
        window.complaints = [one for one in window.complaints if "404" not in one]
    assert {where: problems for where, problems in found.items() if problems} == {}


def test_no_page_complains_or_scrolls_sideways(chromium: Chromium, shared: tuple[Served, Stage]) -> None:
    served, stage = shared
    with Window(chromium, served, viewport={"width": 360, "height": 740}, reduced_motion="no-preference") as window:
        for path in PATHS:
            page = window.open(path.format(**stage._asdict()))
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        page.set_viewport_size({"width": 580, "height": 740})  # with the heads of tables
        for path in ("/", "/jobs", "/fleet"):
            window.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 580, path
        window.complaints = [one for one in window.complaints if "404" not in one]


def test_a_browser_without_scripts_does_not_say_that_there_is_no_output(
    chromium: Chromium, shared: tuple[Served, Stage]
) -> None:
    served, stage = shared
    with Window(chromium, served, java_script_enabled=False) as window:
        page = window.open(f"/runs/{stage.failed}")
        expected = "Without JavaScript the output is not shown here; the links above download it."
        assert page.inner_text(".logfoot") == expected
