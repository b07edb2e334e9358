"""The transport of the clients over HTTP, with no server."""

import ssl
import time
from collections.abc import Iterator
from unittest.mock import Mock

import certifi
import httpx
import pytest

from jobfac.cli.client.remote import Remote
from jobfac.cli.commands.database import config
from jobfac.client import Client
from jobfac.client.transport import ApiTransport, ProblemError
from jobfac.doctor import State, machine
from jobfac.errors import IN_DOUBT, NOT_FOUND, REFUSED, UNREACHABLE, USAGE, InDoubt, JobfacError, Unreachable
from jobfac.settings import Settings
from jobfac.store.history.search import Filter


def transport(monkeypatch: pytest.MonkeyPatch, *responses: httpx.Response) -> tuple[ApiTransport, list[str]]:
    """A transport whose requests get these responses, then no more answer, and the paths that it asked for."""
    asked, left = [], list(responses)

    def send(_: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        asked.append(request.url.path)
        if left:
            return left.pop(0)
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx.Client, "send", send)
    return ApiTransport("http://api", "key", retry_for=0.15), asked


def test_versions_come_from_an_api_of_before_lists_had_pages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    version = {"job": "a", "version": 1, "current": True, "created_at": "2027-01-31T22:00:00.000+00:00"}
    items = [{**version, "created_by": "ann", "definition": {"command": ["x"]}}]
    asked = []

    def send(_: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        asked.append(request.url.query)
        return httpx.Response(200, json={"items": items})

    monkeypatch.setattr(httpx.Client, "send", send)
    with Remote("http://api", "key") as remote:
        assert [one.definition for one in remote.versions("a")] == [{"command": ["x"]}]
    assert asked == [b""]  # that one refuses parameters


@pytest.mark.parametrize("responses", [(), (httpx.Response(503, json={"detail": "later"}),), (httpx.Response(502),)])
def test_only_what_may_be_repeated_is_repeated(
    monkeypatch: pytest.MonkeyPatch, responses: tuple[httpx.Response, ...]
) -> None:
    api, asked = transport(monkeypatch, *responses)
    with pytest.raises(Unreachable):
        api.call("DELETE", "/once", repeatable=False)
    assert asked == ["/once"]
    with pytest.raises(Unreachable, match="http://api cannot be reached: refused"):
        api.get("/again")
    assert asked.count("/again") > 1


def test_a_request_that_fails_after_a_long_poll_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def send(_: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        asked.append(began := time.monotonic())
        if len(asked) > 1:
            return httpx.Response(200, json={"ok": True})
        while time.monotonic() < began + 0.2:  # longer than requests are repeated
            pass
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    monkeypatch.setattr(httpx.Client, "send", send)
    assert ApiTransport("http://api", "key", retry_for=0.15).get("/wait") == {"ok": True}
    assert len(asked) == 2
    asked.clear()
    with pytest.raises(InDoubt):  # somebody may have disabled it again
        ApiTransport("http://api", "key", retry_for=0.15).call("POST", "/enable", repeatable=True)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(401, REFUSED), (404, NOT_FOUND), (409, REFUSED), (422, USAGE), (418, USAGE), (500, UNREACHABLE)],
)
def test_a_refusal_has_the_exit_code_of_its_status(
    monkeypatch: pytest.MonkeyPatch, status: int, exit_code: int
) -> None:
    api, _ = transport(monkeypatch, httpx.Response(status, json={"detail": "No."}), httpx.Response(status, json=[]))
    with pytest.raises(JobfacError, match=r"^No\.$") as caught:
        api.get("/a")
    assert caught.value.exit_code == exit_code
    assert isinstance(caught.value, ProblemError) is (status < 500)
    with pytest.raises(JobfacError, match=f"answered {status} and may not be the API of jobfac"):
        api.get("/a")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>log in</html>"),
        httpx.Response(200, text="[" * 200_000),
        httpx.Response(200, json=[1]),
        httpx.Response(204),
        httpx.Response(200, json={"items": None}),
        httpx.Response(200, json={"items": [{"id": 1}], "next_cursor": None}),
    ],
    ids=["a page", "deep", "a list", "nothing", "no list", "another version"],
)
def test_an_answer_that_is_none_of_the_api_is_named(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response) -> None:
    transport(monkeypatch, answer)
    with pytest.raises(Unreachable, match="may not be the API of jobfac, or has another version; check JOBFAC_API_URL"):
        Remote("http://api", "key").runs(Filter(), 10)


@pytest.mark.parametrize("advice", [{"a": 1}, [1], "text"])
def test_an_odd_advice_of_a_refusal_is_left_out(monkeypatch: pytest.MonkeyPatch, advice: object) -> None:
    api, _ = transport(monkeypatch, httpx.Response(404, json={"detail": "No.", "advice": advice}))
    assert str(ProblemError("No.", 403, {}).with_more("Run 1 was asked to stop.")) == "No. Run 1 was asked to stop."
    with pytest.raises(ProblemError, match=r"^No\.$"):
        api.get("/a")


def test_a_list_whose_cursor_stays_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    again = {"items": [], "next_cursor": "5"}
    _, asked = transport(monkeypatch, *(httpx.Response(200, json=again) for _ in range(5)))
    assert Remote("http://api", "key").runs(Filter(), 10) == []
    assert len(asked) == 2


def test_nothing_shows_the_password_of_the_url(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    transport(monkeypatch)
    for url in ("http://user:geheim@api:1", "http://user:geheim@api:port"):
        with pytest.raises(Unreachable, match=r"http://user:\*\*\*@api") as caught:
            ApiTransport(url, "key", retry_for=0).get("/v1/jobs")
        assert "geheim" not in str(caught.value)
    (found,) = machine.api(Settings(api_url="http://user:geheim@127.0.0.1:1", api_key="key"))
    assert "geheim" not in f"{found}"
    monkeypatch.setenv("JOBFAC_API_URL", "http://user:geheim@api")
    config(as_json=True)
    shown = capsysbinary.readouterr().out
    assert b"http://user:***@api" in shown
    assert b"geheim" not in shown


def test_the_authorities_of_the_machine_vouch_for_an_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """An own authority is installed there. Those that the environment names are the only ones."""
    loaded: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda context, *_: loaded.append(context))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    ApiTransport("https://api", "key").close()
    assert not loaded
    monkeypatch.delenv("SSL_CERT_FILE")
    ApiTransport("https://api", "key").close()
    assert loaded


@pytest.mark.parametrize("path", ["/nope", __file__])
def test_certificates_that_cannot_be_read_are_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", path)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with pytest.raises(Unreachable, match=r"that vouch for https://api cannot be read: .*\. Correct SSL_CERT_FILE\.$"):
        ApiTransport("https://api", "key")
    (found,) = machine.api(Settings(api_url="https://127.0.0.1:1", api_key="key"))
    assert (found.check, found.state) == ("api", State.PROBLEM)
    assert "SSL_CERT_FILE" in found.remedy


@pytest.mark.parametrize("end", ["\n", " ", "\r", "\x00", "ü"])
def test_nothing_shows_a_key_that_cannot_be_sent(end: str) -> None:
    (found,) = machine.api(Settings(api_url="http://127.0.0.1:1", api_key=f"jf_geheim{end}"))
    assert (found.check, found.found) == ("api key", "it is none")
    assert "geheim" not in f"{found}"
    with pytest.raises(ValueError, match="may end with a blank or a new line") as caught:
        Client("http://127.0.0.1:1", f"jf_geheim{end}")
    assert "geheim" not in str(caught.value)


LOST, REFUSED_CONNECTION = httpx.ReadError("lost."), httpx.ConnectError("refused.")
SAID = httpx.Response(503, json={"detail": f"The database cannot be reached. {IN_DOUBT}"})


@pytest.mark.parametrize(
    ("first", "method", "is_doubtful"),
    [
        (LOST, "POST", True),
        (LOST, "GET", False),
        (REFUSED_CONNECTION, "POST", False),
        (httpx.Response(502), "POST", True),
        (httpx.Response(502), "GET", False),
        (httpx.Response(503, json={"detail": "Later."}), "POST", False),
        (SAID, "POST", True),
    ],
)
@pytest.mark.parametrize("then", [REFUSED_CONNECTION, httpx.Response(503, json={"detail": "Later."})])
def test_an_answer_that_was_lost_leaves_a_doubt(
    monkeypatch: pytest.MonkeyPatch,
    first: httpx.Response | Exception,
    then: httpx.Response | Exception,
    method: str,
    is_doubtful: bool,
) -> None:
    """The API may have done what was asked, and who is not told asks again."""
    left = [first]

    def send(_: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        answer = left.pop(0) if left else then
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx.Client, "send", send)
    with pytest.raises(Unreachable) as caught:
        ApiTransport("http://api", "key", retry_for=0.1).call(method, "/a", repeatable=True)
    assert (isinstance(caught.value, InDoubt), str(caught.value).count(IN_DOUBT)) == (is_doubtful, int(is_doubtful))
    assert ".." not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (1, "`--key k` repeats the start without a second run."),
        (2, "0 of 2 runs were started for certain; the key 'k' with the same count starts the others."),
    ],
)
def test_who_starts_is_told_the_key_that_repeats_it(monkeypatch: pytest.MonkeyPatch, count: int, says: str) -> None:
    api, _ = transport(monkeypatch, httpx.Response(502))
    remote = Remote("http://api", "key")
    monkeypatch.setattr(remote, "_api", api)
    with pytest.raises(JobfacError) as caught:
        remote.start("a", {}, "k", count)
    assert (caught.value.exit_code, str(caught.value).endswith(f"{IN_DOUBT} {says}")) == (UNREACHABLE, True)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (1, "Interrupted: the start may have been done; `--key k` repeats it without a second run."),
        (2, "Interrupted: 0 of 2 runs were started for certain; the key 'k' with the same count starts the others."),
    ],
)
def test_who_interrupts_a_start_is_told_the_key_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, count: int, says: str
) -> None:
    api, _ = transport(monkeypatch, httpx.Response(201))
    remote = Remote("http://api", "key")
    monkeypatch.setattr(remote, "_api", api)
    monkeypatch.setattr(api, "send", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt) as caught:
        remote.start("a", {}, "k", count)
    assert str(caught.value) == says


def test_what_a_proxy_answers_in_place_of_the_api_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the page of a login. Following it asked again without an end and without a pause."""
    transport(monkeypatch, *[httpx.Response(200, html="<p>Log in</p>") for _ in range(2)])
    client = Client("http://api", "key", retry_for=0)
    with pytest.raises(Unreachable, match="no output of a run"):
        client.output(1)
    with pytest.raises(Unreachable, match="no stream of events"):
        next(client.follow(1))


def test_a_stream_that_ends_at_once_is_resumed_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"Content-Type": "text/event-stream; charset=utf-8"}
    piece = b'id: 7\nevent: output\ndata: {"attempt": 1, "stream": "stdout", "text": "a", "skipped": 0}\n\n'
    bodies = [b"", b"", piece, b"", b"event: end\ndata: {}\n\n"]
    _, asked = transport(monkeypatch, *[httpx.Response(200, headers=head, content=body) for body in bodies])
    pauses: list[float] = []
    monkeypatch.setattr("jobfac.client.sleep", pauses.append)
    assert [one.text for one in Client("http://api", "key", retry_for=0).follow(1)] == ["a"]
    assert pauses == [0, 0.1, 0.2, 0, 0.1]
    assert len(asked) == 5


def test_an_answer_takes_no_more_memory_than_those_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 GB of zeros fit into an answer of 20 MB with gzip: a wrong server ended the command with a traceback."""
    monkeypatch.setattr("jobfac.client.transport.LARGEST", 1000)
    monkeypatch.setattr("jobfac.client.LARGEST", 1000)

    def endless(start: bytes) -> Iterator[bytes]:
        yield start
        yield from (b" " * 500 for _ in range(4))
        pytest.fail("more was read")

    packed = {"Content-Encoding": "gzip"}
    events = {"Content-Type": "text/event-stream"}
    answers = [
        *[httpx.Response(status, content=endless(b"")) for status in (200, 404, 201)],
        *[httpx.Response(200, headers=packed, content=endless(b"\x1f\x8b")) for _ in range(3)],
        httpx.Response(200, headers=events, content=endless(b"data: ")),
    ]
    transport(monkeypatch, *answers)
    client = Client("http://api", "key", retry_for=0)
    for what in ("more than 1,000 bytes", "a compressed body"):
        for _ in range(2):
            with pytest.raises(Unreachable, match=what):
                client.run(1)
        with pytest.raises(InDoubt, match=what):
            client.start("load")
    with pytest.raises(Unreachable, match="an event of more than 1,000 characters"):
        next(client.follow(1))


def test_a_compressed_page_of_a_proxy_counts_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 502 is repeated, and behind a 403 no start is in doubt, as without the compression that nobody asked for."""
    pages = [
        httpx.Response(status, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))
        for status in (502, 403)
    ]
    transport(monkeypatch, *pages)
    with pytest.raises(ProblemError, match="answered 403"):
        Client("http://api", "key").start("load")


def test_one_text_is_no_list_of_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its letters were the arguments."""
    _, asked = transport(monkeypatch)
    with pytest.raises(TypeError, match="not one text"):
        Client("http://api", "key", retry_for=0).start("load", arguments="--full")
    assert asked == []


@pytest.mark.parametrize("host", [".example.org", "a..b:8420", "x" * 64, "xn--a"])
def test_a_host_that_is_no_name_is_explained(host: str) -> None:
    with pytest.raises(Unreachable, match=r"cannot be used: .* Check JOBFAC_API_URL"):
        ApiTransport(f"http://{host}", "key", retry_for=0)


def test_a_proxy_whose_host_is_no_name_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://a..b:1")
    with pytest.raises(Unreachable, match="cannot be reached"):
        ApiTransport("http://api", "key", retry_for=0).get("/")
