"""A window of a real browser that is logged in, and that notes every complaint of the page."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect

from jobfac.store.api_keys import Role
from tests.support.api_stage import Served

AXE = Path(__file__).with_name("axe.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]

expect.set_options(timeout=8_000)


class Window:
    """A context of its own. ``complaints``: errors of the console, violations of the policy, dialogs."""

    def __init__(self, chromium: Chromium, served: Served, role: Role = Role.OPERATOR, **options: Any) -> None:
        self.served = served
        self.complaints: list[str] = []
        self.role = role
        options = {
            "viewport": {"width": 1280, "height": 800},
            "timezone_id": "Europe/Berlin",
            "reduced_motion": "reduce",  # what moves is painted sixty times a second
            **options,
        }
        self._context = chromium.new_context(**options)
        self._context.set_default_timeout(8_000)
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda said: self._complain(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _complain(self, kind: str, text: str) -> None:
        # A server that goes away is part of a test, and the browser says so itself.
        if kind in ("error", "warning") and "ERR_" not in text:
            self.complaints.append(text)

    def __enter__(self) -> "Window":
        # By a request of this context, without the two pages; test_log_in_by_key_and_by_link types a key.
        form: dict[str, Any] = {"key": self.served.keys[self.role]}
        answer = self._context.request.post(f"{self.served.url}/login", form=form, max_redirects=0)
        assert answer.status == 303
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._context.close()
        assert kind is not None or self.complaints == []

    def open(self, path: str) -> Page:
        """Go to a page."""
        self.page.goto(self.served.url + path)
        return self.page

    def axe(self, *only: str) -> list[str]:
        """What axe finds on the page; ``only`` these rules, if any are given."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        run_only = {"type": "rule", "values": list(only)} if only else {"type": "tag", "values": RULES}
        # Axe spends half its time on the selectors of what it finds in order.
        options = {"runOnly": run_only, "resultTypes": ["violations"], "selectors": False}
        found = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 8.0) -> None:
        """Wait for something that the page cannot say by an element."""
        for _ in range(int(seconds * 20)):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"not within {seconds} s: {what}")
