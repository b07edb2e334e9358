"""A key that is limited to categories learns nothing about jobs of others that share limits with its own."""

from jobfac.store.api_keys import Role
from tests.support.api_stage import Served


def test_a_run_that_waits_for_another_category_does_not_name_its_holder(served: Served) -> None:
    for name, category in (("mine", "a"), ("theirs", "b")):
        served.define(name, category=category, command=["true"], concurrency={"limit": 1, "key": "shared"})
    served.operator.post("/v1/jobs/theirs/runs").raise_for_status()
    run = served.operator.post("/v1/jobs/mine/runs").json()["id"]
    everywhere, limited = served.viewer, served.client(served.key(Role.VIEWER, ["a"]))
    assert everywhere.get(f"/v1/runs/{run}").json()["waits_for"] == "concurrency limit 1 of 'shared': run 1 of theirs"
    html = {"Accept": "text/html"}
    for path in (f"/v1/runs/{run}", "/v1/runs", f"/runs/{run}", "/runs", "/"):
        assert "theirs" in everywhere.get(path, headers=html).text
        seen = limited.get(path, headers=html)
        assert seen.status_code == 200
        assert "shared" in seen.text
        assert "theirs" not in seen.text
    assert limited.get(f"/v1/runs/{run}").json()["waits_for"] == "concurrency limit 1 of 'shared'"
