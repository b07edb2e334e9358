"""Placeholders in the texts of a definition: where they may stand, and what a value can and cannot do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import DefinitionError, from_data
from jobfac.definitions.parameters import Context, UnresolvedError, bind, fill, fill_address, fill_path, fill_pattern

DUE = datetime(2027, 1, 31, 6, 30, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
hostile = texts | st.sampled_from(
    ["'; rm -rf / #", '"$(id)"', "`id`", "${parameters.b}", "$${run.id}", "a b", "--", "-rf", "\n", "%s", "{}", "\\"]
)


def wrong(**body: Any) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        from_data({"jobs": {"j": {"command": ["true"], **body}}})
    return [problem.message for problem in caught.value.problems]


@given(hostile, hostile)
def test_whatever_the_value_it_stays_inside_its_own_argument(a: str, b: str) -> None:
    context = Context(due=DUE, values={"a": a, "b": b}, run_id=7)
    command = ("load", "--a", "${parameters.a}", "x=${parameters.b};${parameters.a}", "${HOME}", "$${parameters.a}")
    assert [fill(one, context) for one in command] == [
        "load", "--a", a, f"x={b};{a}", "${HOME}", "${parameters.a}",
    ]  # fmt: skip


@pytest.mark.parametrize(("month", "day", "shown"), [(3, 28, "01:30+02:00"), (10, 31, "00:30+01:00")])
def test_an_offset_of_a_time_is_real_time(month: int, day: int, shown: str) -> None:
    """A start by hand has a zone, a start by a schedule an offset: both say the same after a clock change."""
    due = datetime(2027, month, day, 1, 30, tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin"))
    for moment in (due, datetime.fromisoformat(due.isoformat())):
        found = datetime.fromisoformat(fill("${due.at - 2h}", Context(due=moment)))
        assert due - found.astimezone(UTC) == timedelta(hours=2)
        assert found.isoformat()[11:].replace(":00+", "+", 1) == shown


@given(hostile)
def test_whatever_the_value_a_file_stays_in_its_folder(value: str) -> None:
    context = Context(due=DUE, values={"a": value})
    for path, folder in (("logs/${parameters.a}.log", "logs/"), ("/var/log/x-${parameters.a}/out", "/var/log/")):
        try:
            found = fill_path(path, context)
        except UnresolvedError:
            continue
        assert found.startswith(folder)
        assert ".." not in found.split("/")


@pytest.mark.parametrize("value", ["../x", "a/../../x", "/etc/passwd", "a\\..\\..\\x", "..", "x*", "a\nb", "~root"])
def test_a_value_cannot_lead_a_path_elsewhere(value: str) -> None:
    with pytest.raises(UnresolvedError, match="give a plain name"):
        fill_path("logs/${parameters.a}", Context(due=DUE, values={"a": value}))


@pytest.mark.parametrize(
    ("path", "a", "b"),
    [
        ("${parameters.a}/out.log", "", "x"),  # a path from the root
        ("${parameters.a}/*.csv", None, "x"),
        (".${parameters.a}/out.log", ".", "x"),
        ("${parameters.a}${parameters.b}/out.log", ".", "."),
        ("${parameters.a}${parameters.b}", ".", "./secret"),
        ("x/${parameters.b}/.${parameters.a}/${parameters.b}", ".", "y"),
    ],
)
def test_blank_values_and_single_dots_lead_a_path_nowhere_else(path: str, a: str | None, b: str) -> None:
    context = Context(due=DUE, values={"a": a, "b": b})
    for fill_in in (fill_path, fill_pattern):
        with pytest.raises(UnresolvedError, match="give a plain name"):
            fill_in(path, context)


@pytest.mark.parametrize(
    ("url", "a"), [("http://h/api/${parameters.a}/state", ".."), ("http://h/api/.${parameters.a}?x=1", ".")]
)
def test_a_value_leads_an_address_to_no_other_path(url: str, a: str) -> None:
    with pytest.raises(UnresolvedError, match="another path"):
        fill_address(url, Context(due=DUE, values={"a": a}))
    assert fill_address(url, Context(due=DUE, values={"a": "v1..2/x"})).endswith(("/v1..2%2Fx/state", "v1..2%2Fx?x=1"))


def test_a_path_takes_names_and_folders() -> None:
    context = Context(due=DUE, values={"a": "2027/jan", "b": None})
    assert fill_path("logs/${parameters.a}/${due.date}-*.log", context) == "logs/2027/jan/2027-01-31-*.log"
    assert fill_path("${parameters.a}${parameters.b}.log", context) == "2027/jan.log"
    assert fill_path("/plain/$${due.date}", context) == "/plain/${due.date}"


TEXT = 'command[{}] has ${{parameters.a}} in the text of a program; write "$JOBFAC_PARAM_A" in that text'
READ = "command[{}] has ${{parameters.a}} in the text of a program; read the environment variable JOBFAC_PARAM_A"
GIVE = "command[{}] has ${{parameters.a}} in the text of a program; give it as an argument behind that text"
BIND = "command[{}] has ${{parameters.a}} in the text of a program; let a job with sql bind the value"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["${parameters.a}"], "command[0] has ${parameters.a}, but a value must not choose the program; name it"),
        (["sh", "-c", "echo ${parameters.a}"], TEXT.format(2)),
        (["env", "X=1", "bash", "-lc", "${parameters.a}"], TEXT.format(4)),
        (["sh", "-c", "-e", "${parameters.a}"], TEXT.format(3)),
        (["python3.11", "-c", "print(${parameters.a})"], READ.format(2)),
        (["awk", "{print ${parameters.a}}"], READ.format(1)),
        (["ssh", "host", "ls", "${parameters.a}"], f"{TEXT.format(3)}, and let ssh send JOBFAC_PARAM_A"),
        (["cmd.exe", "/c", "dir", "${parameters.a}"], READ.format(3)),
        (["docker", "exec", "db", "node", "-e", "${parameters.a}"], GIVE.format(5)),
        (["sudo", "sh", "-c", "${parameters.a}"], f"{GIVE.format(3)}, as in sh -c 'load \"$1\"' sh ${{parameters.a}}"),
        (["psql", "-c", "SELECT ${parameters.a}"], BIND.format(2)),
        (["sqlcmd", "-S", "s", "-Q", "SELECT ${parameters.a}"], BIND.format(4)),
        (["sudo", "bcp", "SELECT ${parameters.a}", "queryout", "f"], BIND.format(2)),
        (["sh", "-c", "x ${due.date}"], 'command[2] has ${due.date} in the text of a program; set VALUE: "${due.date}" '
            'under environment, and write "$VALUE" in that text'),
        (["watch", "-n", "5", "df ${parameters.a}"], TEXT.format(3)),
        (["parallel", "gzip ${parameters.a}", ":::", "x"], TEXT.format(1)),
        (["env", "-S", "run ${parameters.a}"], READ.format(2)),
        (
            ["pwsh", "-c", "run ${parameters.a}"],
            "command[2] has ${parameters.a} in the text of a program; give it to a script behind -File, or write "
            "$env:JOBFAC_PARAM_A in that text",
        ),
    ],
)  # fmt: skip
def test_a_value_is_never_text_of_a_program(command: list[str], says: str) -> None:
    [said] = wrong(command=command, parameters={"a": {}})
    assert said.startswith(says)


@pytest.mark.parametrize("given", ["${parameters.x}", "echo ${steps.s.first.outputs.n}", "${due.date}"])
def test_a_step_and_a_schedule_give_no_text_of_a_program(given: str) -> None:
    known = {"run": {"command": ["bash", "-c"]}, "first": {"command": ["true"]}}
    first = {"name": "s", "jobs": "first"}

    def said(arguments: list[str], **more: Any) -> list[str]:
        last = {"name": "t", "jobs": ["run"], "arguments": {"run": arguments}}
        sequence = {"parameters": {"x": {}}, "steps": [first, last], **more}
        with pytest.raises(DefinitionError) as caught:
            from_data({"jobs": {"seq": sequence}}, known=known)
        return [problem.message for problem in caught.value.problems]

    why = "has a placeholder in the text of a program; give the value to a parameter of 'run', and read its environment"
    assert said(["-e", given]) == [f"steps[1].arguments.run[1] {why} variable in that text"]
    if "${steps." not in given:
        schedule = {"cron": "@daily", "arguments": {"run": [given]}}
        says = [f"{place}.arguments.run[0] {why} variable in that text" for place in ("steps[1]", "schedules[0]")]
        assert said([given], schedules=[schedule]) == says
    known["run"] = {"command": ["psql", "-c"]}
    assert said([given]) == [
        "steps[1].arguments.run[0] has a placeholder in the text of a program; let a job with sql bind the value "
        "(jobfac help sql)"
    ]
    known["run"] = {"command": ["bash", "-c"]}
    fits = {"name": "t", "jobs": ["run"], "arguments": {"run": ['echo "$1"', "bash", given]}}
    from_data({"jobs": {"seq": {"parameters": {"x": {}}, "steps": [first, fits]}}}, known=known)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (
            {"jobs": "one", "arguments": {"one": ["${steps.laod.one.outputs.n}"]}},
            "steps[2].arguments.one[0] refers to ${steps.laod.one.outputs.n}, but no step of the sequence has that "
            "job; write ${steps.STEP.JOB.outputs.KEY}",
        ),
        (
            {"jobs": "one", "payloads": {"one": "${steps.ask.outputs.m}"}},
            "steps[2].payloads.one names 'm', for which the step 'ask' does not ask; declare it under "
            "approve.parameters of 'ask'",
        ),
        (
            {"wait": {"file": "/in/${steps.load.one.outputs.n}"}},
            "steps[2].wait.file has ${steps.load.one.outputs.n}, which is not known there; use ${parameters.NAME}",
        ),
        (
            {"approve": {"parameters": {"p": {"default": "${steps.load.one.outputs.n}"}}}},
            "steps[2].approve.parameters.p.default has ${steps...}, which is not known there; let the approver give "
            "the value",
        ),
        ({"jobs": "one", "payloads": {"one": "${steps.load.one.outputs.a.outputs.b} ${steps.ask.outputs.n}"}}, None),
    ],
)
def test_references_to_steps_name_what_is_there(last: dict[str, Any], says: str | None) -> None:
    ask = {"name": "ask", "approve": {"parameters": {"n": {}}}}
    steps = [{"name": "load", "jobs": "one"}, ask, {"name": "last", **last}]
    data = {"jobs": {"one": {"command": ["true"]}, "seq": {"steps": steps}}}
    if says is None:
        from_data(data)
        return
    with pytest.raises(DefinitionError) as caught:
        from_data(data)
    assert [problem.message for problem in caught.value.problems] == [says]


def test_a_shell_gets_values_as_variables_and_as_arguments() -> None:
    says = (
        'command has ${parameters.a}, but with shell: true a value would become program text; write "$JOBFAC_PARAM_A"'
    )
    assert wrong(shell=True, command="echo ${parameters.a}", parameters={"a": {}}) == [says]
    for body in (
        {"shell": True, "command": 'echo "$JOBFAC_PARAM_A" "$1"', "arguments": ["${parameters.a}"]},
        {"command": ["sh", "-c", 'echo "$1"', "sh", "${parameters.a}"]},
    ):
        from_data({"jobs": {"j": {**body, "parameters": {"a": {}}}}})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            {"arguments": ["${parameters.dya}"], "parameters": {"day": {}}},
            "arguments[0] names the unknown parameter 'dya'; did you mean 'day'?",
        ),
        (
            {"environment": {"X": "${due.dat}"}},
            "environment.X has the unknown ${due.dat}; known are ${parameters.NAME}, ${due.date}, ${due.at}, "
            "${previous.success.date}, ${previous.success.at}, ${run.id}, ${trigger.path}, ${trigger.name}, "
            "${trigger.size}, ${trigger.run.id}, ${trigger.run.job}, ${trigger.run.state}",
        ),
        (
            {"directory": "/data/${previous.success.date}"},
            "directory has ${previous.success.date}, which is not known there; declare a parameter with the default "
            '"${previous.success.date}" and refer to that',
        ),
        (
            {"output": {"stdout": {"append": "x-${run.id - 1d}"}}},
            "output.stdout.append has an offset in ${run.id - 1d}, which only due.date, due.at, "
            "previous.success.date, previous.success.at take",
        ),
        (
            {"schedules": [{"cron": "@daily", "payload": "${run.id}"}]},
            "schedules[0].payload has ${run.id}, which is not known there; use it in the job's own command or "
            "environment",
        ),
        (
            {"schedules": [{"cron": "@daily", "parameters": {"n": "x"}}], "parameters": {"n": {"type": "integer"}}},
            "schedules[0].parameters.n must be a whole number, not 'x'",
        ),
        (
            {"schedules": [{"cron": "@daily"}], "parameters": {"n": {"required": True}}},
            "schedules[0] must give 'n', which is required",
        ),
        (
            {"schedules": [{"cron": "@daily", "parameters": {"m": 1}}], "parameters": {"n": {}}},
            "schedules[0].parameters names the unknown parameter 'm'; known are n",
        ),
        ({"environment": {"JOBFAC_PARAM_X": "1"}}, "environment has a wrong key: it must not be JOBFAC_PARAM_X, which "
         "is set for each run; choose another name"),
        ({"parameters": {"n": {"type": "choice"}}}, "parameters.n is a choice without choices; list them, such as "
         "choices: [eu, us]"),
        ({"parameters": {"n": {"minimum": 1}}}, "parameters.n has minimum, which only the type integer or "
         "number takes"),
        ({"parameters": {"n": {"required": True, "default": "x"}}}, "parameters.n is required and has a default; "
         "remove one of them"),
        ({"parameters": {"n": {"type": "integer", "default": "x"}}}, "parameters.n has a default that must be a whole "
         "number, not 'x'"),
        ({"parameters": {"n": {"type": "date", "default": "${due.at}"}}}, "parameters.n has a default that must be a "
         "date that exists, as YYYY-MM-DD, not '2027-01-31T06:30:00+00:00'"),
        ({"parameters": {"n": {"default": "${parameters.m}"}, "m": {}}}, "parameters.n has a default with "
         "${parameters.m}; a default may refer to due, run, previous, trigger only"),
        ({"parameters": {"n": {"pattern": "["}}}, "parameters.n.pattern must be a regular expression, not '[': "
         "unterminated character set at position 0"),
        ({"parameters": {"n-m": {}}}, "parameters has a wrong key: it must be a letter and up to 63 letters, digits "
         "or '_', not 'n-m'"),
        ({"parameters": {"n": {}, "N": {}}}, "parameters has 'N' and 'n', which differ only in case; rename one of "
         "them"),
        ({"parameters": {"n": {"minimum": 5, "maximum": 1, "type": "integer"}}}, "parameters.n has a minimum (5) above "
         "its maximum (1)"),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_explained(body: dict[str, Any], says: str) -> None:
    assert wrong(**body) == [says]


def test_a_step_must_give_what_its_jobs_require() -> None:
    load = {"command": ["true"], "parameters": {"n": {"type": "integer", "required": True}}}

    def said(step: dict[str, Any]) -> list[str]:
        sequence = {"parameters": {"x": {}}, "steps": [{"name": "s", "jobs": ["load"], **step}]}
        with pytest.raises(DefinitionError) as caught:
            from_data({"jobs": {"seq": sequence}}, known={"load": load})
        return [problem.message for problem in caught.value.problems]

    assert said({}) == ["steps[0].parameters.load must give 'n', which is required"]
    assert said({"parameters": {"load": {"n": "x"}}}) == ["steps[0].parameters.load.n must be a whole number, not 'x'"]
    assert said({"parameters": {"load": {"n": "${parameters.y}"}}}) == [
        "steps[0].parameters.load.n names the unknown parameter 'y'; declare it under parameters"
    ]
    fits = {"steps": [{"name": "s", "jobs": "load", "parameters": {"load": {"n": "${parameters.x}"}}}]}
    from_data({"jobs": {"seq": {"parameters": {"x": {}}, **fits}}}, known={"load": load})


def test_sql_text_gets_bound_parameters() -> None:
    context = Context(due=DUE, values={"day": "'; DROP TABLE x --"}, run_id=7)
    text, bound = bind("EXEC p @a = ${parameters.day}, @b = ${run.id}, @c = ${parameters.day}", context, ":{}".format)
    assert text == "EXEC p @a = :p1, @b = :p2, @c = :p1"
    assert {name: str(one) for name, one in bound.items()} == {"p1": "${parameters.day}", "p2": "${run.id}"}


def test_comments_of_a_sql_text_may_say_anything() -> None:
    def read(text: str) -> None:
        sql = {"connection": {"secret": "env:DW"}, "text": text}
        from_data({"jobs": {"j": {"sql": sql, "parameters": {"a": {}}}}})

    read("-- ${due.date} and ${parameters.b}\nEXEC p ${parameters.a}, '--', 1 /* ${run.id} */; -- ${nothing.x}")
    with pytest.raises(DefinitionError, match=r"sql\.text names the unknown parameter 'b'"):
        read("EXEC p '--', ${parameters.b}")
