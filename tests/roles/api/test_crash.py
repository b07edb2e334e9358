"""Kills of the API during starts: every answered start is stored, and a repeated key creates no second run."""

import re
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, Role, wait_for

CLIENTS = 6
ANSWERS = 40


def serve(factory: Factory) -> tuple[Role, str]:
    """Start `jobfac api` on a free port; returns the process and its URL."""
    process = factory.role("api", "--port", "0")
    log: Path = factory.folder / f"api-{len(factory.roles) - 1}.log"

    def url() -> str | None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert process.poll() is None, log.read_text()
        return found[0] if found else None

    return process, wait_for(url, "the API listens")


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_every_answered_start_happens_exactly_once(factory: Factory) -> None:
    factory.apply({"a": {"command": ["true"]}})
    key = factory.json("keys", "create", "--role", "operator")["key"]
    headers = {"Authorization": f"Bearer {key}"}
    answered: dict[str, int] = {}
    tried: set[str] = set()
    enough = threading.Event()
    process, url = serve(factory)

    def starts(client: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as api:
            for number in range(10_000):
                name = f"{client}-{number}"
                tried.add(name)
                try:
                    answer = api.post("/v1/jobs/a/runs", headers={"Idempotency-Key": name})
                except httpx.TransportError:
                    return  # killed before it answered
                assert answer.status_code == 201, answer.text
                answered[name] = answer.json()["id"]
                if len(answered) >= ANSWERS:
                    enough.set()

    threads = [threading.Thread(target=starts, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    process.kill()
    for thread in threads:
        thread.join()
    assert len(tried) > len(answered)  # killed during some starts

    _, url = serve(factory)
    with httpx.Client(base_url=url, headers=headers, timeout=30) as api:
        again = {
            name: api.post("/v1/jobs/a/runs", headers={"Idempotency-Key": name}).json()["id"] for name in sorted(tried)
        }
        runs: Counter[int] = Counter()
        cursor = ""
        while cursor is not None:
            page = api.get("/v1/runs", params={"limit": 500} | ({"cursor": cursor} if cursor else {})).json()
            runs.update(item["id"] for item in page["items"])
            cursor = page["next_cursor"]
    assert {name: again[name] for name in answered} == answered
    assert sorted(runs) == sorted(again.values())
    assert set(runs.values()) == {1}
