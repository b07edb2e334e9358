"""The rules for Prometheus and the Grafana dashboard under scripts/deploy name only metrics that the roles serve."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from jobfac.states import Role
from jobfac.store import api_keys
from tests.roles.monitoring.test_metrics import url_of
from tests.support.fleet import Fleet

FOLDER = Path(__file__).parents[3] / "scripts/deploy/monitoring"


def expressions() -> Iterator[str]:
    rules = YAML(typ="safe").load(FOLDER / "rules.yaml")
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    yield from (target["expr"] for panel in panels for target in panel["targets"])


def served(url: str, key: str = "") -> Iterator[Metric]:
    answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=20)
    assert answer.status_code == 200, answer.text
    yield from text_string_to_metric_families(answer.text)


@pytest.fixture
def families(sqlite_fleet: Fleet) -> list[Metric]:
    """What a worker, a scheduler and the API serve after one run in one pool."""
    fleet = sqlite_fleet
    fleet.define(job={"command": ["true"]}, waits={"command": ["true"], "pool": "elsewhere"})
    key = fleet.db.transact(api_keys.create, "probe", Role.VIEWER, "tester").key
    up = fleet.factory.role("up", "--port", "0", "--metrics", "127.0.0.1:0")
    roles = url_of(fleet, up)
    fleet.start("waits")
    assert fleet.one("job")["state"] == "succeeded"
    lines = (json.loads(line) for line in fleet.log(up).splitlines() if line.startswith("{"))
    api = next(str(line["url"]) for line in lines if line["action"] == "api_started")
    return [*served(roles), *served(f"{api}/metrics", key)]


def test_every_metric_and_label_of_rules_and_dashboard_is_served(families: list[Metric]) -> None:
    names = {sample.name for family in families for sample in family.samples} | {
        f"{family.name}{'_total' if family.type == 'counter' else ''}" for family in families
    }
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    labels |= {"le", "instance"}  # of histograms, and added by Prometheus
    found = list(expressions())
    assert len(found) > 25
    for expression in found:
        wanted = set(re.findall(r"\bjobfac_\w+", expression))
        assert wanted, expression
        assert {name.removesuffix("_bucket") for name in wanted} <= names | {
            family.name for family in families if family.type == "histogram"
        }, expression
        used = {one for group in re.findall(r"by \(([^)]*)\)", expression) for one in group.split(", ")}
        assert used | set(re.findall(r"(\w+)=~?\"", expression)) <= labels, expression
