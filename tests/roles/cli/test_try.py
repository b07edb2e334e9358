"""`jobfac try`: a dry run of a program as a worker executes it, without a database."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobfac.cli import main
from tests.roles.guide.shell import shell
from tests.support.factory import wait_for
from tests.support.process_stage import lives

Try = Callable[..., "Done"]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def try_(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Try]:
    """The command in this process, in an empty folder. Checks that it leaves no files."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["jobfac", "try", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capfd.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert list(folder.iterdir()) == []


def summary_of(done: Done) -> dict[str, str]:
    """Return the values at the end, which are printed as `jobfac: NAME VALUE`."""
    lines = [line.removeprefix("jobfac: ").split(maxsplit=1) for line in done.stderr.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_a_program_runs_as_in_a_worker_and_its_outcome_is_printed(try_: Try) -> None:
    script = """
    echo "$JOBFAC_RUN_ID $JOBFAC_ATTEMPT $JOBFAC_JOB $MODE $HIDDEN|$JOBFAC_PAYLOAD|$(cat "$JOBFAC_PAYLOAD_FILE")|$*"
    echo '{"progress": 0.25, "message": "on the way"}' >>"$JOBFAC_REPORT"
    echo '{"result": "failed", "exit_message": "no rows", "outputs": {"rows": 0}}' >>"$JOBFAC_REPORT"
    echo complaint >&2
    """
    words = ("sh", "-c", script, "sh", "-n", "--rows=3", "--payload", "hällo", "--environment", "MODE=nightly")
    done = try_(*words)
    assert done.stdout == "0 1 sh nightly |hällo|hällo|-n --rows=3\n"
    assert "complaint\n" in done.stderr
    assert "jobfac: 25% on the way\n" in done.stderr
    assert (done.returncode, summary_of(done)["state"], summary_of(done)["exit_message"]) == (0, "succeeded", "no rows")
    aware = try_(*words, "--aware")
    assert (aware.returncode, summary_of(aware)["state"]) == (1, "failed")
    assert summary_of(aware)["reason"] == "the program reported failure: no rows"


def test_reported_texts_are_shown_unchanged_without_escape_sequences(try_: Try) -> None:
    done = try_(
        "sh", "-c", r"""printf '%s' '{"exit_message": "2027-01-31T22:00:00 \u001b[2Jstep 3"}' >>"$JOBFAC_REPORT" """
    )
    assert (done.returncode, summary_of(done)["exit_message"]) == (0, "2027-01-31T22:00:00  [2Jstep 3")


def test_options_after_two_dashes_belong_to_the_program(try_: Try) -> None:
    assert try_("--", "printf", "%s ", "--timeout", "--json").stdout == "--timeout --json "


@pytest.mark.parametrize(
    ("words", "code", "facts"),
    [
        (["sh", "-c", "exit 3"], 1, {"state": "failed", "exit_code": "3", "reason": "exit code 3"}),
        (["sleep", "60", "--timeout", "0.2"], 1, {"state": "timed_out", "signal": "15"}),
        (["/no/such"], 1, {"state": "start_failed"}),
    ],
)
def test_each_kind_of_end_is_printed(try_: Try, words: list[str], code: int, facts: dict[str, str]) -> None:
    done = try_(*words)
    assert done.returncode == code
    assert facts.items() <= summary_of(done).items()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "Missing argument 'PROGRAM'"),
        (["true", "--timeout", "soon"], 2, "--timeout must be a duration"),
        (["true", "--environment", "MODE"], 2, "--environment must be K=V"),
        (["--set", "day=1", "true"], 2, "--set and --set-file need --file"),
        (["true", "--environment", "JOBFAC_JOB=x"], 2, "must not be JOBFAC_JOB"),
        (
            ["true", "--payload-file", "/no/such"],
            2,
            "--payload-file /no/such cannot be read: No such file or directory.",
        ),
    ],
)
def test_wrong_usage_is_reported_in_a_sentence(try_: Try, words: list[str], code: int, sentence: str) -> None:
    done = try_(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_from_a_file_runs_according_to_its_definition(try_: Try, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("""
    jobs:
      export:
        command: [sh, -c, 'echo "$JOBFAC_JOB $MODE $TABLE $*"; exit 4', sh]
        arguments: [--full]
        environment: {MODE: nightly, TABLE: orders}
        warning_codes: [4]
      all: {steps: [{name: first, jobs: [export]}]}
    """)
    plain = try_("--file", str(file), "export")
    assert (plain.stdout, plain.returncode) == ("export nightly orders --full\n", 0)
    other = try_("--file", str(file), "export", "--short", "--environment", "TABLE=items")
    assert other.stdout == "export nightly items --short\n"
    assert "'all' is a sequence" in try_("--file", str(file), "all").stderr
    missing = try_("--file", str(file), "import")
    assert (missing.returncode, missing.stderr) == (3, f"{file} has no job 'import'; it has all, export.\n")


def test_a_job_that_starts_after_another_one_is_tried_with_its_run(try_: Try, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("""
    jobs:
      extract: {command: ["true"]}
      load:
        parameters: {rows: {type: integer, default: "${trigger.run.outputs.rows}"}}
        command: [sh, -c, 'echo "$1 $JOBFAC_TRIGGER_RUN_ID $JOBFAC_PARAM_ROWS"', sh, "${trigger.run.job}"]
        schedules: [{after: {job: extract}}]
    """)
    words = ("--file", str(file), "load", "--trigger-run")
    assert try_(*words, '{"job": "extract", "id": 17, "outputs": {"rows": 12}}').stdout == "extract 17 12\n"
    wrong = try_(*words, '{"job": "extract"}')
    assert summary_of(wrong)["reason"].endswith("refers to ${trigger.run.outputs.rows}, which this start does not have")
    for text in ("extract", '{"id": 17}', '{"job": 1}', '{"job": "extract", "other": 1}'):
        refused = try_(*words, text)
        assert (refused.returncode, "--trigger-run must be JSON such as" in refused.stderr) == (2, True)
    both = try_(*words, '{"job": "extract"}', "--trigger-path", str(file))
    assert "cannot both have started the job" in both.stderr


def test_output_that_would_not_be_stored_is_not_shown(try_: Try, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs: {flood: {command: [sh, -c, 'printf %09d 1; head -c 5000000 /dev/zero; printf %09d 2'], "
                    "output: {limit: 20}}}")  # fmt: skip
    done = try_("--file", str(file), "flood")
    assert done.stdout.startswith("000000001\0")
    assert done.stdout.endswith("\x00000000002")
    assert "bytes cut ...]" in done.stdout
    assert summary_of(done)["stdout"] == "5,000,018 bytes, 4,999,998 of them removed"


LOOP = "while :; do sleep 0.05; done"


def start(tmp_path: Path, trap: str, *jobfac: object) -> "tuple[subprocess.Popen[str], int]":
    """Start a dry run of an endless program and wait until its trap is set; returns the command and the PID."""
    pid = tmp_path / "pid"
    trial = subprocess.Popen(
        [*map(str, jobfac), "try", "sh", "-c", f"{trap}; echo $$ >{pid}.new; mv {pid}.new {pid}; {LOOP}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(pid.exists, "the program runs")
    return trial, int(pid.read_text())


def test_the_first_interrupt_stops_the_program_politely_the_second_at_once(tmp_path: Path) -> None:
    with shell(tmp_path) as bash:
        polite, _ = start(tmp_path, "trap 'echo bye; exit 0' TERM", bash.jobfac)
        polite.send_signal(signal.SIGINT)
        out, said = polite.communicate(timeout=30)
        assert (out, polite.returncode) == ("bye\n", 1)
        assert "the program was asked to stop and has 10s" in said
        (tmp_path / "pid").unlink()
        stubborn, program = start(tmp_path, "trap '' TERM; echo deaf", bash.jobfac)
        assert stubborn.stdout is not None
        assert stubborn.stderr is not None
        assert stubborn.stdout.readline() == "deaf\n"
        stubborn.send_signal(signal.SIGINT)
        assert "was asked to stop" in stubborn.stderr.readline()
        stubborn.send_signal(signal.SIGINT)
        assert re.search(r"reason +stopped at once", stubborn.communicate(timeout=30)[1])
        assert not lives(program)


def test_a_killed_dry_run_leaves_no_program(tmp_path: Path) -> None:
    trial, program = start(tmp_path, "trap '' TERM", sys.executable, "-m", "jobfac")
    trial.kill()
    trial.communicate()
    wait_for(lambda: not lives(program), "the guardian ended the program")
