"""A program whose report is nested deeply, or has NUL characters, harms nobody who reads or stores its run."""

import json
import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from jobfac import job
from jobfac.programs.files import room
from jobfac.settings import Settings
from jobfac.worker.executions.held import REPORT_READ, Executions
from jobfac.worker.executions.report import DEEPEST, PIECE, Report
from tests.support.api_stage import Served
from tests.support.factory import wait_for


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def read(folder: Path, line: str) -> Report:
    report = Report(folder / "report")
    Path(report.path).write_text(line + "\n")
    report.read(final=True)
    return report


def test_a_program_may_report_a_name_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFAC_REPORT", str(tmp_path / "report"))
    job.message("loading ü " + os.fsdecode(b"caf\xe9.csv"))
    report = Report(tmp_path / "report")
    report.read(final=True)
    assert (report.incomplete, str(report.message).startswith("loading ü caf")) == (None, True)


@pytest.mark.parametrize("kind", ["[]", "{}"])
def test_deep_outputs_are_refused(tmp_path: Path, kind: str) -> None:
    def line(levels: int) -> str:
        inside = nested(levels) if kind == "[]" else '{"x":' * (levels - 1) + "{}" + "}" * (levels - 1)
        return f'{{"outputs": {{"good": 1, "deep": {inside}}}, "message": "said"}}'

    kept = read(tmp_path, line(DEEPEST))
    assert (set(json.loads(kept.outputs or "{}")), kept.refused) == ({"good", "deep"}, None)
    refused = read(tmp_path, line(DEEPEST + 1))
    assert (refused.outputs, refused.message) == (None, "said")
    assert refused.refused == "outputs with more than 64 levels were refused"


def test_a_line_that_cannot_be_parsed_for_its_depth_is_not_skipped_silently(tmp_path: Path) -> None:
    report = read(tmp_path, f'{{"result": "failed", "outputs": {{"k": {nested(200_000)}}}}}')
    assert report.incomplete == "a line of its report is nested too deeply and was skipped"


def test_a_run_with_deep_outputs_is_listed(served: Served) -> None:
    said = json.dumps({"outputs": {"k": None}}).replace("null", nested(900))
    served.define("deep", command=["sh", "-c", 'echo "$0" >> "$JOBFAC_REPORT"', said])
    run = served.start("deep")
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json().get("ended_at"), "the run has ended")
    (found,) = served.viewer.get("/v1/runs").raise_for_status().json()["items"]
    assert (found["state"], found["reason"]) == ("succeeded", "outputs with more than 64 levels were refused")


def test_nul_characters_are_replaced(tmp_path: Path) -> None:
    line = r'{"message": "a\u0000b", "exit_message": "\u0000", "outputs": {"k\u0000": ["\u0000", "\\u0000"]}}'
    report = read(tmp_path, line)
    assert (report.message, report.exit_message) == ("a?b", "?")
    assert json.loads(report.outputs or "") == {"k?": ["?", "\\u0000"]}


def test_the_loop_reads_a_share_of_long_reports_in_each_turn(tmp_path: Path) -> None:
    """All that ended programs have reported may be megabytes, and timeouts and stops wait for the loop meanwhile."""
    spool, guardian, watcher, telemetry, old_files, health = (MagicMock() for _ in range(6))
    held = Executions(spool, guardian, watcher, telemetry, old_files, lambda: True, lambda: None, health, Settings())
    for number in (1, 2):
        report = Report(tmp_path / f"report{number}")
        Path(report.path).write_text('{"progress": 0.5}\n' * 20_000)
        held.live[number, 1] = MagicMock(
            key=(number, 1), report=report, unread=lambda: 0, is_over=lambda: True, tick=lambda now, places: None,
            runs_long=lambda now: None, outlives_kill=lambda now: None,
        )  # fmt: skip
    reports = [one.report for one in held.living()]
    turns = 0
    while held.live:
        before = sum(report.taken for report in reports)
        held.tick((), requeue=False)
        assert sum(report.taken for report in reports) - before <= REPORT_READ + PIECE
        turns += 1
    assert (len(held.over), turns > 4) == (2, True)


def test_a_program_that_takes_the_disk_without_a_size_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SLACK", 1 << 20)
    served.define("fill", shell=True, command='>>"$JOBFAC_REPORT"; fallocate -n -o 1M -l 9M "$JOBFAC_REPORT"; sleep 60')
    run = served.start("fill")
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json().get("ended_at"), "the run has ended")
    found = served.viewer.get(f"/v1/runs/{run}").json()
    why = "its report takes 9 MiB of the spool's disk, but 0 bytes of it are needed"
    assert (found["state"], found["reason"]) == ("failed", why)
