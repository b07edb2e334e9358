"""The metrics endpoints of a worker and a scheduler."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobfac.definitions import from_canonical
from jobfac.store import schedules
from jobfac.telemetry.exporter import READ_TIMEOUT
from tests.support.factory import wait_for
from tests.support.fleet import Fleet, Process
from tests.support.receivers import receiving


class Scraped(dict[str, float]):
    """The samples of one scrape, by name and label's value as in ``name{value}``."""


def url_of(fleet: Fleet, process: Process) -> str:
    """The URL of a role's metrics, read from its log."""

    def read_url() -> str | None:
        assert process.poll() is None, fleet.log(process)
        lines = (json.loads(line) for line in fleet.log(process).splitlines() if line.startswith("{"))
        return next((line["url"] for line in lines if line["action"] == "metrics_started"), None)

    return str(wait_for(read_url, "metrics are served"))


def scrape(url: str) -> Scraped:
    answer = httpx.get(url, timeout=20)
    assert answer.status_code == 200
    samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
    return Scraped({_name(sample.name, sample.labels): sample.value for sample in samples})


def _name(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(labels.values())}}}" if labels else name


@pytest.fixture
def silent() -> Iterator[ExitStack]:
    """Connections that send nothing, or not all."""
    with ExitStack() as stack:
        yield stack


def test_a_worker_and_a_scheduler_export_their_metrics(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    with receiving() as receiver:
        fleet.define(
            bad={
                "command": ["false"],
                "notify": [
                    {"on": ["failed"], "to": {"webhook": receiver.url}},
                    {"on": ["failed"], "to": {"webhook": "http://127.0.0.1:9/"}},
                ],
            },
            long={"command": ["sh", "-c", "yes | head -c 100000; sleep 600"]},
        )
        often = from_canonical("often", {"command": ["true"], "schedules": [{"every": "1s"}]})
        fleet.db.transact(schedules.put, "often", often, "tester")
        up = fleet.factory.role("up", "--slots", "7", "--port", "0", "--metrics", "127.0.0.1:0")
        url = url_of(fleet, up)
        fleet.start("long")
        fleet.one("bad")

        def all_there() -> Scraped | None:
            found = scrape(url)
            wanted = (
                "jobfac_scheduler_inserted_total",
                "jobfac_scheduler_deliveries_total{delivered}",
                "jobfac_scheduler_deliveries_total{failed}",
                "jobfac_worker_spool_bytes",
            )
            return found if all(found[name] > 0 for name in wanted) else None

        found = wait_for(all_there, "everything happened once")
    assert (found["jobfac_worker_slots"], found["jobfac_worker_finished_total{failed}"]) == (7, 1)
    assert found["jobfac_worker_running"] >= 1
    assert found["jobfac_worker_claimed_total"] >= 2
    assert 1 <= found["jobfac_worker_claim_seconds_count"] <= found["jobfac_worker_turns_total"]
    assert found["jobfac_worker_claim_seconds_bucket{+Inf}"] == found["jobfac_worker_claim_seconds_count"]
    assert 0 <= found["jobfac_worker_heartbeat_age_seconds"] < 2
    assert 0 < found["jobfac_worker_lease_left_seconds"] <= 2
    assert found["jobfac_scheduler_duty_last_timestamp_seconds{insert}"] > 1.7e9
    assert found["jobfac_scheduler_duty_last_seconds{insert}"] > 0
    assert found["jobfac_scheduler_duty_failures_total{insert}"] == 0
    assert found["jobfac_statements_total{insert}"] > 0
    assert found["jobfac_transaction_retries_total"] >= 0
    assert len(found) < 150, "the number of series has a bound"


def test_silent_clients_block_neither_the_worker_nor_the_next_scrape(sqlite_fleet: Fleet, silent: ExitStack) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["true"]})
    url = url_of(fleet, fleet.worker("w1", "--metrics", "127.0.0.1:0"))
    address = (httpx.URL(url).host, httpx.URL(url).port)
    for number in range(20):
        slow = silent.enter_context(socket.create_connection(address))
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: " if number % 2 else b"")
    assert fleet.one("job")["state"] == "succeeded"
    began = time.monotonic()
    assert scrape(url)["jobfac_worker_finished_total{succeeded}"] == 1
    assert time.monotonic() - began < READ_TIMEOUT  # Kubernetes ends a worker whose metrics it cannot read


def test_a_port_in_use_is_reported_in_a_sentence(sqlite_fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        read_url = sqlite_fleet.factory.run("scheduler", "--metrics", place, code=4).stderr
    assert read_url == f"Metrics cannot be served on {place}: Address already in use.\n"
