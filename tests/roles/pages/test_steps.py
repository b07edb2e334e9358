"""The steps of a sequence on the page of its run."""

import re

from tests.roles.pages.stage import Browser
from tests.support.api_stage import Served
from tests.support.database import start
from tests.support.sequences import Player


def test_a_step_with_many_runs_is_counted(place: Served, operator: Browser) -> None:
    place.define("load", parameters={"day": {}})
    fan = {"name": "fan", "jobs": ["load"], "for_each": {"day": list(range(30))}}
    assert place.admin.put("/v1/jobs/fanned", json={"steps": [fan]}).status_code == 201
    run_id = start(place.db, "fanned")
    player = Player(place.db)
    player.look()
    player.fail("load")
    (row,) = re.findall(r'<tr data-row="step-1">.*?</tr>', operator.get(f"/runs/{run_id}"), re.DOTALL)
    words = " ".join(re.sub(r"<[^>]+>", " ", row).split())
    assert re.search(r"1 \S+ failed 29 \S+ running", words)
    assert "of 30: all runs of the sequence" in words
    assert f'href="/runs?sequence={run_id}"' in row
    runs = re.findall(r'href="/runs/(\d+)"', row)
    assert (len(runs), operator.client.get(f"/v1/runs/{runs[0]}", headers={"Accept": "*/*"}).json()["state"]) == (
        10,
        "failed",
    )


def test_what_a_retry_from_the_failed_step_takes_over_is_shown(place: Served, operator: Browser) -> None:
    place.define("load", parameters={"day": {}})
    place.define("other")
    fan = {"name": "fan", "jobs": ["load"], "for_each": {"day": [1, 2]}}
    pair = {"name": "pair", "jobs": ["load", "other"]}
    for job, step in (("night", pair), ("fanned", fan)):
        assert place.admin.put(f"/v1/jobs/{job}", json={"steps": [step]}).status_code == 201
    player = Player(place.db)
    for job, says in (("night", 'taken over from <a href="/runs/{0}">run {0}</a>'), ("fanned", "1 of them taken over")):
        run_id = start(place.db, job)
        player.look()
        player.finish("load")
        player.fail(player.held[0].job)
        operator.act(f"/runs/{run_id}/retry", f"/runs/{run_id}", from_failed="yes")
        player.look()
        (again,) = player.held
        assert says.format(run_id) in operator.get(f"/runs/{again.sequence_run_id}")
        player.finish(again.job)
