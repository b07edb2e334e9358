"""The Python client, against the API on a real port."""

import socket
import threading
from collections.abc import Iterator

import pytest

from jobfac.client import Client, ProblemError
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.states import Role, RunState
from tests.support.api_stage import Served
from tests.support.database import Hand


@pytest.fixture
def served(sqlite_url: str) -> Iterator[Served]:
    db = Database(sqlite_url)
    with Served(db, Settings(api_port=0)) as served:
        yield served
    db.close()


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url, served.keys[Role.OPERATOR]) as client:
        yield client


def test_start_wait_and_output(served: Served, client: Client) -> None:
    script = 'cat "$JOBFAC_PAYLOAD_FILE"; echo "$0 $1"; echo oops >&2; exit 3'
    served.define("sum", command=["sh", "-c", script], arguments=["none"])
    with served.worker():
        run = client.start("sum", arguments=["a", "b"], payload={"day": "2026-11-25"})
        run = client.wait(run.id, timeout=30)
    assert (run.state, run.exit_code) == (RunState.FAILED, 3)
    assert client.output(run.id) == '{"day": "2026-11-25"}a b\n'
    assert client.output(run.id, "stderr", attempt=1) == "oops\n"


def test_the_same_key_starts_one_run(served: Served, client: Client) -> None:
    served.define("a")
    assert client.start("a", idempotency_key="one").id == client.start("a", idempotency_key="one").id
    assert client.start("a").id != client.start("a").id
    with pytest.raises(ValueError, match="must not be blank"):  # each call would start a run
        client.start("a", idempotency_key="")


def test_a_denied_start_returns_the_denied_run(served: Served, client: Client) -> None:
    served.define("alone", already_running="deny")
    client.start("alone")
    assert client.start("alone").state == RunState.DENIED


def test_wait_ends_with_its_timeout_and_stop_ends_the_run(served: Served, client: Client) -> None:
    served.define("a")
    run = client.start("a", delay="1h", priority=7)
    assert run.priority == 7
    with pytest.raises(TimeoutError, match=f"Run {run.id} of 'a' is scheduled after 0.05 s"):
        client.wait(run.id, timeout=0.05)
    assert client.stop(run.id).state == RunState.STOPPED


def test_output_is_followed_to_the_end(served: Served, client: Client) -> None:
    served.define("quick", command=["sh", "-c", "echo one; echo two >&2"])
    with served.worker():
        run = client.start("quick")
        found = list(client.follow(run.id))
    assert {(piece.stream, piece.text) for piece in found} == {("stdout", "one\n"), ("stderr", "two\n")}
    assert all(piece.attempt == 1 and piece.skipped == 0 for piece in found)


def test_output_with_any_character_that_ends_a_line_is_followed(served: Served, client: Client) -> None:
    """JSON may hold them, and a stream of events ends its lines with others only."""
    text = "a\u2028b\u2029c\x85d\x0be\x1cf\rg\n"
    served.define("quick", command=["printf", "%s", text])
    with served.worker():
        run = client.start("quick")
        assert "".join(piece.text for piece in client.follow(run.id)) == text


def test_a_refusal_is_the_sentence_of_the_api(served: Served, client: Client) -> None:
    with pytest.raises(ProblemError, match="There is no job 'nowhere'") as caught:
        client.start("nowhere")
    assert caught.value.status == 404
    assert caught.value.problem["type"].endswith("not-found")
    with Client(served.url, "jf_wrong") as stranger, pytest.raises(ProblemError) as caught:
        stranger.run(1)
    assert caught.value.status == 401


def test_an_api_that_is_away_is_waited_for_and_then_named(served: Served) -> None:
    served.define("a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with Client(url, "jf_key", retry_for=0.3) as client, pytest.raises(Unreachable, match=url):
        client.run(1)


def test_a_start_is_repeated_when_the_connection_breaks(served: Served) -> None:
    """A proxy drops the first connection after it has passed on the request, so its answer is lost."""
    served.define("a")
    upstream = served.server.port
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def serve() -> None:
            for lost in (True, False):
                client, _ = proxy.accept()
                with client, socket.create_connection(("127.0.0.1", upstream)) as server:
                    request = client.recv(65536)
                    while not request.endswith(b"}"):  # the body is an object
                        request += client.recv(65536)
                    server.sendall(request)
                    answer = server.recv(65536)
                    while b"}" not in answer:
                        answer += server.recv(65536)
                    if not lost:
                        client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with Client(f"http://localhost:{proxy.getsockname()[1]}", served.keys[Role.OPERATOR]) as client:
            run = client.start("a")
        thread.join()
    assert [one["id"] for one in served.viewer.get("/v1/runs").json()["items"]] == [run.id]


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("", "k", "must begin with https"),
        ("http:/me:s1@a", "k", r"must begin with https.*, not 'http:/me:\*\*\*@a'"),
        ("http://a", "", "key is needed"),
    ],
)
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, url: str, key: str, said: str) -> None:
    monkeypatch.delenv("JOBFAC_API_URL", raising=False)
    monkeypatch.delenv("JOBFAC_API_KEY", raising=False)
    with pytest.raises(ValueError, match=said):
        Client(url, key)


def test_the_environment_says_where_it_is(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFAC_API_URL", served.url)
    monkeypatch.setenv("JOBFAC_API_KEY", served.keys[Role.VIEWER])
    with Client() as client, pytest.raises(ProblemError, match="There is no run 1"):
        client.run(1)


def test_a_start_on_each_worker_gives_the_runs_of_all(served: Served, client: Client) -> None:
    served.define("each", each_worker=True)
    refused = served.operator.post("/v1/jobs/each/runs")
    assert refused.status_code == 409
    assert "no live worker takes runs of the queue 'default'" in refused.json()["detail"]
    for name in ("w1", "w2"):
        Hand(served.db, name)
    answer = served.operator.post("/v1/jobs/each/runs", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    runs = answer.json()["runs"]
    assert [run["for_worker"] for run in runs] == ["w1", "w2"]
    assert answer.json()["id"] == runs[0]["id"] == client.start("each", idempotency_key="k").id
    served.define("a")
    assert "runs" not in served.operator.post("/v1/jobs/a/runs").json()


def test_a_proxy_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://ann:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Client("http://jobs.example.org", "key", retry_for=0) as client, pytest.raises(Unreachable) as caught:
        client.run(1)
    sentence = str(caught.value)
    assert sentence.startswith("The API at http://jobs.example.org cannot be reached through the proxy 127.0.0.1:9: ")
    assert sentence.endswith(". Check JOBFAC_API_URL, http_proxy and no_proxy.")


@pytest.mark.parametrize("proxy", ["::::", "ftp://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_reported(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(Unreachable, match=r"^The proxy .* cannot be used: .* or list the API's host in no_proxy\.$"):
        Client("http://jobs.example.org", "key")


def test_a_url_that_is_none_is_reported() -> None:
    for url in ("http://[::1", "http://me:s1/2@example.org"):
        with pytest.raises(Unreachable, match=r"cannot be used: Invalid port\. Check"):
            Client(url, "key")
