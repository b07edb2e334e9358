"""Whatever a script holds, reading it ends in jobs and sentences; and the parts of the reading, one by one."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobfac.definitions import from_data, loads
from jobfac.importers.agent import Converter, Options, read_scripts, schedules, write
from jobfac.importers.agent.calls import Script
from jobfac.importers.agent.commands import expand, split
from jobfac.importers.agent.lexer import Broken, tokens
from jobfac.importers.agent.model import Place, Schedule
from jobfac.recurrence import due_times
from tests.unit.examples import examples
from tests.unit.importers.agent.cases import CASES
from tests.unit.importers.agent.reference import relative_day

OPTIONS = Options("UTC", "env:SQL_AGENT_URL")
SCRIPTS = [script if isinstance(script, bytes) else script.encode() for script in CASES.values()]


def convert(data: bytes) -> list[str]:
    converter = Converter(read_scripts(iter([("x.sql", data)])), OPTIONS)
    if defined := converter.convert():
        loads(write(defined))
    return [str(remark) for remark in converter.remarks]


@settings(deadline=None, max_examples=examples(50))
@given(st.sampled_from(SCRIPTS), st.data())
def test_a_damaged_script_gives_sentences(script: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(script)))
    end = data.draw(st.integers(start, min(len(script), start + 200)))
    piece = data.draw(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"'", b"/*", b"[", b"\nGO\n", b"@", b",", b"("]))
    )
    for sentence in convert(script[:start] + piece + script[end:]):
        assert sentence.startswith("x.sql")
        assert "\n" not in sentence.partition(": ")[0]


@settings(deadline=None)
@given(st.text())
@example("EXEC sp_add_job @job_name = N'a'; EXEC sp_add_jobstep @job_name = N'a', @step_id = 99999999999999999999")
@example("EXEC sp_add_job 'a', @job_name = 'b'")
@example("EXEC sp_add_job @job_name = 'a', @enabled = 1.5, @job_name = 'b'")
@example("EXEC")
@example("EXEC @r = ")
@example("DECLARE @x int = (((((")
def test_any_text_gives_sentences(text: str) -> None:
    convert(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "piece", ["'", "''", "/*", "(", "EXEC sp_add_job ", "GO ", "SELECT @a = (", "@x,", "[[", "+ N'a' "]
)
def test_hostile_repetition_comes_to_an_end(piece: str) -> None:
    convert(f"DECLARE @x nvarchar(max) = {piece * 20_000}".encode())


def test_go_separates_only_where_it_has_the_line_to_itself() -> None:
    script = "SELECT 'a\nGO\nb' /*\nGO\n*/ -- x\n  go 3 -- again\nGO;\nSELECT go\nGOTO x"
    assert [token.line for token in tokens(script) if token.kind == "go"] == [6, 7]


def test_comments_nest() -> None:
    assert [token.value for token in tokens("a /* b /* c */ d */ e")] == ["a", "e"]
    with pytest.raises(Broken, match="a comment that begins here has no end"):
        list(tokens("\n/* b /* c */ d"))


def test_a_call_in_full_words_and_a_call_in_one_line_are_the_same() -> None:
    for text in (
        "execute [msdb] . [dbo] . [sp_add_job] @job_name = N'a', @enabled = 0;",
        'DECLARE @r int EXEC @r=msdb..sp_add_job @JOB_NAME="a",@Enabled=0 IF @r<>0 RETURN',
    ):
        [call] = Script(text).calls()
        assert (call.procedure, call.arguments) == ("sp_add_job", {"job_name": "a", "enabled": 0})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        # The examples of Microsoft's page about the arguments of C programs.
        ('x "a b c" d e', ["x", "a b c", "d", "e"]),
        (r'x "ab\"c" "\\" d', ["x", 'ab"c', "\\", "d"]),
        (r"x a\\\b d\"e f\"g h".replace('d\\"e f\\"g', 'd"e f"g'), ["x", "a\\\\\\b", "de fg", "h"]),
        (r"x a\\\"b c d", ["x", r"a\"b", "c", "d"]),
        (r'x a\\\\"b c" d e', ["x", r"a\\b c", "d", "e"]),
        ('x a"b"" c d', ["x", 'ab" c d']),
        (r'"C:\a b\" c', ["C:\\a b\\", "c"]),
        ("", []),
        ('x ""', ["x", ""]),
        ("x\t\n y ", ["x", "y"]),
    ],
)
def test_windows_command_lines(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_tokens_are_escaped_as_agent_does_it() -> None:
    text = (
        "$(ESCAPE_SQUOTE(JOBNAME)) $(ESCAPE_RBRACKET(JOBNAME)) $(ESCAPE_NONE(STEPID)) $(STEPNAME) $(WMI(x)) $(Get-Date)"
    )
    found = expand(text, "a'b]c", "s", 7)
    assert found.text == "a''b]c a'b]]c 7 s $(WMI(x)) $(Get-Date)"
    assert list(found.unknown) == ["WMI"]


@pytest.mark.parametrize("enabled", [1, 0])
def test_a_disabled_operator_is_not_told(enabled: int) -> None:
    script = (
        "EXEC sp_add_job @job_name = N'a', @notify_level_email = 2, @notify_email_operator_name = N'Left';"
        "EXEC sp_add_jobstep @job_name = N'a', @step_name = N's', @command = N'SELECT 1';"
        f"EXEC sp_add_operator @name = N'Left', @enabled = {enabled}, @email_address = N'left@example.org';"
    )
    converter = Converter(read_scripts(iter([("x.sql", script.encode())])), OPTIONS)
    assert ("left@example.org" in write(converter.convert())) == bool(enabled)
    disabled = "it notifies the operator 'Left', which is disabled"
    assert any(disabled in str(remark) for remark in converter.remarks) != bool(enabled)


STEP = "EXEC sp_add_job @job_name = N'a'; EXEC sp_add_jobstep @job_name = N'a', @step_name = N's', "


@pytest.mark.parametrize(
    ("script", "remark"),
    [
        ("SET @n = 2 * 3", "the value of @retry_attempts (an expression) cannot be read"),
        ("SET @n = 5 - 3", "the value of @retry_attempts (an expression) cannot be read"),
        ("SET @n = 1 SET @n *= 2", "the value of @retry_attempts (an expression) cannot be read"),
        ("SELECT TOP (1) @n = n FROM t", "the value of @retry_attempts (n) cannot be read"),
        ("FETCH NEXT FROM c INTO @m, @n", "the value of @retry_attempts (@n) cannot be read"),
        ("EXEC other @n OUTPUT", "the value of @retry_attempts (@n) cannot be read"),
    ],
)
def test_a_value_that_only_the_server_knows_is_a_remark(script: str, remark: str) -> None:
    found = convert(f"DECLARE @n int = 1\n{script}\n{STEP} @command = N'x', @retry_attempts = @n".encode())
    assert any(remark in one for one in found)


def test_a_proxy_given_by_its_id_is_a_remark() -> None:
    [said] = convert(f"{STEP} @subsystem = N'CmdExec', @command = N'x', @proxy_id = 3".encode())
    assert "step 1 's': it runs as the proxy with the id 3; set user" in said


@pytest.mark.parametrize(
    ("flow", "remarks"),
    [
        ("IF @@SERVERNAME = 'x' SET @n = 1\nELSE SET @n = 2", ["x.sql:2: both branches of IF and ELSE were read"]),
        ("WHILE @n < 5 BEGIN SET @n += 1 END", ["x.sql:1: what WHILE repeats was read once"]),
        ("SELECT CASE WHEN 1 = 1 THEN 2 ELSE 3 END", []),
    ],
)
def test_flow_that_is_not_followed_is_a_remark(flow: str, remarks: list[str]) -> None:
    found = convert(f"{flow}\n{STEP} @command = N'x'".encode())
    assert [one.partition(",")[0].partition(";")[0] for one in found] == remarks
    assert not [one for one in convert(flow.encode()) if "read" in one]  # it adds nothing


def test_steps_that_wait_in_a_circle_may_do_so_for_long() -> None:
    script = """EXEC sp_add_job @job_name = N'a'
        EXEC sp_add_jobstep @job_name = N'a', @step_name = N'first', @command = N'1', @on_success_action = 3
        EXEC sp_add_jobstep @job_name = N'a', @step_name = N'look', @command = N'2', @on_success_action = 4,
          @on_success_step_id = 4, @on_fail_action = 3
        EXEC sp_add_jobstep @job_name = N'a', @step_name = N'wait', @command = N'3', @on_success_action = 4,
          @on_success_step_id = 2
        EXEC sp_add_jobstep @job_name = N'a', @step_name = N'load', @command = N'4'"""
    (defined,) = Converter(read_scripts(iter([("x.sql", script.encode())])), OPTIONS).convert()
    assert defined.bodies["a"]["maximum_visits"] == 10_000
    assert any("Agent repeats its steps look, wait without a limit" in one for one in convert(script.encode()))
    straight = script.replace("@on_success_step_id = 2", "@on_success_step_id = 4")
    assert not any("repeats its" in one for one in convert(straight.encode()))


def test_a_schedule_that_is_attached_twice_counts_once() -> None:
    attach = "EXEC sp_attach_schedule @job_name = N'a', @schedule_name = N'd';"
    daily = "EXEC sp_add_schedule @schedule_name = N'd', @freq_type = 4, @freq_interval = 1;"
    script = f"{STEP} @command = N'x';{daily}{attach}{attach}"
    (defined,) = Converter(read_scripts(iter([("x.sql", script.encode())])), OPTIONS).convert()
    assert len(defined.schedules) == 1


def test_a_window_across_midnight_begins_with_its_first_half() -> None:
    night = Schedule(Place("x"), "night", freq_type=4, freq_interval=1, freq_subday_type=8, freq_subday_interval=1)
    night.active_start_date = night.active_end_date = 20270102
    night.active_start_time, night.active_end_time = 223000, 60000
    body = from_data({"jobs": {"j": {"command": "x", "schedules": [schedules.convert(night, "UTC", print)]}}}).jobs["j"]
    due = due_times(body.schedules[0], datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC))
    assert [one.isoformat() for one in due] == ["2027-01-02T22:30:00+00:00", "2027-01-02T23:30:00+00:00"]


def test_the_reference_knows_the_calendar() -> None:
    assert relative_day(date(2026, 2, 1), 10, 16) == date(2026, 2, 28)
    assert relative_day(date(2026, 2, 1), 1, 1) == date(2026, 2, 1)
    assert relative_day(date(2026, 2, 1), 9, 1) == date(2026, 2, 2)
