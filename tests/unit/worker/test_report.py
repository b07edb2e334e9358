"""The report file: what a program may say in it, and that nothing in it harms the worker."""

import json
import os
from pathlib import Path

import pytest

from jobfac.database.types import truncate_utf16
from jobfac.programs import StartError
from jobfac.worker.report import Report


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "1-1.report")


def said(report: Report, *lines: str) -> Report:
    report.path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    report.read(final=True)
    return report


def test_only_root_makes_it_for_another_user(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(StartError, match="this worker may not switch to user 'nobody'; run it as root or as that user"):
        report.create_for("nobody")


def test_reports_are_taken_in_as_they_come(report: Report) -> None:
    report.read()
    said(report, '{"progress": 0.5, "message": "half way"}', '{"outputs": {"rows": 1}}')
    with report.path.open("a") as file:
        file.write('{"outputs": {"files": 2}, "result": "failed", "exit_message": "no rows"}')
    report.read(final=True)
    assert (report.progress, report.message, report.result, report.exit_message) == (
        0.5,
        "half way",
        "failed",
        "no rows",
    )
    assert json.loads(report.outputs or "") == {"rows": 1, "files": 2}


@pytest.mark.parametrize(
    "line",
    [
        "[" * 60_000,
        '{"progress":' * 5_000,
        '{"progress": 1' + "0" * 400 + "}",
        '{"progress": 1' + "0" * 5_000 + "}",
        '{"progress": NaN}',
        '{"outputs": {"a": NaN}}',
        '{"outputs": {"a": 1e999}}',
        '{"outputs": [1]}',
        "\0\1\2",
        '"text"',
    ],
)
def test_what_is_no_report_is_passed_over(report: Report, line: str) -> None:
    said(report, line, '{"message": "after"}')
    assert (report.progress, report.outputs, report.message) == (None, None, "after")


def test_half_a_character_becomes_a_question_mark(report: Report) -> None:
    said(report, r'{"exit_message": "a\ud800b", "message": "\udfff", "outputs": {"a": ["\ud800"]}}')
    assert (report.exit_message, report.message, report.outputs) == ("a?b", "?", '{"a": ["?"]}')


def test_a_message_is_cut_to_what_its_column_holds(report: Report) -> None:
    said(report, json.dumps({"message": "x" + "\U0001f600" * 1000}))
    assert report.message == "x" + "\U0001f600" * 499
    assert (truncate_utf16("abc", 2), truncate_utf16("ab", 2), truncate_utf16("\U0001f600", 1)) == ("ab", "ab", "")


@pytest.mark.parametrize("thing", ["folder", "pipe", "link"])
def test_another_thing_in_its_place_is_no_report(report: Report, thing: str, tmp_path: Path) -> None:
    if thing == "folder":
        report.path.mkdir()
    elif thing == "pipe":
        os.mkfifo(report.path)
    else:
        (tmp_path / "secret").write_text('{"message": "secret"}\n')
        report.path.symlink_to(tmp_path / "secret")
    report.read(final=True)
    report.close()
    assert report.message is None
