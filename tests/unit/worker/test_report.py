"""The report file: its values, and that no content harms the worker."""

import errno
import json
import os
import time
from pathlib import Path
from threading import Lock

import pytest

from jobfac.database.types import truncate_utf16
from jobfac.programs import StartError
from jobfac.programs.masking import Mask
from jobfac.worker.executions import report as report_module
from jobfac.worker.executions.report import LONGEST_LINE, LONGEST_OUTPUTS, PASS, PIECE, Report
from jobfac.worker.executions.room import Room


@pytest.fixture
def report(tmp_path: Path) -> Report:
    folder = tmp_path / "spool" / "worker"  # two levels that belong to this test alone
    folder.mkdir(parents=True)
    for one in (folder, folder.parent):
        one.chmod(0o700)
    return Report(folder / "1-1.report")


def read_lines(report: Report, *lines: str) -> Report:
    Path(report.path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    report.read(final=True)
    return report


def test_only_root_creates_the_file_for_another_user(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(StartError, match="this worker may not switch to user 'nobody'; run it as root or as that user"):
        report.create_for("nobody")
    folder = Path(report.path).parent
    assert [one.stat().st_mode & 0o011 for one in (folder, folder.parent)] == [0, 0], "nobody needs to enter them"


def test_reports_are_read_as_they_are_appended(report: Report) -> None:
    report.read()
    read_lines(report, '{"progress": 0.5, "message": "half way"}', '{"outputs": {"rows": 1}}')
    with Path(report.path).open("a") as file:
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
def test_invalid_lines_are_skipped(report: Report, line: str) -> None:
    read_lines(report, line, '{"message": "after"}')
    assert (report.progress, report.outputs, report.message) == (None, None, "after")


SKIPPED = "a line of its report is not a JSON object and was skipped"


@pytest.mark.parametrize(
    ("lines", "incomplete", "refused"),
    [
        (['{"result": "failed", "exit_message": "no file "2027".csv"}'], SKIPPED, None),
        (['{"result": "failed", "exit_message": "two', 'lines"}'], SKIPPED, None),
        (['{"result": "failed"'], SKIPPED, None),
        (['{"result": "succeeded"}', "failed!"], SKIPPED, None),
        (["hello", '{"result": "succeeded"}'], None, SKIPPED),
        (["", " \t\r", '{"message": "blank lines and\ttabs are none"}'], None, None),
        (['{"outputs": {"a": NaN}}'], None, "outputs with a number that is not finite were refused"),
    ],
)
def test_a_line_that_is_no_report_is_noted(
    report: Report, lines: list[str], incomplete: str | None, refused: str | None
) -> None:
    """It may have held the result, unless that comes after it. It was skipped without a word, and the run succeeded."""
    read_lines(report, *lines)
    assert (report.incomplete, report.refused) == (incomplete, refused)


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ('{"result": "failed", "exit_message": "Ums\u00e4tze"}'.encode("cp1252"), "failed"),
        (b'{"progress": 0.5}{"result": "failed"}', "failed"),
        (b'\0\0\0{"result": "failed"}\r', "failed"),
        (b'\xef\xbb\xbf{"result": "failed"}', "failed"),
        (b'{"progress": 1' + b"0" * 400 + b', "result": "failed"}', "failed"),
        (b'{"outputs": {"a": NaN}, "result": "failed"}', "failed"),
        (b'{"result": false}', "false"),
        (b'{"result": null}', None),
    ],
)
def test_a_result_counts_whatever_stands_around_it(report: Report, line: bytes, result: str | None) -> None:
    Path(report.path).write_bytes(line + b"\n")
    report.read(final=True)
    assert (report.result, report.incomplete) == (result, None)


def test_a_report_that_cannot_be_opened_now_is_read_later(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(report.path).write_text('{"result": "failed"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many open files")))
        assert report.read()
        assert not report.read(final=True)
        assert (report.is_blocked, report.incomplete) == (True, None)
        patch.setattr(report_module, "PATIENCE", -1.0)
        other = Report(Path(report.path))
        before = other.read(), other.incomplete
        assert before == (True, None)
        assert other.read(final=True)
        assert (other.is_blocked, other.incomplete) == (False, "its report could not be read: too many open files")
    assert report.read(final=True)
    assert (report.is_blocked, report.result, report.incomplete) == (False, "failed", None)


@pytest.mark.parametrize("depth", [100, 700, 990])
def test_a_line_that_is_nested_too_deeply_costs_no_other_line_its_mask(report: Report, depth: int) -> None:
    """At the second depth the line can be parsed, but not masked."""
    report.mask = Mask([b"geheim-1"])
    deep = '{"message": "deep", "x": ' + "[" * depth + '"geheim-1"' + "]" * depth + "}"
    read_lines(report, '{"exit_message": "x geheim-1"}', deep, '{"result": "geheim-1 x", "outputs": {"geheim-1": 1}}')
    assert (report.exit_message, report.result, report.outputs) == ("x ********", "******** x", '{"********": 1}')
    assert (report.message, report.incomplete) in [
        ("deep", None),
        (None, "a line of its report is nested too deeply and was skipped"),
    ]


def test_half_a_character_becomes_a_question_mark(report: Report) -> None:
    read_lines(report, r'{"exit_message": "a\ud800b", "message": "\udfff", "outputs": {"a": ["\ud800"]}}')
    assert (report.exit_message, report.message, report.outputs) == ("a?b", "?", '{"a": ["?"]}')


def test_a_message_is_truncated_to_its_column(report: Report) -> None:
    read_lines(report, json.dumps({"message": "x" + "\U0001f600" * 1000}))
    assert report.message == "x" + "\U0001f600" * 499
    assert (truncate_utf16("abc", 2), truncate_utf16("ab", 2), truncate_utf16("\U0001f600", 1)) == ("ab", "ab", "")


@pytest.mark.parametrize("thing", ["folder", "pipe", "link"])
def test_another_object_in_place_of_the_file_is_ignored(report: Report, thing: str, tmp_path: Path) -> None:
    if thing == "folder":
        Path(report.path).mkdir()
    elif thing == "pipe":
        os.mkfifo(Path(report.path))
    else:
        (tmp_path / "secret").write_text('{"message": "secret"}\n')
        Path(report.path).symlink_to(tmp_path / "secret")
    report.read(final=True)
    report.close()
    assert report.message is None


def test_a_report_of_any_length_is_read_to_its_end(report: Report) -> None:
    lines = [json.dumps({"progress": one / 60_000, "message": f"row {one}"}) for one in range(60_000)]
    Path(report.path).write_text("\n".join([*lines, '{"result": "failed"}']))
    assert Path(report.path).stat().st_size > 2 * PASS
    times = 0
    while not report.read(final=True):
        times += 1
    assert (report.result, report.message, report.incomplete) == ("failed", "row 59999", None)
    assert times >= 2, "no call takes in more than its share"


def test_each_call_reads_at_most_its_limit(report: Report) -> None:
    Path(report.path).write_text('{"progress": 0.5}\n' * 60_000)
    assert not report.read(most=0)
    assert report.taken == 0
    assert not report.read(most=1)
    assert report.taken == PIECE


def test_beyond_the_limit_nothing_is_read_and_the_reason_says_so(report: Report) -> None:
    small = Report(Path(report.path), limit=1024)
    Path(small.path).write_text('{"message": "early"}\n' + " " * 2000 + '\n{"message": "late"}\n')
    assert small.read(final=True)
    assert (small.message, small.taken) == ("early", 1024)
    assert small.incomplete == "its report is longer than 1KiB; the rest was not read"


def test_what_is_beyond_the_limit_takes_no_disk_and_a_second_reader_sees_the_same(report: Report) -> None:
    """26 million lines took 2 GB until the end of the run, beside the database."""
    path, link = Path(report.path), Path(report.path).with_suffix(".link")
    small = Report(path, limit=1024)
    room = Room(Lock(), {}, small, {})
    with path.open("a", buffering=1) as program:
        for _ in range(3):
            program.write('{"message": "early"}\n' + " " * 5000 + "\n")
            assert small.read()
            room.free()
            assert path.stat().st_size == 1025
        again = Report(path, limit=1024)
        assert again.read(final=True)
        assert (again.message, again.incomplete) == (small.message, small.incomplete)
        link.hardlink_to(path)
        program.write(" " * 5000 + "\n")
        room.free()
        assert path.stat().st_size > 5000, "it may be a file of somebody else"


@pytest.mark.parametrize("limit", [100, 21, 22])
def test_a_report_as_long_as_the_limit_is_complete(report: Report, limit: int) -> None:
    exact = Report(Path(report.path), limit)
    Path(exact.path).write_text('{"message": "early"}\n')
    exact.read(final=True)
    assert (exact.message, exact.incomplete) == ("early", None)


def test_a_line_that_is_too_long_is_skipped_and_the_reason_says_so(report: Report) -> None:
    long = json.dumps({"result": "failed", "exit_message": "x" * LONGEST_LINE})
    read_lines(report, '{"message": "before"}', long, '{"progress": 0.5}')
    assert (report.result, report.message, report.progress) == (None, "before", 0.5)
    assert report.incomplete == "a line of its report is longer than 512KiB and was skipped"


def test_of_a_line_that_never_ends_no_more_than_the_longest_line_is_kept(report: Report) -> None:
    Path(report.path).write_text('{"message": "' + "x" * 2 * LONGEST_LINE)
    while not report.read():
        pass
    assert report.taken > 2 * LONGEST_LINE
    assert len(report._line) <= LONGEST_LINE


def test_outputs_beyond_the_limit_are_refused_and_the_earlier_ones_stay(report: Report) -> None:
    large = "ä" * (LONGEST_OUTPUTS // 4)
    read_lines(report, '{"outputs": {"rows": 1}}', *(json.dumps({"outputs": {name: large}}) for name in "abc"))
    kept = json.loads(report.outputs or "")
    assert (sorted(kept), report.refused) == (["a", "rows"], "outputs beyond 256KiB were refused")
    assert len((report.outputs or "").encode()) <= LONGEST_OUTPUTS
    read_lines(report, json.dumps({"outputs": {"a": "short"}}), json.dumps({"outputs": {"b": large}}))
    assert sorted(json.loads(report.outputs or "")) == ["a", "b", "rows"]


def test_the_time_for_many_outputs_is_proportional(report: Report) -> None:
    """15,000 lines took half a minute when each line encoded all earlier ones."""

    def seconds(lines: int) -> float:
        one = Report(Path(report.path).with_suffix(f".{lines}"))
        Path(one.path).write_text("".join(json.dumps({"outputs": {f"key{n}": n}}) + "\n" for n in range(lines)))
        began = time.thread_time()
        while not one.read(final=True):
            pass
        assert len(json.loads(one.outputs or "")) == lines
        return time.thread_time() - began

    assert seconds(12_000) < 30 * max(seconds(1_200), 0.001)


@pytest.mark.parametrize("how", ["truncate", "shorter", "same length", "longer", "another file"])
def test_a_rewritten_report_is_read_from_its_beginning(report: Report, how: str) -> None:
    read_lines(report, '{"message": "one"}', '{"outputs": {"rows": 1}}', '{"progress": 0.5}')
    if how == "truncate":
        os.truncate(Path(report.path), 0)
        report.read()
    if how == "another file":
        Path(report.path).rename(Path(report.path).with_suffix(".old"))
    message = {"shorter": "2", "longer": "two" * 100}.get(how, "two")
    read_lines(report, json.dumps({"message": message}), '{"outputs": {"rows": 1}}', '{"progress": 0.7}')
    assert (report.message, report.progress, report.outputs) == (message, 0.7, '{"rows": 1}')


def test_a_line_of_very_many_objects_is_read_in_linear_time(report: Report) -> None:
    """A look at the whole line for each of them would take more than a minute."""
    Path(report.path).write_bytes(b"{}" * 200_000 + b'{"progress": 0.5}\n')
    assert report.read()
    assert report.progress == 0.5
