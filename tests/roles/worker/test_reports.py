"""Long reports of programs: they are read completely, and they do not delay the worker."""

import json
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet


def reporting(folder: Path, *lines: str) -> list[str]:
    """Return the command of a program that reports lines, given as Python expressions, in one write."""
    script = folder / f"reports{len(list(folder.glob('reports*')))}.py"
    body = "import os, json\nfile = open(os.environ['JOBFAC_REPORT'], 'a')\n"
    script.write_text(body + "".join(f"file.write({line})\n" for line in lines))
    return [sys.executable, "-I", str(script)]


PROGRESS = """"".join('{"progress": 0.%05d, "message": "row %d"}\\n' % (n, n) for n in range(30000))"""
OUTPUTS = """"".join(json.dumps({"outputs": {"key%d" % n: n}}) + chr(10) for n in range(15000))"""
FAILED = """'{"result": "failed", "exit_message": "no rows"}'"""


@pytest.mark.parametrize("interval", ["0.1", "60"], ids=["shipped", "read at the end"])
def test_a_failure_reported_after_much_progress_is_a_failure(sqlite_fleet: Fleet, interval: str) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": reporting(fleet.folder, PROGRESS, FAILED), "aware": True})
    fleet.worker(JOBFAC_SHIP_INTERVAL=interval)
    found = fleet.one("job")
    assert (found["state"], found["reason"]) == ("failed", "the program reported failure: no rows")
    assert found["message"] == "row 29999"


def test_a_report_beyond_the_limit_fails_an_aware_run_and_is_named_in_the_reason(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    command = reporting(fleet.folder, PROGRESS, FAILED)
    fleet.define(aware={"command": command, "aware": True}, plain={"command": command})
    fleet.worker(JOBFAC_REPORT_LIMIT="102400")
    sentence = "its report is longer than 100KiB; the rest was not read"
    assert [fleet.one(job)[name] for job in ("aware", "plain") for name in ("state", "reason")] == [
        "failed", f"the program reported no result, as aware: true demands; {sentence}", "succeeded", sentence,
    ]  # fmt: skip


def test_an_aware_program_without_a_result_has_failed(sqlite_fleet: Fleet) -> None:
    """Its report of a failure may have met a full disk."""
    fleet = sqlite_fleet
    fleet.define(
        aware={"command": ["sh", "-c", "exit $0"], "aware": True, "warning_codes": [1]},
        good={"command": reporting(fleet.folder, """'{"result": "succeeded"}'"""), "aware": True},
    )
    fleet.worker()
    none = "the program reported no result, as aware: true demands"
    assert [fleet.one("aware", arguments=[code])["reason"] for code in "012"] == [none, none, "exit code 2"]
    assert fleet.one("good")["state"] == "succeeded"


def test_many_outputs_delay_no_other_run(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        chatty={"command": reporting(fleet.folder, OUTPUTS)},
        brief={"command": ["sleep", "600"], "timeout": "1s"},
    )
    worker = fleet.worker()
    (brief,) = fleet.start("brief")
    fleet.wait(brief, "running", "timed_out")
    chatty = fleet.start("chatty", 3)
    found = fleet.wait(brief)
    assert found["state"] == "timed_out"
    assert (found["ended_at"] - found["started_at"]).total_seconds() < 5
    for row in fleet.finish(*chatty):
        assert (row["state"], row["reason"]) == ("succeeded", "outputs beyond 256KiB were refused")
        assert len(row["outputs"].encode()) <= 256 * 1024
        assert json.loads(row["outputs"])["key100"] == 100
    assert "lease" not in fleet.log(worker)
