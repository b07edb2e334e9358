"""Lists are cheap, however large the values are. Omitted values are named and can be read separately."""

import re
import threading
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import runs, sequences
from jobfac.store.history import search
from jobfac.store.runs.reading import listed
from jobfac.store.sequences import history
from jobfac.views.serialization import as_json, from_row
from tests.hostile.test_output_memory import peak_memory
from tests.support.api_stage import Served
from tests.support.database import define, start
from tests.support.factory import wait_for
from tests.support.fleet import Fleet
from tests.support.sequences import Player

LARGE = "x" * 4097
FITS = "x" * 4096


def test_a_list_of_runs_omits_large_values_and_names_them(db: Database) -> None:
    define(db, job={"parameters": {"note": {"default": ""}}})
    large = start(db, "job", payload=LARGE, arguments=["a" * 5000], parameters={"note": LARGE})
    blank = start(db, "job", payload=" " * 6000)
    fits = start(db, "job", payload=FITS, arguments=["a"])
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == fits).values(outputs='{"a": "' + "b" * 5000 + '"}'))
        sent = conn.execute(sa.select(listed("payload")).order_by(run.c.id)).scalars().all()
    assert [len(one) for one in sent] == [4097, 4097, 4096], "the database does not even send the rest"
    found = {run.id: as_json(run) for run in db.query(search.find_all)}
    assert [found[large][name] for name in ("payload", "arguments", "parameters")] == [None, None, None]
    assert found[large]["truncated"] == ["arguments", "payload", "parameters"]
    assert (found[blank]["payload"], found[blank]["truncated"]) == (None, ["payload"])
    assert (found[fits]["payload"], found[fits]["arguments"], found[fits]["outputs"]) == (FITS, ["a"], None)
    assert found[fits]["truncated"] == ["outputs"]
    assert db.query(runs.get, large).payload == LARGE


def test_the_path_of_a_sequence_omits_large_outputs(db: Database) -> None:
    """A page about 400 runs with outputs of 160 KB took ten seconds and half a gigabyte."""
    each = {"name": "each", "jobs": ["job"], "for_each": {"n": [1, 2, 3]}}
    define(db, job={"parameters": {"n": {"type": "integer"}}}, seq={"steps": [each, {"name": "last", "jobs": ["job"]}]})
    run_id = start(db, "seq")
    player = Player(db)
    for _ in range(2):
        for number, job in enumerate(player.look()):
            player.finish(job, outputs=f'{{"a": "{(LARGE, "x")[number % 2]}"}}')
    shown = [one for visit in db.query(sequences.step_history, run_id) for one in visit.runs]
    assert [(one.outputs, one.truncated) for one in shown] == [
        (None, ["outputs"]), ({"a": "x"}, None), (None, ["outputs"]), (None, ["outputs"])
    ]  # fmt: skip
    assert db.query(runs.get, shown[0].id).outputs == {"a": LARGE}


def test_of_a_step_with_many_runs_only_those_shown_are_read(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SHOWN", 2)
    each = {"name": "each", "jobs": ["job"], "for_each": {"n": [1, 2, 3, 4]}}
    define(db, job={"parameters": {"n": {"type": "integer"}}}, seq={"steps": [each]})
    run_id = start(db, "seq")
    player = Player(db)
    for number, job in enumerate(player.look()):
        player.finish(job, state=RunState.FAILED if number == 3 else RunState.SUCCEEDED)
    read = []

    def note(view: Any, row: Any) -> Any:
        read.append(row.get("item"))
        return from_row(view, row)

    monkeypatch.setattr(history, "from_row", note)
    (visit,) = db.query(sequences.step_history, run_id)
    assert [(one.item, one.state) for one in visit.runs] == [(3, "failed"), (0, "succeeded")]
    assert visit.counts == {"failed": 1, "succeeded": 3}
    assert sorted(item for item in read if item is not None) == [0, 3]


def test_lists_over_http_omit_large_definitions(served: Served) -> None:
    served.define("small", description="d", schedules=[{"cron": "0 6 * * *"}])
    served.define("large", description=LARGE, schedules=[{"cron": "0 6 * * *", "payload": LARGE}])
    jobs = {one["id"]: one for one in served.viewer.get("/v1/jobs").json()["items"]}
    assert (jobs["large"]["definition"], jobs["large"]["truncated"]) == (None, ["definition"])
    assert (jobs["small"]["definition"]["description"], jobs["small"]["truncated"]) == ("d", [])
    assert served.viewer.get("/v1/jobs/large").json()["definition"]["description"] == LARGE
    schedules = {one["job"]: one for one in served.viewer.get("/v1/schedules").json()["items"]}
    assert (schedules["large"]["definition"], schedules["large"]["truncated"]) == (None, ["definition"])
    assert schedules["small"]["truncated"] == []
    served.define("large", description="d")
    newest, oldest = served.viewer.get("/v1/jobs/large/versions").json()["items"]
    assert (newest["definition"]["description"], newest["truncated"], newest["current"]) == ("d", [], True)
    assert (oldest["definition"], oldest["truncated"], oldest["current"]) == (None, ["definition"], False)
    page = served.viewer.get("/v1/jobs/large/versions?limit=1").json()
    assert [one["version"] for one in page["items"]] == [2]
    rest = served.viewer.get(f"/v1/jobs/large/versions?cursor={page['next_cursor']}").json()
    assert ([one["version"] for one in rest["items"]], rest["next_cursor"]) == ([1], None)
    assert served.viewer.get("/v1/jobs/large/versions/1").json()["definition"]["description"] == LARGE
    run_id = served.start("small", payload=LARGE)
    (listed,) = served.viewer.get("/v1/runs").json()["items"]
    assert (listed["id"], listed["payload"], listed["truncated"]) == (run_id, None, ["payload"])
    assert served.viewer.get(f"/v1/runs/{run_id}").json()["payload"] == LARGE


def test_many_lists_at_once_take_little_memory(sqlite_fleet: Fleet) -> None:
    """Twenty runs with payloads of 2 MB, listed by four clients at the same time: 160 MB, if they were read."""
    fleet = sqlite_fleet
    fleet.define(job={"pool": "none"})
    fleet.start("job", 20, payload="x" * 2**21)
    key = fleet.factory.json("keys", "create", "--role", "viewer", "--name", "v")["key"]
    api = fleet.factory.role("api", "--port", "0")
    port = wait_for(lambda: _port(fleet.log(api)), "the API listens")
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    with client:
        assert client.get("/v1/runs?limit=1").status_code == 200
        before = peak_memory(api.pid)
        answers: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get("/v1/runs?limit=500"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = peak_memory(api.pid) - before
    assert [len(answer.json()["items"]) for answer in answers] == [20] * 4
    assert max(len(answer.content) for answer in answers) < 200_000
    assert grown < 60 * 2**20


def _port(log: str) -> Any:

    found = re.search(r'"url": "http://127\.0\.0\.1:(\d+)"', log)
    return found and found[1]


@pytest.mark.parametrize("word", ["state=queued", "parameter=day=1"])
def test_a_request_asks_for_few_states_and_parameters(served: Served, word: str) -> None:
    """Each is a condition that the database checks for every run, and it takes no more than some hundreds."""
    for number, status in ((20, 200), (21, 422), (3000, 422)):
        assert served.viewer.get("/v1/runs?" + "&".join([word] * number)).status_code == status
