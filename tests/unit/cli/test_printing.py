"""Printing: values become text by their type, and texts from programs cannot control the terminal."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from rich.text import Text

from jobfac.cli.commands.monitoring.doctor import _table as findings_table
from jobfac.cli.rendering.printing import Columns, note, print_drawn, print_fields, print_json, print_table
from jobfac.cli.rendering.text import cell, changed_value, duration, styled, text_of
from jobfac.cli.rendering.tree import history_tree, walk_tree
from jobfac.cli.streams import for_terminal
from jobfac.doctor import Finding, State
from jobfac.states import RunState, Waiting
from jobfac.store.sequences.plans.simulate import Walk
from jobfac.views.runs import RunView
from jobfac.views.sequences import StepVisitView


class Span(NamedTuple):
    started_at: datetime | None
    ended_at: datetime | None = None


class Line(NamedTuple):
    id: int
    text: str


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, ""),
        (0, "0"),
        (False, "False"),
        ("text", "text"),
        (["ä", 1], '["ä", 1]'),
        ({"a": None}, '{"a": null}'),
        (RunState.FAILED, "failed"),
    ],
)
def test_values_are_formatted_by_their_type(value: object, wanted: str) -> None:
    assert text_of(value) == wanted


def test_a_time_is_shown_in_the_local_zone() -> None:
    local = datetime(2027, 1, 31, 22, 0, 5).astimezone()
    assert text_of(local.astimezone(UTC)) == local.isoformat(" ")


@pytest.mark.parametrize("text", ["2027-01-31T22:00:05.000+00:00", "2027-01-31T22:00:00 step 3", "2027-13-99T99:99:99"])
def test_a_text_that_looks_like_a_time_stays_unchanged(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of(text) == text
    print_fields({"payload": text})
    assert capsys.readouterr().out == f"payload  {text}\n"


@pytest.mark.parametrize(
    ("span", "wanted"),
    [(0, "0.0s"), (1.25, "1.2s"), (59.9, "59.9s"), (61, "1m01s"), (3723, "1h02m03s"), (360000, "100h00m00s")],
)
def test_the_duration_of_a_run(span: float, wanted: str) -> None:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    assert duration(Span(begin, begin + timedelta(seconds=span))) == wanted


def test_the_duration_of_a_running_run_ends_now_and_a_waiting_one_has_none() -> None:
    assert duration(Span(datetime.now(UTC) - timedelta(minutes=5))).startswith("5m0")
    assert duration(Span(None)) == ""


def test_states_have_colours_and_texts_have_none() -> None:
    assert (styled("failed"), styled("queued")) == (Text("failed", style="red"), Text("queued"))
    assert (cell(RunState.FAILED).style, cell("failed").style) == ("red", "")


@pytest.mark.parametrize("text", ["[/data/in.csv]", "[red]x", "order:key:4711", "D:\\[ x", "a\\[red]", "ends\\"])
def test_texts_are_shown_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    columns: Columns[Line] = {"A": "text", "B": lambda line: line.text}
    print_table([Line(1, text)], columns, "")
    print_drawn(walk_tree(text, Walk([], RunState.FAILED, text)))
    lines = capsys.readouterr().out.splitlines()
    assert (lines[1].split("  "), lines[2]) == ([text, text], f"{text} failed  {text}")


def test_json_is_one_document_without_escaped_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Ärger"})
    assert capsys.readouterr().out == '{\n  "name": "Ärger"\n}\n'


def test_json_shows_no_character_that_controls_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\u202eb\u2066c\x9bd\x7fe\u2028 مرحبا 😀"
    print_json({text: [text]})
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == {text: [text]}


def test_a_table_has_a_line_for_each_row_or_says_that_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    columns: Columns[Line] = {"id": "id", "what": lambda line: line.text.upper()}
    print_table([Line(1, "one"), Line(2, "two")], columns, "nothing there")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["id", "what"], ["1", "ONE"], ["2", "TWO"]]
    print_table([], columns, "nothing there")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing there\n")


def test_a_table_in_a_pipe_has_one_line_for_each_row_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "x" * 300 + " [/red] [bold]\nand\x1b[2J more"
    print_table([Line(1, text), Line(2, "short")], {"id": "id", "text": "text"}, "")
    assert capsys.readouterr().out.splitlines() == [
        "id  text",
        "1   " + "x" * 300 + " [/red] [bold] and [2J more",
        "2   short",
    ]


def test_fields_without_a_value_are_omitted(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"id": 1, "reason": None, "exit_code": 0})
    assert capsys.readouterr().out == "id         1\nexit_code  0\n"


def test_fields_contain_no_escape_sequences_and_their_lines_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"exit_message": "\x1b]0;title\x07\x1b[2Jdone\nstate  succeeded\u2028\rx"})
    assert capsys.readouterr().out == (
        "exit_message   ]0;title  [2Jdone\n              state  succeeded\n              \n              x\n"
    )


def test_sentences_changes_and_findings_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x9b31m\u202ex\r\ny\udce9"
    note(f"There is no job '{hostile}'.")
    assert capsys.readouterr().err == "There is no job '\\x1b[2J\\x9b31m\\u202ex\\r\ny\\udce9'.\n"
    assert changed_value("\x9b31m\u202e") == '"\\x9b31m\\u202e"'
    print_drawn(findings_table([Finding("holds", State.WARNING, hostile, hostile)]))
    shown = capsys.readouterr().out
    assert "[2J" in shown
    assert shown.replace("\n", "").isprintable()


def test_output_of_a_program_controls_no_more_of_a_terminal_than_its_colours() -> None:
    colours = "\x1b[1;31mred\x1b[0m\t10 %\r20 %\b\n\x1b[38:5:1mä\U0001f600".encode()
    assert for_terminal(colours) == colours
    assert for_terminal(b"\x1b]0;title\x07\x1b[2J\xc2\x9b2J\x1b[31\x1b") == (
        b"\\x1b]0;title\\x07\\x1b[2J\\x9b2J\\x1b[31\\x1b"
    )
    assert for_terminal("a\u202eb\u2069 \u2065\u200f".encode()) == "a\\u202eb\\u2069 \u2065\u200f".encode()


def test_a_step_says_until_when_it_waits_with_the_offset(capsys: pytest.CaptureFixture[str]) -> None:
    nothing: Any = None
    run = RunView(**dict.fromkeys(RunView._fields, nothing))._replace(job="prices", state=RunState.RUNNING)
    until = datetime(2027, 1, 31, 3, 31, 48, tzinfo=UTC)
    visit = StepVisitView(**dict.fromkeys(StepVisitView._fields, nothing))
    visit = visit._replace(step="release", number=1, waits_for=Waiting.APPROVAL, wake_at=until, runs=[])
    print_drawn(history_tree(run, [visit]))
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"waits for an approval until {text_of(until)}")
