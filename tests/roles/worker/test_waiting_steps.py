"""A worker and a scheduler at work, on each dialect, with a sequence that waits for a file and for an address."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, wait_for


class Rates(ThreadingHTTPServer):
    """An address that is ready when ``status`` says so."""

    status = 503

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(Rates.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rates]:
    monkeypatch.setattr(Rates, "status", 503)
    made = Rates()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_sequence_waits_for_a_file_and_for_an_address(factory: Factory, tmp_path: Path, rates: Rates) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    prices, address = f"{folder}/prices-*.csv", f"http://127.0.0.1:{rates.server_port}/ready"
    steps = [
        {"name": "prices", "wait": {"file": prices, "stable": "1s", "timeout": "1h"}},
        {"name": "rates", "wait": {"http": address, "every": "1s"}},
        {"name": "load", "jobs": ["load"]},
    ]
    factory.apply({"load": {"command": ["true"]}, "nightly": {"steps": steps}})
    factory.worker("w1")
    factory.role("scheduler")
    run_id = factory.start("nightly")
    wait_for(lambda: f"waits for the file {prices}" in factory.run("runs", "show", str(run_id)).stdout, "it waits")
    (folder / "prices-31.csv").write_text("x")
    refused = wait_for(lambda: _reason(factory, run_id), "the address is asked")
    assert refused == "127.0.0.1 answered 503"
    assert f"waits for an answer of {address}" in factory.run("runs", "show", str(run_id)).stdout
    Rates.status = 204
    ended = factory.wait(run_id)
    assert ended["state"] == "succeeded"
    assert [step["decision"] for step in ended["path"]] == ["found", "found", None]
    assert ended["path"][0]["reason"] == f"{folder}/prices-31.csv is there"


def _reason(factory: Factory, run_id: int) -> str | None:
    path = factory.show(run_id)["path"]
    return path[1]["reason"] if len(path) > 1 else None
