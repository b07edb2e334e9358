"""What the commands share: reading durations and moments, showing values."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfac.cli import common
from jobfac.cli.common import Failure, instant, lasted, print_fields, print_json, print_table, seconds, shown, state


@pytest.mark.parametrize(("text", "wanted"), [("90", 90), ("1.5", 1.5), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5)])
def test_a_duration_is_read_in_seconds(text: str, wanted: float) -> None:
    assert seconds(text, "--in") == wanted


@pytest.mark.parametrize("text", ["soon", "-1", "10 minutes or so", ""])
def test_a_wrong_duration_names_its_option(text: str) -> None:
    with pytest.raises(Failure, match=r"^--in .*\.$") as caught:
        seconds(text, "--in")
    assert caught.value.code == common.USAGE


def test_a_moment_has_an_offset_or_is_local() -> None:
    assert instant("2027-01-31T22:00:00+01:00", "--at") == datetime(2027, 1, 31, 21, tzinfo=UTC)
    assert instant("2027-01-31 22:00", "--at") == datetime(2027, 1, 31, 22).astimezone()
    before = datetime.now(UTC) - timedelta(hours=2)
    assert before <= instant("2h", "--since", back=True) <= before + timedelta(seconds=10)
    with pytest.raises(Failure, match="--at must be a time such as 2027-01-31T22:00:00"):
        instant("tomorrow", "--at")
    with pytest.raises(Failure, match="--at must be a time"):
        instant("2h", "--at")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, ""), (0, "0"), (False, "False"), ("text", "text"), (["ä", 1], '["ä", 1]'), ({"a": None}, '{"a": null}')],
)
def test_values_are_shown_for_people(value: object, wanted: str) -> None:
    assert shown(value) == wanted


def test_a_time_is_shown_locally() -> None:
    local = datetime(2027, 1, 31, 22, 0, 5).astimezone()
    assert shown(local.astimezone(UTC).isoformat(timespec="milliseconds")) == "2027-01-31 22:00:05"


@pytest.mark.parametrize(
    ("span", "wanted"),
    [(0, "0.0s"), (1.25, "1.2s"), (59.9, "59.9s"), (61, "1m01s"), (3723, "1h02m03s"), (360000, "100h00m00s")],
)
def test_how_long_a_run_took(span: float, wanted: str) -> None:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    row = {"started_at": begin.isoformat(), "ended_at": (begin + timedelta(seconds=span)).isoformat()}
    assert lasted(row) == wanted


def test_a_run_that_runs_has_lasted_until_now_and_one_that_waits_not_at_all() -> None:
    begin = datetime.now(UTC) - timedelta(minutes=5)
    assert lasted({"started_at": begin.isoformat(), "ended_at": None}).startswith("5m0")
    assert lasted({"started_at": None}) == ""


def test_states_have_colours_and_unknown_words_none() -> None:
    assert state({"state": "failed"}) == "[red]failed[/]"
    assert state({"state": "queued"}) == "queued"


def test_json_is_one_document_that_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Ärger"})
    assert capsys.readouterr().out == '{\n  "name": "Ärger"\n}\n'


def test_a_table_has_a_line_for_each_row_and_none_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"id": "id", "what": lambda row: row["name"].upper()}
    print_table([{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], columns, "nothing there")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["id", "what"], ["1", "ONE"], ["2", "TWO"]]
    print_table([], columns, "nothing there")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "nothing there\n")


def test_a_table_in_a_pipe_has_one_line_for_each_row_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    told = "x" * 300 + " [/red] [bold]\nand\x1b[2J more"
    print_table([{"id": 1, "told": told}, {"id": 2, "told": "short"}], {"id": "id", "told": "told"}, "")
    assert capsys.readouterr().out.splitlines() == [
        "id  told",
        "1   " + "x" * 300 + " [/red] [bold] and [2J more",
        "2   short",
    ]


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"id": 1, "reason": None, "exit_code": 0}, ["id", "reason", "exit_code"])
    assert capsys.readouterr().out == "id         1\nexit_code  0\n"
