"""What an operator may name as a receiver, and what the receiver does, occupies no notifier and reads no file."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import apprise as library
import pytest

from jobfac.channels import DeliveryError, apprise, deliver, egress
from jobfac.definitions import Recipient
from jobfac.definitions.notify import chooses_request
from jobfac.settings import Settings
from tests.hostile.network.test_egress import APPRISE, MESSAGE, endless, failure


@pytest.fixture
def busy() -> Iterator[int]:
    """The port of a server that is busy for the next eleven days."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = json.dumps({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 10**9}).encode()
            self.send_response(429)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@APPRISE
def test_a_receiver_that_asks_for_a_long_pause_is_given_up(busy: int) -> None:
    url = f"matrix://u:p@127.0.0.1:{busy}/%23room?discovery=no"
    assert failure({"apprise": url}) == f"it took longer than {egress.SECONDS:g} s"


@APPRISE
def test_pauses_between_many_targets_end_with_the_time_of_the_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "SECONDS", 0.5)
    topics = "/".join(f"t{number}" for number in range(1000))
    assert failure({"apprise": f"ntfy://127.0.0.1:1/{topics}"}) == "it took longer than 0.5 s"


TEMPLATED = (
    "tgram://123456789:abcdefg_hijklmnop/12345/",
    f"discord://{'0' * 18}/{'a' * 68}/",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23general/",
    "workflow://host/workflow/signature/",
)


@APPRISE
@pytest.mark.parametrize("url", TEMPLATED)
def test_a_recipient_of_a_start_reads_no_files(url: str, tmp_path: Path) -> None:
    """A template is read where the scheduler runs, and its content is sent to the recipient."""
    assert not apprise.reads_files(library.Apprise.instantiate(url))
    for place in (tmp_path / "card.json", "http://127.0.0.1/card.json", "%2Fproc%2Fkmsg"):
        named = f"{url}?%54emplate={place}"
        assert "names a file to read" in failure({"apprise": named})
        assert apprise.reads_files(library.Apprise.instantiate(named))


ASKED = (
    "method=PUT", "METHOD=%20put", "a=1;method=GET", "%6Dethod=DELETE", "method=POST", "method=", "+X-Token=1",
    "+Host=a", "+X+Token=1", "+%54E=1", "host=a", "-Host=a", ":Host=a", "format=text&+Content-Length%20=1", "+=1", "",
)  # fmt: skip


@APPRISE
@pytest.mark.parametrize("scheme", ["json", "xmls", "form", "JSON"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_definition_is_refused_if_its_recipient_would_be(asked: str, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:9/place?{asked}"
    assert chooses_request(url) != apprise.only_posts(library.Apprise.instantiate(url))


@APPRISE
@pytest.mark.parametrize("scheme", ["json", "xml", "form"])
def test_a_recipient_of_a_start_only_posts(scheme: str) -> None:
    """An operator could delete an index in a service that trusts the scheduler."""
    for asked in ("method=DELETE", "method=get", "+Transfer-Encoding=chunked", "+hOST=other", "+TE=x", "+TE%20=x"):
        url = f"{scheme}://127.0.0.1:9/place?{asked}"
        assert "chooses the method or the framing of the request" in failure({"apprise": url})
    assert apprise.only_posts(library.Apprise.instantiate(f"{scheme}://127.0.0.1:9/place?+X-Token=1"))


def test_an_endless_answer_of_the_mail_server_is_not_kept_in_memory() -> None:
    with endless(b"220 here\r\n", b"250-" + b"x" * 1000 + b"\r\n") as (port, sent):
        settings = Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none")
        error = failure({"email": ["a@example.org"]}, settings)
    assert error == "its answer is longer than 1,048,576 bytes"
    assert sent[0] < 2**25


@APPRISE
@pytest.mark.parametrize(
    "url",
    [TEMPLATED[2] + "%23other/", "tgram://123456789:abcdefg_hijklmnop/1/2", "mailto://u:p@h.org?to=a@x.org&cc=c@x.org"],
)
def test_a_url_of_a_start_has_one_recipient(url: str) -> None:
    message = MESSAGE._replace(by_start=True)
    settings = Settings(webhook_allow_private=False)
    with pytest.raises(DeliveryError, match="URL has 2 recipients, and one of a start has one: name a URL for each"):
        deliver(message, Recipient.model_validate({"apprise": url}), settings)
    assert all(apprise.targets(library.Apprise.instantiate(one)) == 1 for one in TEMPLATED)


@APPRISE
def test_a_url_that_takes_long_to_read_is_refused() -> None:
    """The library took 37 s for 100,000 blanks in a phone number, in which the scheduler did nothing else."""
    before = time.thread_time()
    why = failure({"apprise": "signal://host/" + "%20" * 60_000 + "x"})
    assert why == "this signal:// URL has 180,015 characters, and 8,000 are the most"
    assert time.thread_time() - before < 1.0
