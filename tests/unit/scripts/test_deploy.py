"""The files under scripts/deploy: what systemd itself says of the units, and that container and cluster agree."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jobfac.cli import app
from jobfac.cli.listing import Listed
from jobfac.settings import Settings

DEPLOY = Path(__file__).parents[3] / "scripts/deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
EXPOSURE = {"jobfac-api.service": 20, "jobfac-scheduler.service": 20, "jobfac-worker@.service": 60}
"""The highest exposure of each unit, in tenths. A worker's programs inherit its restrictions, so it has fewer."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a command that exists on this machine."""
    for unit in [*UNITS, DEPLOY / "systemd/jobfac.target"]:
        (tmp_path / unit.name).write_text(
            unit.read_text().replace("/opt/jobfac/bin/jobfac", shutil.which("true") or "")
        )
    return tmp_path


@needs_systemd
def test_systemd_accepts_every_unit(units: Path) -> None:
    names = [str(path).replace("@.", "@1.") for path in sorted(units.iterdir())]
    (units / "jobfac-worker@1.service").symlink_to(units / "jobfac-worker@.service")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", EXPOSURE)
def test_the_exposure_of_each_unit_is_limited(units: Path, unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[unit]}", str(units / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout.splitlines()[-1:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_role_can_read_the_boot_id(unit: Path) -> None:
    """Leases on SQLite end with the boot, so all roles of a machine must agree on it."""
    assert "ProcSubset=pid" not in unit.read_text()


def test_the_units_give_a_worker_more_time_to_stop_than_it_takes_to_drain() -> None:
    worker = (DEPLOY / "systemd/jobfac-worker@.service").read_text()
    assert int(re.findall(r"TimeoutStopSec=(\d+)", worker)[0]) > Settings().drain_limit
    assert "Delegate=yes" in worker
    assert "KillMode=mixed" in worker


def test_what_programs_write_can_be_read_by_others_as_under_cron() -> None:
    assert not re.search("^UMask=", (DEPLOY / "systemd/jobfac-worker@.service").read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_stop_of_the_target_waits_for_each_role_and_the_roles_end_before_the_database(unit: Path) -> None:
    """The order of a stop is that of a start, reversed; `systemctl stop` waits for the unit that it names."""
    after = re.search(r"^After=(.*)$", unit.read_text(), re.MULTILINE)
    assert after is not None
    assert {"jobfac.target", "mssql-server.service"} <= set(after[1].split())
    # The drives and the users that jobs need. A worker that is there before them ends each such run as start_failed.
    assert {"remote-fs.target", "nss-user-lookup.target"} <= set(after[1].split())
    assert "\nPartOf=jobfac.target\n" in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_no_number_of_restarts_leaves_a_role_stopped(unit: Path) -> None:
    """systemd's limit is five starts in ten seconds, those by hand included."""
    before, _, service = unit.read_text().partition("\n[Service]\n")
    assert before.endswith("\nStartLimitIntervalSec=0\n")
    assert "\nRestart=always\n" in service


def test_a_worker_of_root_gets_back_what_the_unit_takes_from_it() -> None:
    worker = (DEPLOY / "systemd/jobfac-worker@.service").read_text()
    kinds = r"User|Group|NoNewPrivileges|Protect\w+|Private\w+|Restrict[A-Z]\w+|LockP\w+|System\w+|Capability\w+"
    taken = re.findall(rf"^({kinds})=", worker, re.MULTILINE)
    given = {"User": "root", "Group": "root", "CapabilityBoundingSet": "~", "SystemCallArchitectures": ""}
    drop_in = "".join(f"{key}={given.get(key, 'no')}\n" for key in taken)
    # systemd gives a StateDirectory to the unit's user, with everything in it: units of two users cannot share one.
    own = "jobfac-root"
    drop_in += f"StateDirectory=\nStateDirectory={own}\nStateDirectoryMode=0711\n"
    drop_in += f"Environment=JOBFAC_SPOOL=/var/lib/{own}/spool\n"
    assert "StateDirectory=jobfac\n" in worker
    assert f"[Service]\n{drop_in}" in (DEPLOY.parents[1] / "jobfac/guide/deploying.md").read_text()


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(DEPLOY / name))


def test_pods_drain_before_they_stop_and_run_without_root() -> None:
    pods = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents("kubernetes/jobfac.yaml")
        if document["kind"] in ("Deployment", "Job")
    }
    assert set(pods) == {"jobfac-upgrade", "jobfac-worker", "jobfac-scheduler", "jobfac-api"}
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods.values())
    worker = pods["jobfac-worker"]
    assert worker["terminationGracePeriodSeconds"] > Settings().drain_limit
    container = worker["containers"][0]
    *shell, hook = container["lifecycle"]["preStop"]["exec"]["command"]  # Kubernetes replaces no $(POD_NAME) in it
    assert (shell, hook) == (["sh", "-c"], 'exec jobfac workers drain "$POD_NAME"')
    assert "$(POD_NAME)" in container["args"]
    state = next(one["value"] for one in container["env"] if one["name"] == "XDG_STATE_HOME")
    image = (DEPLOY / "container/Containerfile").read_text()
    assert [one["mountPath"] for one in container["volumeMounts"]] == [state]
    assert f"chmod 0700 {Path(state).parent}" in image, "others may write to the volume, but not enter the folder above"
    assert all("readinessProbe" in pod["containers"][0] for name, pod in pods.items() if name != "jobfac-upgrade")
    probes = [pod["containers"][0].get(f"{kind}Probe") for pod in pods.values() for kind in ("readiness", "liveness")]
    assert all(probe["timeoutSeconds"] >= 5 for probe in probes if probe), "the default is 1 s, and a node may be busy"
    user = re.findall(r"--uid (\d+)", image)
    assert {str(pod["securityContext"]["runAsUser"]) for pod in pods.values()} == set(user)


@pytest.mark.parametrize("name", ["compose.demo.yaml", "compose.fleet.yaml"])
def test_compose_files_give_roles_time_to_drain(name: str) -> None:
    services = documents(f"container/{name}")[0]["services"]
    roles = [service for service in services.values() if "build" in service]
    assert roles
    assert all(int(role["stop_grace_period"].rstrip("s")) > Settings().drain_limit for role in roles)


def test_the_api_of_a_container_listens_for_others() -> None:
    """On the loopback address of a container nobody reaches it, and without TLS it listens beyond that for a proxy."""
    image = re.search(r"^CMD (.*)$", (DEPLOY / "container/Containerfile").read_text(), re.MULTILINE)
    assert image is not None
    commands = [json.loads(image[1])]
    for name in ("compose.demo.yaml", "compose.fleet.yaml"):
        services = documents(f"container/{name}")[0]["services"].values()
        commands += [service["command"].split() for service in services if "ports" in service]
    pods = documents("kubernetes/jobfac.yaml")
    containers = [one["spec"]["template"]["spec"]["containers"][0] for one in pods if one["kind"] == "Deployment"]
    commands += [one["args"] for one in containers if one["args"][0] == "api"]
    assert [words[0] for words in commands] == ["up", "up", "api", "api"]
    for role, *words in commands:
        command = app.commands[role]
        assert isinstance(command, Listed)
        context = command.loaded.make_context(role, words)
        assert (context.params["host"], context.params["behind_proxy"]) == ("0.0.0.0", True)


def test_no_alert_of_the_factory_counts_it_once_for_each_api() -> None:
    """And none rests on a metric that is gone when the role whose end it reports has died."""
    groups = documents("monitoring/rules.yaml")[0]["groups"]
    rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    assert rules["JobfacUnseen"] == "absent(jobfac_workers)"
    whole = {name: text for name, text in rules.items() if not re.search("jobfac_(worker|scheduler|statement)_", text)}
    assert {"JobfacNoWorker", "JobfacSchedulerSilent", "JobfacFailures"} <= whole.keys()
    assert all(text.startswith(("max", "absent")) for text in whole.values()), whole


def test_the_dashboard_has_no_two_panels_in_one_place() -> None:
    panels = json.loads((DEPLOY / "monitoring/grafana.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})
