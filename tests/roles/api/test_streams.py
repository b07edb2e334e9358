"""Event streams of the API: live output and events, resumable, and with an end."""

import base64
import json
import queue
import threading
from pathlib import Path

import sqlalchemy as sa

from jobfac.database.tables import job_version, run_event
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served, events
from tests.support.factory import wait_for

SSE = {"Accept": "text/event-stream"}


def test_output_is_returned_as_text_or_pieces(served: Served) -> None:
    served.define("a", command=["sh", "-c", "printf 'h\\303\\244llo\\n\\377'; echo no >&2"])
    run = served.start("a")
    with served.worker():
        served.viewer.get(f"/v1/runs/{run}?wait=20")
    text = served.viewer.get(f"/v1/runs/{run}/output")
    assert text.content == "hällo\n".encode() + b"\xff"
    assert (text.headers["jobfac-next-offset"], text.headers["jobfac-complete"]) == ("8", "true")
    assert served.viewer.get(f"/v1/runs/{run}/output?stream=stdout&offset=3").content == b"llo\n\xff"
    assert served.viewer.get(f"/v1/runs/{run}/output?stream=stderr").text == "no\n"
    assert served.viewer.get(f"/v1/runs/{run}/output?attempt=2").status_code == 404
    page = served.viewer.get(f"/v1/runs/{run}/output", headers={"Accept": "application/json"}).json()
    written = {piece["stream"]: base64.b64decode(piece["data"]) for piece in page["pieces"]}
    assert written == {"stdout": text.content, "stderr": b"no\n"}
    assert page["position"] == "1:8:3"
    rest = served.viewer.get(
        f"/v1/runs/{run}/output?after={page['position']}", headers={"Accept": "application/json"}
    ).json()
    assert (rest["pieces"], rest["complete"]) == ([], True)
    with served.db.begin() as conn:  # by a newer version of jobfac
        conn.execute(job_version.update().values(definition='{"command": ["a"], "newer": 1}'))
    assert served.viewer.get(f"/v1/runs/{run}/output").content == text.content


def test_a_stream_is_returned_as_a_whole(served: Served) -> None:
    served.define(
        "a", command=["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; printf end"], output={"limit": "8MiB"}
    )
    run = served.start("a")
    with served.worker():
        served.viewer.get(f"/v1/runs/{run}?wait=20")
    assert served.viewer.get(f"/v1/runs/{run}/output").headers["jobfac-complete"] == "false"
    whole = served.viewer.get(f"/v1/runs/{run}/output?whole=true")
    assert whole.content == b"x" * 5_000_000 + b"end"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert served.viewer.get(f"/v1/runs/{run}/output?whole=true&stream=stderr").content == b""


def test_output_is_followed_to_the_end_and_resumed(served_everywhere: Served, tmp_path: Path) -> None:
    served = served_everywhere
    # The program continues on a signal of the test, to distinguish live output from earlier output.
    script = (
        f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; printf '\\303'; sleep 0.3; printf '\\244\\n'"
    )
    served.define("a", command=["sh", "-c", script])
    run = served.start("a")
    with served.worker(), served.viewer.stream("GET", f"/v1/runs/{run}/output", headers=SSE) as answer:
        stream = events(answer.iter_lines())
        first = next(stream)
        assert json.loads(first["data"]) == {"attempt": 1, "stream": "stdout", "skipped": 0, "text": "one\n"}
        (tmp_path / "go").touch()
        sent = list(stream)
    assert "".join(json.loads(one["data"])["text"] for one in sent[:-1]) == "ä\n"
    assert (sent[-1]["event"], json.loads(sent[-1]["data"])["state"]) == ("end", "succeeded")
    # A client that lost the connection after any event gets the rest, without partial characters.
    for number, one in enumerate([first, *sent[:-1]]):
        headers = {**SSE, "Last-Event-ID": one["id"]}
        with served.viewer.stream("GET", f"/v1/runs/{run}/output", headers=headers) as answer:
            resumed = list(events(answer.iter_lines()))
        rest = "".join(json.loads(two["data"])["text"] for two in sent[number:-1])
        assert "".join(json.loads(two["data"])["text"] for two in resumed[:-1]) == rest
        assert resumed[-1]["event"] == "end"


def test_following_continues_with_the_next_attempt(served: Served) -> None:
    served.define("a", command=["sh", "-c", "echo try $JOBFAC_ATTEMPT; exit 1"], retry={"attempts": 2, "delay": "0.2s"})
    run = served.start("a")
    with served.worker(), served.viewer.stream("GET", f"/v1/runs/{run}/output", headers=SSE) as answer:
        sent = [json.loads(one["data"]) for one in events(answer.iter_lines())]
    assert [(one["attempt"], one["text"]) for one in sent[:-1]] == [(1, "try 1\n"), (2, "try 2\n")]
    assert sent[-1]["state"] == "failed"


def test_events_are_streamed_live_and_resumed(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a")
    served.define("b")
    with served.viewer.stream("GET", "/v1/events", headers=SSE) as answer:
        stream = events(answer.iter_lines())
        run = served.start("a")
        sent = []
        thread = threading.Thread(target=lambda: sent.append(next(stream)))
        thread.start()
        # A client that connects now may be later than that start. It gets the next ones.
        while thread.is_alive():
            served.start("a")
            thread.join(0.2)
    first = json.loads(sent[0]["data"])
    assert (sent[0]["event"], first["job"], first["event"], first["by"]) == ("run", "a", "queued", "operator")
    served.start("b")
    with served.worker():
        served.viewer.get(f"/v1/runs/{run}?wait=20")
        headers = {**SSE, "Last-Event-ID": "0"}
        with served.viewer.stream("GET", "/v1/events?job=a&seconds=1", headers=headers) as answer:
            everything = list(events(answer.iter_lines()))
    found = [json.loads(one["data"]) for one in everything if one["event"] == "run"]
    assert [one["event"] for one in found if one["run_id"] == run] == ["queued", "running", "succeeded"]
    assert {one["job"] for one in found} == {"a"}
    middle = everything[len(everything) // 2]
    headers = {**SSE, "Last-Event-ID": middle["id"]}
    with served.viewer.stream("GET", "/v1/events?job=a&seconds=0.5", headers=headers) as answer:
        resumed = [one["id"] for one in events(answer.iter_lines())]
    assert resumed == [one["id"] for one in everything][len(everything) // 2 + 1 :]


def test_a_stream_beyond_the_newest_event_says_so_and_goes_on(served: Served) -> None:
    """As after the restore of a backup: for a client that resumes, and for one that has been connected all the time."""
    served.define("a")
    for _ in range(4):
        served.start("a")
    headers = {**SSE, "Last-Event-ID": "900"}
    sent: queue.Queue[dict[str, str]] = queue.Queue()

    def read() -> None:
        with served.viewer.stream("GET", "/v1/events?seconds=30", headers=headers) as answer:
            for one in events(answer.iter_lines()):
                sent.put(one)
                if one["event"] == "run":
                    return

    thread = threading.Thread(target=read)
    thread.start()
    first = sent.get(timeout=20)
    assert (first["event"], first["id"], json.loads(first["data"])["newest"]) == ("reset", "4", 4)
    with served.db.begin() as conn:
        conn.execute(run_event.delete().where(run_event.c.id > 1))
        if conn.dialect.name == "sqlite":
            conn.execute(sa.text("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'run_event'"))
    second = sent.get(timeout=20)
    assert (second["event"], second["id"], json.loads(second["data"])["newest"]) == ("reset", "1", 1)
    served.start("a")
    assert sent.get(timeout=20)["id"] == "2"
    thread.join()


def test_registrations_of_workers_are_events(served: Served) -> None:
    found: list[dict[str, object]] = []
    listening = threading.Event()

    def read_events() -> None:
        with served.viewer.stream("GET", "/v1/events?seconds=30", headers=SSE) as answer:
            for one in events(answer.iter_lines()):
                found.append(json.loads(one["data"]))
                listening.set()
                if found[-1].get("state") == "stopped":
                    return

    thread = threading.Thread(target=read_events)
    thread.start()
    served.define("a")
    while not listening.wait(0.2):
        served.start("a")
    with served.worker():
        wait_for(lambda: any(one.get("state") == "active" for one in found), "the worker is sent")
    thread.join()
    assert [one["state"] for one in found if one.get("name") == "w1"][-1] == "stopped"
    assert "token" not in {name for one in found for name in one}


def test_the_number_of_streams_is_limited(served: Served) -> None:
    served.server.app.state.service.live.limit = 2
    served.define("a")
    run = served.start("a")
    paths = ("/v1/events", f"/v1/runs/{run}/output")
    with (
        served.viewer.stream("GET", paths[0], headers=SSE) as one,
        served.operator.stream("GET", paths[1], headers=SSE) as two,
    ):
        assert (one.status_code, two.status_code) == (200, 200)
        for path in (*paths, f"/v1/runs/{run}?wait=5"):
            refused = served.viewer.get(path, headers=SSE)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.headers["content-type"] == "application/problem+json"
        other = served.admin.get(f"/v1/runs/{run}?wait=0.1")
        assert (other.status_code, other.json()["detail"].startswith("2 event streams")) == (503, True), "has its share"
        assert served.viewer.get(f"/v1/runs/{run}").status_code == 200
    wait_for(
        lambda: served.viewer.get(f"/v1/runs/{run}?wait=0.01").status_code == 200, "the closed streams are forgotten"
    )


def test_the_header_of_a_stream_alone_leaves_its_connection_free(served: Served) -> None:
    """A proxy keeps the connection, and sends the next request of anybody into it."""
    served.define("a")
    run = served.start("a")
    client = served.client(served.keys[Role.VIEWER], timeout=3)
    for path in ("/v1/events", f"/v1/runs/{run}/output", "/live"):
        header = client.head(path, headers=SSE)
        assert (header.status_code, header.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert client.get("/v1/jobs").status_code == 200, path
    assert not served.server.app.state.service.live.open


def test_stopping_the_server_ends_open_streams(served: Served) -> None:
    served.define("a")
    run = served.start("a")
    waited: list[int] = []
    wait = threading.Thread(target=lambda: waited.append(served.viewer.get(f"/v1/runs/{run}?wait=60").status_code))
    wait.start()
    app = served.server.app.state.service.live
    with (
        served.viewer.stream("GET", "/v1/events", headers=SSE) as one,
        served.viewer.stream("GET", f"/v1/runs/{run}/output", headers=SSE) as two,
    ):
        wait_for(lambda: app.open.total() == 3, "all three are open")
        served.server.stop()
        assert not list(events(one.iter_lines()))
        assert not list(events(two.iter_lines()))
    wait.join(20)
    assert waited == [200]
