"""Webhooks: the posted request, the answers that count as delivered, and the refused addresses."""

import hashlib
import hmac
import ipaddress
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobfac.channels import DeliveryError, Message, addresses, deliver, shown, webhook
from jobfac.definitions import Recipient
from jobfac.settings import Settings
from tests.support.receivers import Receiver, receiving

MESSAGE = Message("7.1.failed.abc", "failed", {"id": 7, "job": "Ärger", "state": "failed", "event": "failed"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def send(url: str, settings: Settings | None = None, **more: Any) -> None:
    deliver(MESSAGE, Recipient.model_validate({"webhook": url, **more}), settings or Settings())


def failure(url: str, **more: Any) -> str:
    with pytest.raises(DeliveryError) as caught:
        send(url, **more)
    return str(caught.value)


def test_the_run_is_posted_as_json(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    headers = {"X-Own": "yes", "Authorization": {"secret": "env:HOOK_TOKEN"}, "jobfac-id": "not mine", "Host": "other"}
    send(f"{receiver.url}/hook?a=1", headers=headers)
    (post,) = receiver.posts
    assert post.path == "/hook?a=1"
    assert json.loads(post.body) == MESSAGE.body
    assert post.headers["content-type"] == "application/json"
    assert (post.headers["x-own"], post.headers["authorization"]) == ("yes", "t0ken")
    assert (post.headers["jobfac-id"], post.headers["jobfac-event"]) == ("7.1.failed.abc", "failed")
    assert post.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "jobfac-signature" not in post.headers


def test_a_header_of_the_connection_in_an_older_definition_is_not_sent(receiver: Receiver) -> None:
    to = Recipient.model_validate({"webhook": receiver.url})
    deliver(MESSAGE, to.model_copy(update={"headers": {"Trailer": "X", "Te": "gzip", "X-Own": "1"}}), Settings())
    (post,) = receiver.posts
    assert [post.headers.get(name) for name in ("trailer", "te", "x-own")] == [None, None, "1"]


def test_a_receiver_can_verify_the_signature(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", "k")
    send(receiver.url, secret="env:HOOK_KEY")
    (post,) = receiver.posts
    match = re.fullmatch(r"t=(\d+), v1=([0-9a-f]{64})", post.headers["jobfac-signature"])
    assert match is not None
    right = hmac.new(b"k", match[1].encode() + b"." + post.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(match[2], right)
    assert match[2] != webhook.sign("other", int(match[1]), post.body).partition("v1=")[2]


def test_without_a_body_only_headers_are_posted(receiver: Receiver) -> None:
    send(receiver.url, body="none")
    (post,) = receiver.posts
    assert post.body == b""
    assert post.headers["jobfac-id"] == MESSAGE.id
    assert "content-type" not in post.headers


def test_the_user_of_the_url_is_sent_as_basic_authentication(receiver: Receiver) -> None:
    send(f"http://me:pass@127.0.0.1:{receiver.port}/")
    assert receiver.posts[0].headers["authorization"].startswith("Basic ")
    assert receiver.posts[0].headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [200, 201, 299])
def test_any_2xx_is_a_delivery(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda post: status
    send(receiver.url)


@pytest.mark.parametrize("status", [302, 307, 400, 404, 410, 500, 503])
def test_any_other_status_is_a_failure_and_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda post: status
    assert failure(receiver.url).startswith(f"127.0.0.1 answered {status}")
    assert [post.path for post in receiver.posts] == ["/"]


def test_a_stalled_receiver_times_out(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", httpx.Timeout(0.2))
    receiver.answer = lambda post: None
    assert failure(receiver.url) == "127.0.0.1 did not answer in time"
    assert len(receiver.posts) == 1


def test_a_refused_connection_is_explained() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "127.0.0.1 cannot be connected to" in failure(f"http://127.0.0.1:{free.getsockname()[1]}/")


def test_a_broken_connection_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert "could not be posted to" in failure(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


LOCAL = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:42::42", "fd00:a9fe:a9fe::1",
]  # fmt: skip


@pytest.mark.parametrize("address", LOCAL)
def test_link_local_and_metadata_addresses_are_refused(address: str) -> None:
    assert addresses.is_local(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert "a link-local or metadata address; set webhook_allow_local" in failure(f"http://{host}/latest/meta-data")
    assert addresses.resolve(address, 80, allow_local=True) == [address]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd12::1", "8.8.8.8"])
def test_private_addresses_are_allowed_by_default(address: str) -> None:
    assert addresses.resolve(address, 80, allow_local=False) == [address]


@pytest.mark.parametrize("written", ["0xA9FEA9FE", "2852039166", "169.254.43518"])
def test_other_notations_of_a_refused_address_are_refused(written: str) -> None:
    assert "link-local or metadata address" in failure(f"http://{written}/")


def test_the_checked_address_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lookup of a name returns another address. The name server is simulated."""
    real, asked = socket.getaddrinfo, []

    def play(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return real(host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", play)
    send(f"http://rebinding.example:{receiver.port}/")
    assert len(receiver.posts) == len(asked) == 1
    assert receiver.posts[0].headers["host"] == f"rebinding.example:{receiver.port}"


def test_of_several_addresses_only_allowed_ones_are_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def play(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "both.example":
            return real(host, port, *more, **named)
        return real("169.254.169.254", port, *more, **named) + real("127.0.0.1", port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", play)
    send(f"http://both.example:{receiver.port}/")
    assert len(receiver.posts) == 1


def test_the_next_address_of_a_host_is_tried(receiver: Receiver) -> None:
    send(f"http://localhost:{receiver.port}/")
    assert len(receiver.posts) == 1


def test_an_unknown_host_is_explained() -> None:
    assert "the host nothing.invalid cannot be found" in failure("http://nothing.invalid/")


def test_the_certificate_must_match_the_host_name(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.wrap(context)
    assert "CERTIFICATE_VERIFY_FAILED" in failure(f"https://localhost:{receiver.port}/")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    send(f"https://localhost:{receiver.port}/")
    assert "CERTIFICATE_VERIFY_FAILED" in failure(f"https://127.0.0.1:{receiver.port}/")
    assert len(receiver.posts) == 1


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    send(receiver.url)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("value", ["two\r\nlines", "ünicode ✓", "nul\0"])
def test_no_error_contains_a_secret(receiver: Receiver, tmp_path: Path, value: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(value.encode())
    error = failure(receiver.url, headers={"X-Token": {"secret": f"file:{file}"}})
    assert not [word for word in re.findall(r"\w{3,}", value) if word in error]
    assert receiver.posts == []


def test_a_secret_that_is_missing_is_named(receiver: Receiver) -> None:
    assert failure(receiver.url, secret="env:NO_SUCH_KEY").startswith("the secret env:NO_SUCH_KEY is not in")


def test_a_url_can_be_a_secret(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", f"{receiver.url}/t0ken")
    to = Recipient.model_validate({"webhook": {"secret": "env:HOOK_URL"}})
    deliver(MESSAGE, to, Settings())
    assert receiver.posts[0].path == "/t0ken"
    receiver.answer = lambda post: 500
    with pytest.raises(DeliveryError, match=r"^env:HOOK_URL answered 500$"):
        deliver(MESSAGE, to, Settings())
    monkeypatch.setenv("HOOK_URL", "ftp://t0ken/")
    with pytest.raises(DeliveryError, match="must begin with https:// or http://"):
        deliver(MESSAGE, to, Settings())


@pytest.mark.parametrize(
    ("to", "word"),
    [
        ({"webhook": "https://me:pass@hook.example:8443/t0ken?x=1"}, "https://hook.example:8443"),
        ({"webhook": {"secret": "env:HOOK"}}, "env:HOOK"),
        ({"apprise": "slack://a/b/c"}, "slack://..."),
        ({"email": ["a@b.org"]}, "a@b.org"),
    ],
)
def test_a_recipient_is_shown_without_secrets(to: Any, word: str) -> None:
    assert shown(Recipient.model_validate(to)) == word
