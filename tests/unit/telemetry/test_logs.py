"""The format of log lines as JSON and as text, and the cost of importing the module."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jobfac.settings import Settings
from jobfac.telemetry.logs import SILENCE, configure, logger


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the configuration of logging after the test."""
    root, own = logging.getLogger(), logging.getLogger("jobfac")
    before = (root.handlers[:], root.level, own.level)
    yield
    root.handlers, root.level = before[0], before[1]
    own.setLevel(before[2])


def test_a_json_line_has_the_sentence_and_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    log = logger("jobfac.test").bind(worker="w1")
    log.info("a run ended", action="run_ended", run=7, odd={1})
    log.debug("left out")
    SILENCE.error("left out", action="x")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "level": "info", "event": "a run ended", "worker": "w1", "action": "run_ended", "run": 7, "odd": "{1}",
    }  # fmt: skip


def test_a_traceback_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    try:
        int("bad")
    except ValueError:
        logger("jobfac.test").exception("duty failed", action="duty_failed")
    found = json.loads(capsys.readouterr().err)
    assert found["level"] == "error"
    assert "ValueError: invalid literal" in found["exception"]


def test_text_quotes_ambiguous_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="text"))
    logger("jobfac.test").warning("turn failed", action="turn_failed", reason="no\x1b[2J host", left_out=0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"warning  turn failed  action=turn_failed reason='no\x1b[2J host' left_out=0")


def test_an_outage_is_one_line_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    configure(Settings(log_format="json"))
    log, now = logger("jobfac.test").bind(worker="w1"), [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for now[0] in (1000.0, 1000.5, 1059.9, 1060.0, 1061.0):
        log.outage("turn failed", action="turn_failed", reason="Login failed")
    log.outage("turn failed", action="turn_failed", reason="no answer")
    log.bind(worker="w2").outage("turn failed", action="turn_failed", reason="Login failed")
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["worker"], one["reason"], one.get("left_out")) for one in found] == [
        ("w1", "Login failed", None), ("w1", "Login failed", 2),
        ("w1", "no answer", None), ("w2", "Login failed", None),
    ]  # fmt: skip
    assert {one["level"] for one in found} == {"warning"}


def test_a_role_does_not_import_rich_for_its_log() -> None:
    program = "import sys, jobfac.telemetry.logs; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
