"""A value of a parameter never becomes text of a program, and a sensitive one never a part of what lists show."""

from typing import Any

import pytest

from jobfac import definitions as d

X = "${parameters.x}"


def refused(job: dict[str, Any], **others: Any) -> str:
    with pytest.raises(d.DefinitionError) as caught:
        d.from_data({"jobs": {"job": job, **others}})
    return str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-ceu", X], ["sh", "-cx", X], ["bash", "-co", "pipefail", X], ["bash", "-c", "-o", "pipefail", X],
        ["bash", "-ceuo", "pipefail", X], ["bash", "-c", "--norc", X], ["ksh93", "-c", X], ["bash-5.2", "-c", X],
        ["flock", "/lock", "-c", X], ["script", "-qefc", X], ["su", "batch", f"--command={X}"],
        ["python3", f"-cprint('{X}')"], ["python3", "-u", f"-Ic{X}"], ["perl", f"-e{X}"], ["node", f"--eval={X}"],
        ["Rscript", "-e", X], ["psql", "-d", "db", f"-cSELECT {X}"], ["psql", f"--command=SELECT {X}"],
        ["bcp", f"SELECT {X}", "queryout", "f.csv", "-c"], ["osql", "-E", "-Q", X], ["mongosh", "--eval", X],
        ["sqlcmd", "-S", "s", f"-QSELECT {X}"], ["clickhouse-client", f"--query=SELECT {X}"], ["duckdb", "-c", X],
        ["sqlite3", "x.db", f"SELECT {X}"], ["mongo", "--eval", X], ["mysql", f"--init-command={X}"],
        ["sqlcmd", "--initial-query", X], ["sed", "-n", X], ["awk", X], ["psql", "-d", "db", "-XAtc", X],
        ["psql", f"-tAcSELECT {X}"], ["psql", f"--com=SELECT {X}"], ["mysql", "-ubatch", "-BNe", X],
        ["mariadb", f"-NeSELECT {X}"], ["mysql", "--exec", X], ["node", "-pe", X], ["php", "-R", X],
        ["clickhouse", "client", "-q", X], ["clickhouse-local", f"--query=SELECT {X}"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_value_becomes_the_text_of_an_interpreter(command: list[str]) -> None:
    assert "in the text of a program" in refused({"command": command, "parameters": {"x": {}}})


@pytest.mark.parametrize("command", [["bash", "-c"], ["python3", "-c"], ["sh", "-ceu"], ["psql", "-c"]], ids=" ".join)
def test_arguments_are_read_together_with_the_command(command: list[str]) -> None:
    body = {"command": command, "parameters": {"x": {}}}
    assert "arguments[0] has ${parameters.x} in the text" in refused({**body, "arguments": [X]})
    schedules = [{"cron": "0 0 * * *", "arguments": [X]}]
    assert "schedules[0].arguments[0] has ${parameters.x} in the text" in refused({**body, "schedules": schedules})


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", 'cat "$1"', "sh", X], ["sh", "load.sh", X], ["python3", "load.py", f"-csv={X}"],
        ["python3", "-c", "import load", X], ["psql", "-f", "x.sql", "-v", f"day={X}"], ["sed", "s/a/b/", X],
        ["awk", "{print}", X], ["sqlite3", X], ["bcp", X, "in", "f.csv"], ["rsync", "-ce", "a", X],
        ["bash", "-o", "pipefail", "load.sh", X], ["psql", f"-hc{X}"], ["mysql", "-hexample", X], ["mysql", "-ue", X],
        ["psql", "-qf", "x.sql", f"-vc={X}"], ["mongosh", "-u", "me", "-p", X],
    ],
    ids=" ".join,
)  # fmt: skip
def test_values_beside_the_text_are_allowed(command: list[str]) -> None:
    d.from_data({"jobs": {"job": {"command": command, "parameters": {"x": {}}}}})


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "PERL5OPT", "GIT_SSH_COMMAND"])
def test_no_value_chooses_programs_by_an_environment_variable(name: str) -> None:
    body = {"command": ["run"], "parameters": {"x": {}}, "environment": {name: f"/opt/{X}:/bin"}}
    assert f"environment.{name} has {X}, but by {name} a value would choose programs" in refused(body)
    for harmless in ("ENV", "GIT_BRANCH", "DATA_PATH"):
        d.from_data({"jobs": {"job": {**body, "environment": {harmless: X, name: "/opt/bin"}}}})


CHILD = {"command": ["true"], "parameters": {"x": {"sensitive": True}, "open": {}}}


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ({"arguments": {"child": [X]}}, "steps[0].arguments.child[0]"),
        ({"payloads": {"child": f"a {X}"}}, "steps[0].payloads.child"),
        ({"parameters": {"child": {"open": X}}}, "steps[0].parameters.child.open"),
        ({"for_each": {"open": [X]}}, "steps[0].for_each.open[0]"),
    ],
)
def test_a_sensitive_value_is_given_to_sensitive_parameters_only(step: dict[str, Any], place: str) -> None:
    sequence = {"parameters": {"x": {"sensitive": True}}, "steps": [{"name": "s", "jobs": ["child"], **step}]}
    assert f"{place} has a sensitive parameter, which lists would show there" in refused(sequence, child=CHILD)
    sequence["steps"] = [{"name": "s", "jobs": ["child"], "parameters": {"child": {"x": X}}}]
    d.from_data({"jobs": {"job": sequence, "child": CHILD}})


def test_a_schedule_shows_no_sensitive_value() -> None:
    job = {"command": ["true"], "parameters": {"x": {"sensitive": True, "default": "y"}}}
    for given in ({"arguments": [X]}, {"payload": X}):
        assert "which lists would show there" in refused({**job, "schedules": [{"cron": "0 0 * * *", **given}]})
