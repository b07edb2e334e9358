"""What a browser sends to the pages: no input is a fault of the server, and none leads to another site."""

import io
import itertools
import socket
from typing import Any

import pytest

from jobfac.reports.table import write_csv
from tests.support.api_stage import Served

HUGE = "9" * 5000
LARGE = "9" * 25


NUMBERED = (
    "/runs?sequence=", "/runs?below=", "/runs/1?attempt=", "/timeline/load?days=", "/reports?days=", "/audit?below=",
    "/notifications?below=", "/search?q=", "/jobs/job?version=", "/jobs/job/start?like=",
)  # fmt: skip


def test_a_number_that_is_none_is_no_fault_of_the_server(served: Served) -> None:
    served.define("job", command=["true"])
    served.operator.post("/v1/jobs/job/runs").raise_for_status()
    for path, number in itertools.product(NUMBERED, (HUGE, LARGE, "٣", "-1")):
        answer = served.admin.get(path + number, headers={"Accept": "text/html"})
        assert answer.status_code < 500, f"{path}{number[:30]}"


@pytest.mark.parametrize("path", ["/runs", "/jobs", "/audit", "/search", "/timeline"])
def test_a_text_to_look_for_may_be_as_long_as_databases_allow(served: Served, path: str) -> None:
    """SQLite refuses a pattern of more than 50,000 characters, and SQL Server one of more than 4,000."""
    served.define("job")
    answer = served.admin.get(path, params={"q": "%" * 1000}, headers={"Accept": "text/html"}, follow_redirects=True)
    assert answer.status_code == 200
    answer = served.admin.get(path, params={"q": "a" * 50_001}, headers={"Accept": "text/html"})
    assert answer.status_code in (200, 422)  # a page shows the problem beside its filter
    assert "may have 1,000 characters, not 50,001" in answer.text


def test_a_form_that_cannot_be_used_is_refused(served: Served) -> None:
    served.define("job", command=["true"])
    for path, form in (
        ("/jobs/job/start", {"priority": "--5"}),
        ("/jobs/job/start", {"priority": HUGE}),
        ("/jobs/job/start", {"arguments": "a\0b"}),
        ("/jobs/job/rollback", {"version": HUGE}),
        ("/notifications/requeue", {"id": HUGE}),  # without an id it would concern all
        ("/notifications/requeue", {"id": "all"}),
    ):
        assert served.admin.post(path, data=form).status_code in (400, 422), f"{path} {form!s:.50}"


def test_no_form_sets_another_cookie_or_leads_to_another_site(served: Served) -> None:
    for theme in ("☃", "dark\r\nX: 1", "x" * 100_000):
        answer = served.viewer.post("/theme", data={"theme": theme})
        assert (answer.status_code, answer.headers["set-cookie"].partition(";")[0]) == (303, 'jobfac-theme=""')
    for page in ("//evil.example/x", "/\\evil.example", "//evil.example?q=1"):
        for answer in (
            served.viewer.post("/theme", data={"theme": "dark", "back": page}),
            served.viewer.post("/theme", data={"theme": "dark"}, headers={"Referer": served.url + page}),
        ):
            assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_request_with_two_lengths_is_refused_and_what_follows_it_is_not_read(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with socket.create_connection((host, int(port)), 10) as connection:
        first = f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\n{both}"
        second = f"GET /openapi.json HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        connection.sendall((first + second).encode())  # together: what comes after the close resets the connection
        received = b""
        while data := connection.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(1)", "'@SUM(1)"),
        ("+1+cmd", "'+1+cmd"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("-my.job_2", "-my.job_2"),
        ("exit code 3", "exit code 3"),
        (-1.5, "-1.5"),
    ],
)
def test_no_text_of_a_report_is_a_formula(text: object, written: str) -> None:
    file = io.StringIO()
    write_csv(file, ["reason"], [{"reason": text, "other": 1}], "\n")
    assert file.getvalue() == f"reason\n{written}\n"


@pytest.mark.parametrize("step", [{"approve": {"by": "admin"}}, {"wait": {"duration": "1h"}}])
def test_the_pages_of_a_sequence_that_waits_are_shown(served: Served, step: dict[str, Any]) -> None:
    served.admin.put("/v1/jobs/waits", json={"steps": [{"name": "stand", **step}]}).raise_for_status()
    run = served.start("waits")
    for path in ("/jobs/waits", "/jobs/waits/start", f"/runs/{run}"):
        assert served.admin.get(path, headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.parametrize(
    "payload",
    ["[" * 100_000, "[" * 600 + "]" * 600, '{"a":' * 800 + "1" + "}" * 800, '["\\ud800"]', '{"\\udc00": 1}'],
    ids=["open", "deep", "deep objects", "half of a character", "half in a name"],
)
def test_a_payload_that_is_hardly_json_does_not_break_the_page_of_its_run(served: Served, payload: str) -> None:
    served.define("a")
    run = served.start("a", payload=payload)
    assert served.admin.get(f"/runs/{run}", headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.parametrize("entries", [10_000, 100_000])
def test_a_deep_payload_does_not_grow_a_thousandfold_on_the_page_of_its_run(served: Served, entries: int) -> None:
    """With 400,000 entries the page had 241 MB, and took 1.3 GB and a minute and a half of the API."""
    served.define("a")
    payload = "[" * 300 + "0," * entries + "0" + "]" * 300
    run = served.start("a", payload=payload)
    page = served.admin.get(f"/runs/{run}", headers={"Accept": "text/html"})
    assert payload in page.text
    assert len(page.text) < 2 * len(payload) + 50_000


def test_a_deep_text_of_a_parameter_is_refused(served: Served) -> None:
    served.define("a", parameters={"day": {"type": "text", "many": True}}, arguments=["${day}"])
    answer = served.operator.post("/v1/jobs/a/runs", json={"parameters": {"day": "[" * 100_000}})
    assert answer.status_code == 422
