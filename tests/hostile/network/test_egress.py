"""Notifications reach no metadata service by any address, start no program, and cannot inject a request."""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobfac.channels import DeliveryError, Message, deliver, egress, webhook
from jobfac.database.engine import Database
from jobfac.definitions import DefinitionError, Recipient, Secret, read_notify
from jobfac.scheduler import asker as asker_module
from jobfac.scheduler.asker import AT_A_TIME, SHARE, Asker
from jobfac.settings import Settings
from jobfac.store.sequences import WaitingVisit
from tests.support.api_stage import Served
from tests.support.factory import wait_for
from tests.support.receivers import receiving

MESSAGE = Message("7.1.failed.abc", "failed", {"id": 7, "job": "a", "state": "failed", "event": "failed"})

APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def failure(to: dict[str, Any], settings: Settings | None = None) -> str:
    with pytest.raises(DeliveryError) as caught:
        deliver(MESSAGE, Recipient.model_validate(to), settings or Settings())
    return str(caught.value)


def test_an_error_names_no_host_of_a_secret_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE_HOOK", "http://token-abc.localhost.invalid/x")
    assert failure({"webhook": {"secret": "env:HOSTILE_HOOK"}}).startswith("the host env:HOSTILE_HOOK cannot be found")
    with pytest.raises(DeliveryError, match=r"^the host env:HOSTILE_HOOK cannot be found"):
        webhook.ask(Secret(secret="env:HOSTILE_HOOK"), Settings())


@pytest.fixture
def redirecting() -> Iterator[int]:
    """The port of a server that redirects every request to the metadata service."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(307)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@APPRISE
@pytest.mark.parametrize(
    "url",
    [
        "gotify://169.254.169.254/token",
        "ntfy://169.254.169.254/topic",
        "rocket://user:password@169.254.169.254/#channel",
        "mmost://169.254.169.254/abcdefghijklmnopqrstuvwx",
        "mailto://user:password@169.254.169.254?to=a@b.org",
        "json://169.254.169.254/",
    ],
)
def test_no_service_reaches_a_metadata_address(url: str) -> None:
    assert failure({"apprise": url}).startswith("it leads to 169.254.169.254, a link-local or metadata address; set")


@APPRISE
def test_a_redirect_to_a_metadata_address_is_refused(redirecting: int) -> None:
    error = failure({"apprise": f"json://127.0.0.1:{redirecting}/?redirect=yes"})
    assert error.startswith("it leads to 169.254.169.254, a link-local or metadata address")
    assert failure({"webhook": f"http://127.0.0.1:{redirecting}/"}).endswith("redirects are not followed")


@APPRISE
def test_a_name_that_resolves_to_a_metadata_address_the_second_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is simulated, because there is no such name server here."""
    real, asked = socket.getaddrinfo, []

    def play(host: Any, *more: Any, **named: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            host = "169.254.169.254"
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", play)
    assert "leads to 169.254.169.254" in failure({"apprise": "json://rebinding.example/"})
    assert asked


@APPRISE
def test_a_setting_refuses_private_addresses() -> None:
    strict = Settings(webhook_allow_private=False)
    with receiving() as receiver:
        place = f"127.0.0.1:{receiver.port}"
        assert "127.0.0.1, a loopback or private address; set webhook_allow_private" in failure(
            {"webhook": f"http://{place}/"}, strict
        )
        assert "127.0.0.1, a loopback or private address" in failure({"apprise": f"json://{place}/"}, strict)
        assert receiver.posts == []
        deliver(MESSAGE, Recipient.model_validate({"apprise": f"json://{place}/"}), Settings())
        assert len(receiver.posts) == 1
    for address in ("10.0.0.1", "192.168.1.1", "[::1]", "[fd12::1]", "0.0.0.0", "100.64.0.1", "[::ffff:10.0.0.1]"):
        assert "a loopback or private address" in failure({"webhook": f"http://{address}/"}, strict)


@APPRISE
@pytest.mark.parametrize(
    "url", ["syslog://x", "dbus://x", "xmpp://u:p@host", "rsyslog://169.254.169.254", "nosuch://x"]
)
def test_only_allowed_services_are_used(url: str) -> None:
    scheme = url.partition(":")[0]
    assert failure({"apprise": url}) == (
        f"{scheme}:// is not among the allowed services; add it to apprise_schemes where the scheduler runs"
    )


@pytest.mark.parametrize("way", ["sendto", "sendmsg"])
def test_the_rule_applies_to_datagrams(way: str) -> None:
    place = ("169.254.0.1", 514)
    refused = pytest.raises(DeliveryError, match=r"leads to 169\.254\.0\.1")
    with socket.socket(type=socket.SOCK_DGRAM) as sender, refused, egress.guarded(Settings()):
        sender.sendto(b"x", place) if way == "sendto" else sender.sendmsg([b"x"], (), 0, place)


def test_a_channel_starts_no_program_and_no_thread() -> None:
    acts: list[Callable[[], Any]] = [lambda: subprocess.run(["true"], check=True), lambda: os.system("true")]
    if sys.version_info >= (3, 12):  # earlier versions of the interpreter do not report new threads
        acts.append(lambda: threading.Thread(target=print).start())
    for act in acts:
        with pytest.raises(DeliveryError, match="would start a program or a thread"), egress.guarded(Settings()):
            act()
    subprocess.run(["true"], check=True)  # the rule has ended


def test_the_rule_does_not_apply_to_other_threads() -> None:
    with receiving() as receiver, egress.guarded(Settings(webhook_allow_private=False)):
        pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert receiver.posts == []


@pytest.mark.parametrize("name", ["Transfer-Encoding", "content-length", "Connection", "TE", "Upgrade", "a b", "a\nb"])
def test_a_header_cannot_change_the_framing_of_a_webhook(name: str) -> None:
    entry = {"on": ["failed"], "to": {"webhook": "http://hook.example/", "headers": {name: "chunked"}}}
    with pytest.raises(DefinitionError, match="must"):
        read_notify([entry])


def test_the_address_of_a_recipient_is_short(served: Served) -> None:
    """Of four million characters, the mail took a day to compose, and one of the notifier's threads."""
    served.define("a")
    entry = {"on": ["failed"], "to": {"email": '"("' * 1000 + "@example.org"}}
    answer = served.operator.post("/v1/jobs/a/runs", json={"notify": [entry]})
    assert (answer.status_code, "at most 320 characters, not of 3,012" in answer.json()["detail"]) == (422, True)


@pytest.fixture
def dripping() -> Iterator[int]:
    """The port of a server that sends a byte of a header every 50 ms and never comes to an end."""
    yield from _dripping(b"HTTP/1.1 200 OK\r\nX: ")


@pytest.fixture
def dripping_mail() -> Iterator[int]:
    """The same as a mail server that has greeted."""
    yield from _dripping(b"220 mail.example\r\n250-")


def _dripping(beginning: bytes) -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(beginning)
            while not ended.wait(0.05):
                connection.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    ended.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_a_mail_server_that_sends_a_byte_now_and_then_is_given_up(
    dripping_mail: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "SECONDS", 0.5)
    settings = Settings(smtp_host="127.0.0.1", smtp_port=dripping_mail, smtp_tls="none")
    assert "it took longer than 0.5 s" in failure({"email": ["a@example.org"]}, settings)


@APPRISE
@pytest.mark.parametrize("to", [{"webhook": "http://127.0.0.1:{}/"}, {"apprise": "json://127.0.0.1:{}/"}])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    dripping: int, monkeypatch: pytest.MonkeyPatch, to: dict[str, str]
) -> None:
    monkeypatch.setattr(egress, "SECONDS", 0.5)
    before = set(Path("/dev/fd").iterdir())
    assert failure({kind: url.format(dripping) for kind, url in to.items()}) == "it took longer than 0.5 s"
    assert len(set(Path("/dev/fd").iterdir()) - before) <= 2  # the server's side


def test_an_address_that_does_not_answer_is_asked_once_at_a_time(
    dripping: int, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "SECONDS", 30.0)
    db = Database(sqlite_url)
    asker = Asker(db, Settings(), "s1")
    slow, other = (
        WaitingVisit(visit, 1, "step", json.dumps({"http": f"http://127.0.0.1:{port}/", "every": 1.0}))
        for visit, port in ((1, dripping), (2, 1))
    )
    for _ in range(AT_A_TIME):
        asker.ask([slow])
    assert asker.free == AT_A_TIME - 1
    asker.ask([other])
    wait_for(lambda: asker.free == AT_A_TIME - 1, "the other address was asked")
    db.close()


@contextlib.contextmanager
def endless(*said: bytes) -> Iterator[tuple[int, list[int]]]:
    """A server that says each of these texts once, the last one for ever. Yields its port, and how much it has sent."""
    listening = socket.create_server(("127.0.0.1", 0))
    sent = [0]

    def serve() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as client:
            for text in said[:-1]:
                client.sendall(text)
                client.recv(65536)
            while True:
                sent[0] += client.send(said[-1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], sent
    listening.close()
    thread.join(10)


@APPRISE
@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("json", [b"", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536]),
        ("json", [b"", b"HTTP/1.1 307 Go\r\nLocation: /\r\n\r\n" + b"x" * 65536]),
        ("mailto", [b"220-" + b"x" * 1000 + b"\r\n"]),
        ("mailto", [b"220 here\r\n", b"250-" + b"x" * 1000 + b"\r\n"]),
    ],
    ids=["answer", "redirect", "greeting", "reply"],
)
def test_an_endless_answer_is_not_kept_in_memory(scheme: str, said: list[bytes]) -> None:
    """An operator may name the receiver, and the scheduler's memory is that of all its notifications."""
    with endless(*said) as (port, sent):
        options = "?to=a@b.org&from=a@b.org&mode=insecure" if scheme == "mailto" else "?redirect=yes"
        error = failure({"apprise": f"{scheme}://u:p@127.0.0.1:{port}/{options}"})
    assert error == "its answer is longer than 1,048,576 bytes"
    assert sent[0] < 2**25  # what the kernel's buffers hold is not read


def waiting(number: int, address: str) -> WaitingVisit:
    return WaitingVisit(number, 1, "step", json.dumps({"http": address, "every": 30}))


def test_a_host_that_hangs_has_a_share_of_the_requests(
    sqlite_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, asked = threading.Event(), queue.SimpleQueue[str]()

    def hang(address: str, settings: Settings) -> None:
        asked.put(address)
        go_on.wait(20)
        raise DeliveryError("it hangs")

    monkeypatch.setattr(webhook, "ask", hang)
    db = Database(sqlite_url)
    asker = Asker(db, settings, "s")
    asker.ask(waiting(number, f"http://slow/{number}") for number in range(AT_A_TIME))
    asker.ask([waiting(100, "http://other/")])
    hosts = Counter(asked.get(timeout=10).split("/")[2] for _ in range(SHARE + 1))
    assert (hosts, asker.free) == ({"slow": SHARE, "other": 1}, AT_A_TIME - SHARE - 1)
    go_on.set()
    wait_for(lambda: asked.qsize() == AT_A_TIME - SHARE, "those that waited for the host have been asked, too")
    wait_for(lambda: asker.free == AT_A_TIME, "nothing is under way")
    go_on.clear()
    monkeypatch.setattr(asker_module, "SLOW", 0.0)
    asker.ask([waiting(101, "http://slow/")])
    go_on.set()
    wait_for(lambda: asker.free == AT_A_TIME, "it was slow")
    go_on.clear()
    asker.ask(waiting(200 + number, f"http://slow/{number}") for number in range(AT_A_TIME))
    assert asker.free == AT_A_TIME - 1, "one at a time"
    go_on.set()
    wait_for(lambda: asker.free == AT_A_TIME, "nothing is under way")
    db.close()
