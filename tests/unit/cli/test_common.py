"""Shared code of the commands: reading durations and times, and what their surroundings lack."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobfac.cli import common, main
from jobfac.cli.common import UNSUCCESSFUL, Failure, instant, seconds


@pytest.mark.parametrize(("text", "wanted"), [("90", 90), ("1.5", 1.5), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5)])
def test_a_duration_is_read_in_seconds(text: str, wanted: float) -> None:
    assert seconds(text, "--in") == wanted


@pytest.mark.parametrize("text", ["soon", "-1", "10 minutes or so", ""])
def test_an_invalid_duration_names_its_option(text: str) -> None:
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


def test_a_current_folder_that_was_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr("sys.argv", ["jobfac", "runs", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == UNSUCCESSFUL
    assert capsys.readouterr().err == "The current folder was removed; change to one that exists.\n"


def test_a_process_without_threads_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def execute(words: object) -> int:
        raise RuntimeError("can't start new thread")  # as Thread.start does

    monkeypatch.setattr("jobfac.cli.app.execute", execute)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith("This user can start no more threads; raise the limit of processes")
