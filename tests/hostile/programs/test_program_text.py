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
        ["clickhouse", "client", "-q", X], ["clickhouse-local", f"--query=SELECT {X}"], ["sqlcmd", "/S", "s", "/Q", X],
        ["sqlcmd", "-EQ", X], ["mysqlsh", "--sql", "-e", X], ["awk", "-v", "n=1", f"{{print {X}}}"], ["julia", "-E", X],
        ["sed", f"--expr=s/{X}/a/"], ["python3", "-W", "ignore", "-c", X], ["bash", "--rcfile", "rc", "-c", X],
        ["bash", "a.sh", "bash", "-c", X], ["node", "--env-file", ".env", "-e", X], ["powershell", "-f", f"{X}.ps1"],
        ["pwsh", "-c", "x", "-File", "y", X], ["pwsh", "-File", "-", X],
        ["powershell", "-NoProfile", "x.ps1", X], ["rsync", "a", "ssh", X],
        ["rsync", "-e", "ssh", X, "b", "ssh", "h", X], ["php", "-c", "php.ini", "-r", X],
        ["Rscript", "-e", "1", "-e", X], ["gawk", "-i", "inplace", f"{{print {X}}}"], ["gawk", "-i", X, "1"],
        ["mawk", "-W", "interactive", X], ["flock", "/lock", "--command", X], ["su", "--session-command", X, "batch"],
        ["su", f"--session-command={X}", "batch"], ["sqlcmd", "-WQ", X],
        ["sed", "-i", "", f"s/{X}/a/", "f"], ["bash", "${due.date}", "-c", X], ["python3", "${due.date}", "-c", X],
        ["sqlite3", "${due.date}", X], ["sqlite3", "", X], ["docker", "run", "--entrypoint", "sh", "img", "-ec", X],
        ["docker", "run", "--entrypoint=/bin/sh", "img", "-c", X], ["docker", "run", "--entrypoint=sh", "img", "-c", X],
        ["docker", "run", "--entrypoint", "python3", "-v", "/a:/b", "img", "-c", X], ["su", "batch", f"-c{X}"],
        ["docker", "run", "--entrypoint=psql", "img", "-c", X], ["perl", "-0777ne", X], ["perl", f"-0777pes/a/{X}/"],
        ["start-stop-daemon", "--exec", "/bin/sh", "--pidfile", "p", "--", "-c", X], ["ruby", "-W0e", X],
        ["flock", "-w", "10", "/lock", "-c", X], ["flock", "/lock", "bash", "-c", X], ["su", "batch", "--comm", X],
        ["sed", "-ife.bak", f"s/{X}/a/", "f"], ["flock", "-w", "${due.date}", "/lock", "-c", X],
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
        ["python3", "-c", "import load", X], ["psql", "-f", "x.sql", "-U", X], ["sed", "s/a/b/", X],
        ["awk", "{print}", X], ["sqlite3", X], ["bcp", X, "in", "f.csv"], ["rsync", "-ce", "a", X],
        ["bash", "-o", "pipefail", "load.sh", X], ["psql", f"-hc{X}"], ["mysql", "-hexample", X], ["mysql", "-ue", X],
        ["psql", "-qf", "x.sql", f"-dc={X}"], ["mongosh", "-u", "me", "-p", X], ["node", "-r", "./a.js", "x.js", X],
        ["python3", "load.py", "-m", X], ["python3", "-m", "etl.load", "-m", X], ["python3", "-um", "etl", f"-mx={X}"],
        ["perl", "-w", "x.pl", "-I", X, f"-M{X}"], ["ruby", "-ne", "p", "x.rb", "-r", X], ["node", "x.js", "-r", X],
        ["node", "-r", "./a.js", "x.js", f"--import={X}"], ["php", "-d", "a=1", "x.php", "-d", X], ["sqlcmd", "-U", X],
        ["sqlcmd", "-v", "a=1", "-i", X], ["sqlplus", X, "@x.sql", "1"], ["expect", "x.exp", "-c", X],
        ["ansible-playbook", "-i", X], ["racket", "x.rkt", "-e", X], ["gdb", "-p", X], ["env", f"DAY={X}", "run"],
        ["run", f"MAKEFLAGS={X}"], ["python3", "-u", "load.py", "-c", X], ["python3", "-m", "etl", "-c", X],
        ["bash", "-eu", "load.sh", "-c", X], ["node", "--no-warnings", "x.js", "-e", X], ["perl", "x.pl", "-e", X],
        ["php", "-d", "a=1", "artisan", "load", "-r", X], ["Rscript", "--vanilla", "x.R", "-e", X],
        ["powershell.exe", "-NoProfile", "-ExecutionPolicy", "Bypass", "-File", "x.ps1", "-Day", X],
        ["rsync", "-az", "-e", "ssh", f"/data/{X}/", "backup:/data"], ["rsync", "-a", "/srv/make/", f"backup:/{X}"],
        ["curl", "https://example.org/hive", "-d", X], ["awk", "-F;", "-v", f"n={X}", "-f", "x.awk", X],
        ["sqlcmd", "/v", "a=1", "/i", X], ["load", "r", "-e", X], ["R", "CMD", "BATCH", f"--args day={X}", "load.R"],
        ["flock", "-n", "/lock", "python3", "load.py", "-c", X], ["flock", "-w", "10", "/lock", "sh", "x.sh", "-c", X],
        ["sed", "--expression=s/a/b/", X], ["sed", "-i", "-es/a/b/", X], ["sed", "-fx.sed", X], ["awk", "-fx.awk", X],
        ["sqlite3", "-separator", ";", X, ".dump"], ["bash", "load.sh", "--command", X],
        ["psql", "-o", f"/out/{X}.txt", "-f", "x.sql"], ["psql", f"--output=/out/{X}.txt"], ["psql", f"-qo./{X}"],
        ["busybox", "wget", "-c", X],
    ],
    ids=" ".join,
)  # fmt: skip
def test_values_beside_the_text_are_allowed(command: list[str]) -> None:
    d.from_data({"jobs": {"job": {"command": command, "parameters": {"x": {}}}}})


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "PSModulePath", "GIT_SSH_COMMAND"])
def test_no_value_chooses_programs_by_an_environment_variable(name: str) -> None:
    body = {"command": ["run"], "parameters": {"x": {}}, "environment": {name: f"/opt/{X}:/bin"}}
    assert f"environment.{name} has {X}, but by {name} a value would choose programs" in refused(body)
    for harmless in ("STAGE", "GIT_BRANCH", "DATA_PATH"):
        d.from_data({"jobs": {"job": {**body, "environment": {harmless: X, name: "/opt/bin"}}}})

    body = {**body, "command": ["sudo", "env", f"{name}=/opt/{X}", "run"], "environment": {}}
    assert f"command[2] has {X}, but by {name} a value would choose programs" in refused(body)


IN_PARTS = [
    ["perl", f"-M{X}", "-e", "1"], ["perl", f"-w{'m'}{X}", "x.pl"], ["perl", "-e", "1", "-I", X], ["perl", f"-d:{X}"],
    ["python3", "-m", X], ["python3", "-W", "ignore", f"-Im{X}"], ["ruby", "-w", "-r", X, "x.rb"], ["ruby", f"-I{X}"],
    ["node", "-r", "./a.js", "--require", X, "x.js"], ["node", f"--import={X}", "x.js"], ["lua", "-l", X],
    ["php", "-d", "a=1", "-d", f"memory_limit={X}", "x.php"], ["php", f"-dmemory_limit={X}", "x.php"],
    ["psql", "-f", "x.sql", "-v", f"day={X}"], ["psql", f"--set=day={X}"], ["psql", "--variable", f"day={X}"],
    ["psql", "-qf", "x.sql", f"-vc={X}"], ["psql", f"-qv{X}"], ["psql", "-Ato", X],
    ["sqlcmd", "-i", "x.sql", "-v", f"day={X}"],
    ["sqlcmd", "-v", "a=1", "b='2'", f"day={X}", "-i", "x.sql"], ["sqlplus", "-s", "/", "@x.sql", "1", X],
    ["sqlplus", "/", f"@{X}"], ["ansible-playbook", "x.yml", "-e", f"day={X}"], ["hive", "--hivevar", f"day={X}"],
    ["ansible-playbook", f"--extra-vars=day={X}", "x.yml"], ["trino", "--execute", f"SELECT {X}"], ["sg", "dba", X],
    ["sg", "dba", "-c", X], ["expect", "-c", X], ["capsh", "--user=x", "--", "-c", X], ["nu", "-c", X],
    ["xonsh", "-c", X], ["elvish", "-c", X], ["guile", "-c", X], ["racket", "-l", "racket/base", "-e", X],
    ["erl", "-noshell", "-eval", X], ["elixir", "-e", X], ["octave", "--path", "/x", "--eval", X], ["matlab", "-r", X],
    ["emacs", "--batch", "--eval", X], ["scala", "-e", X], ["gdb", "-batch", "-ex", X], ["vim", "-es", "-c", X],
    ["env", f"MAKEFLAGS=-j{X}", "make"], ["gmake", "deploy", f"BRANCH={X}"],
    ["sqlcmd", "/S", "s", "/v", "a=1", f"day={X}"], ["sqlcl", "/", "@x.sql", X], ["sqlplus", "/", "@x.sql", "-1", X],
    ["hive", "-hivevar", f"day={X}"], ["ansible-playbook", "x.yml", "-bve", f"day={X}"], ["vim", "-Esc", X],
    ["psql", "-o", f"|gzip > {X}"], ["psql", f"--output={X}.txt"], ["psql", f"-qo|x {X}"],
    ["rsync", "-ae", f"ssh {X}", "a", "b"], ["rsync", f"--rsh=ssh {X}", "a", "b"],
]  # fmt: skip
PLAIN: list[dict[str, Any]] = [
    *({"type": kind} for kind in ("integer", "number", "boolean", "date", "datetime", "duration")),
    {"type": "choice", "choices": ["a b", "c"]},
    {"type": "integer", "many": True},
    *(
        {"pattern": one}
        for one in ("[A-Z]{3}", r"\d{4}-\d\d", "(?:eu|us)_[a-z0-9_.-]+", r"^\w+(\.\w+)?$", "[0-9]+[gm]?")
    ),
]
FREE: list[dict[str, Any]] = [
    {},
    {"type": "date", "many": True},
    *(
        {"pattern": one}
        for one in (".*", "[^;]+", "[A-z]+", r"[\d;]+", "[0-z]", r"\S+", "a b", r"[\w ]+", "(?=a).", "x'y", "[,-<]")
    ),
]


@pytest.mark.parametrize("command", IN_PARTS, ids=" ".join)
def test_free_text_becomes_no_part_of_a_program(command: list[str]) -> None:
    assert f"has {X}, which would become a part of a program" in refused({"command": command, "parameters": {"x": {}}})
    d.from_data({"jobs": {"job": {"command": command, "parameters": {"x": {"type": "date"}}}}})


@pytest.mark.parametrize("name", ["MAKEFLAGS", "MAVEN_OPTS", "PSQLRC", "KUBECONFIG", "JAVA_HOME", "npm_config_prefix"])
def test_options_in_environment_variables_take_no_free_text(name: str) -> None:
    body = {"command": ["run"], "parameters": {"x": {}}, "environment": {name: f"-j{X}"}}
    assert f"environment.{name} has {X}, which would become a part of a program" in refused(body)


@pytest.mark.parametrize("x", PLAIN, ids=str)
def test_values_that_hold_no_program_may_be_a_part_of_one(x: dict[str, Any]) -> None:
    body = {"command": ["sqlcmd", "-v", f"day={X}"], "environment": {"MAKEFLAGS": f"-j{X}"}, "parameters": {"x": x}}
    d.from_data({"jobs": {"job": body}})
    steps = [{"name": "s", "jobs": ["load"], "arguments": {"load": ["-v", f"day={X}", "at=${due.date}"]}}]
    d.from_data({"jobs": {"seq": {"parameters": {"x": x}, "steps": steps}, "load": {"command": ["sqlcmd"]}}})


@pytest.mark.parametrize("x", FREE, ids=str)
def test_what_may_hold_a_program_is_free_text(x: dict[str, Any]) -> None:
    job = {"command": ["sqlcmd", "-v"], "parameters": {"x": x}}
    why = f"has {X}, which would become a part of a program as it is"
    assert f"arguments[0] {why}" in refused({**job, "arguments": [f"day={X}"]})
    schedules = [{"cron": "0 0 * * *", "arguments": [f"day={X}"]}]
    assert f"schedules[0].arguments[0] {why}" in refused({**job, "schedules": schedules})
    steps = [{"name": "s", "jobs": ["load"], "arguments": {"load": [f"day={X}"]}}]
    sequence = {"parameters": {"x": x}, "steps": steps}
    assert f"steps[0].arguments.load[0] {why}; give the value to a parameter of 'load'" in refused(sequence, load=job)


@pytest.mark.parametrize("free", ["${trigger.path}", "${trigger.run.outputs.x}", "${steps.s.load.outputs.x}"])
def test_what_others_have_written_is_free_text(free: str) -> None:
    load: dict[str, Any] = {"command": ["sqlcmd", "-v"]}
    if "steps" not in free:
        said = refused({"command": ["sqlcmd", "-v", f"a={free}"]})
        assert f"command[2] has {free}, which would become" in said
        assert f'declare a parameter with the default "{free}" and a pattern of letters and digits' in said
    steps = [{"name": "s", "jobs": ["load"]}, {"name": "t", "jobs": ["load"], "arguments": {"load": [free]}}]
    assert "steps[1].arguments.load[0] has ${" in refused({"steps": steps}, load=load)


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
