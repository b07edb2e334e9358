"""Name services that do not answer stop only the jobs with a user that nobody has asked for before."""

import errno
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobfac.programs.files import accounts, places
from jobfac.programs.files.accounts import Accounts
from jobfac.programs.files.inquiry import User
from jobfac.programs.files.places import Places
from jobfac.worker.executions import held, outcome
from tests.support.api_stage import Served
from tests.support.factory import wait_for

COMMAND = accounts.COMMAND
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file as long as which the name services do not answer. No account is known."""
    file = tmp_path / "silence"
    file.touch()
    wait = f'while [ -e "{file}" ]; do sleep 0.05; done; exec "$@"'
    monkeypatch.setattr(accounts, "COMMAND", ("sh", "-c", wait, "sh", *accounts.COMMAND))
    monkeypatch.setattr(accounts.accounts, "_known", {})
    yield file
    file.unlink(missing_ok=True)


def test_others_run_while_the_name_services_are_silent(served: Served, silence: Path) -> None:
    served.define("stuck", user=ME, command=["sh", "-c", "echo $HOME"])
    served.define("other")
    with served.worker():
        stuck = [served.start("stuck") for _ in range(2)]
        other = served.start("other")
        wait_for(lambda: _state(served, other) == "succeeded", "the other job has run")
        assert [_state(served, run) for run in stuck] == ["running"] * 2
        assert served.operator.post(f"/v1/runs/{stuck[0]}/stop").status_code == 200
        wait_for(lambda: _state(served, stuck[0]) == "stopped", "the waiting run was stopped")
        silence.unlink()
        wait_for(lambda: _state(served, stuck[1]) == "succeeded", "the run has started when they answered")
    assert pwd.getpwnam(ME).pw_dir in served.viewer.get(f"/v1/runs/{stuck[1]}/output").text


def test_a_user_that_is_never_found_fails_the_start(
    served: Served, silence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "ANSWER", 0.5)
    served.define("stuck", user=ME)
    with served.worker():
        run = served.start("stuck")
        wait_for(lambda: _state(served, run) == "start_failed", "the start has failed")
    reason = served.viewer.get(f"/v1/runs/{run}").json()["reason"]
    assert reason == (
        f"the account of user '{ME}' was not found within 0.5 s, because the name services of this machine do not "
        "answer; check those that /etc/nsswitch.conf names"
    )


def test_an_account_that_is_known_counts_while_the_name_services_are_silent(
    silence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PATIENCE", 0.1)
    asked = Accounts()
    with pytest.raises(TimeoutError):
        asked.ask(ME, 0.1)
    silence.unlink()
    found = asked.ask(ME)
    assert found is not None
    assert found["user"] == os.geteuid()
    silence.touch()
    assert asked.ask(ME) == found
    assert asked.is_fresh(ME), "the next start does not wait again"


def test_an_account_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user may have been created, or have got another group, meanwhile."""
    asked = Accounts()
    assert asked.find("nobody-of-this-name", 60) is None
    assert not asked.is_fresh("nobody-of-this-name")
    monkeypatch.setattr(accounts, "COMMAND", ("false",))
    assert asked.find("nobody-of-this-name", 60) is None, "its start does not ask once more"
    monkeypatch.setattr(accounts, "MISSING", -1.0)
    with pytest.raises(OSError, match="asks for it ended with exit code 1"):
        asked.find("nobody-of-this-name", 60)
    monkeypatch.undo()
    asked.ask(ME)
    monkeypatch.setattr(accounts, "FRESH", -1.0)
    assert not asked.is_fresh(ME)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what the child process does: a text of sh."""

    def set_answer(text: str) -> None:
        monkeypatch.setattr(accounts, "COMMAND", ("sh", "-c", text, "sh"))

    return set_answer


def test_a_known_account_counts_while_the_name_services_cannot_be_reached(
    answer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Accounts()
    found = asked.ask(ME)
    for code in (accounts.UNCLEAR, accounts.NOT_REACHED):
        answer(f"echo null; exit {code}")
        assert asked.ask(ME) == found
    answer(f"echo null; exit {accounts.UNCLEAR}")
    with pytest.raises(OSError, match="the name services cannot be reached"):
        asked.ask("nobody-of-this-name")
    with monkeypatch.context() as later:
        later.setattr(accounts, "DOUBT", 0.0)
        assert asked.ask("nobody-of-this-name") is None
    answer(f"exit {accounts.NOT_REACHED}")
    with pytest.raises(OSError, match="the name services cannot be reached"):
        asked.ask("another")
    answer("sleep 60")
    with pytest.raises(OSError, match="the name services cannot be reached"):
        asked.find("another", 60.0)  # a start does not wait again


def test_a_known_user_that_is_not_found_starts_nothing_and_fails_nothing_for_a_while(
    answer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Accounts()
    found = asked.ask(ME)
    answer("echo null")
    for ask in (asked.ask, lambda name: asked.find(name, 1.0)):
        with pytest.raises(OSError, match=f"user '{ME}' existed and is not found any more"):
            ask(ME)
    assert not asked.is_fresh(ME)
    monkeypatch.undo()
    assert asked.ask(ME) == asked.find(ME, 1.0) == found
    monkeypatch.setattr(accounts, "DOUBT", 0.0)
    answer("echo null")
    assert asked.ask(ME) is None, "it was deleted"


def test_a_run_whose_user_is_in_doubt_is_put_off(
    served: Served, answer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts.accounts, "_known", {})
    monkeypatch.setattr(accounts, "FRESH", 0.0)
    monkeypatch.setattr(places, "FRESH", 0.0)
    monkeypatch.setattr(outcome, "FIRST_DELAY", 0.1)
    served.define("payroll", user=ME)
    served.define("other")
    with served.worker():
        first = served.start("payroll")
        wait_for(lambda: _state(served, first) == "succeeded", "its user is known")
        answer("echo null")
        run, other = served.start("payroll"), served.start("other")
        wait_for(lambda: "existed and is not found" in _reason(served, run), "the start was put off")
        wait_for(lambda: _state(served, other) == "succeeded", "the worker is well")
        monkeypatch.setattr(accounts, "COMMAND", COMMAND)
        wait_for(lambda: _state(served, run) == "succeeded", "the user is found again")


def test_a_name_service_that_is_away_is_told_from_a_user_that_does_not_exist(tmp_path: Path) -> None:
    """Python's pwd raises KeyError for both."""
    away = 'import pwd, runpy, ctypes, sys; sys.argv = ["accounts.py", "nobody-of-this-name"]; '
    away += "library = type('L', (), {'getpwnam_r': staticmethod(lambda *given: NUMBER)}); "
    away += f"ctypes.CDLL = lambda name: library; runpy.run_path({accounts.__file__!r}, run_name='__main__')"
    for number, code in ((errno.ECONNREFUSED, accounts.NOT_REACHED), (errno.ENOENT, accounts.UNCLEAR)):
        program = away.replace("NUMBER", str(number))
        assert subprocess.run([sys.executable, "-I", "-c", program], check=False).returncode == code
    done = subprocess.run([*accounts.COMMAND, "nobody-of-this-name"], check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"null\n")


def test_silent_users_leave_threads_for_folders(silence: Path, tmp_path: Path) -> None:
    asked = Places(lambda: None)
    for number in range(100):
        user = User(f"user{number}")
        assert asked.silent([user]) == user
    assert asked.silent([str(tmp_path)]) is None
    silence.unlink()
    wait_for(lambda: asked.silent([User(ME)]) is None, "the name services answer again")


def _reason(served: Served, run: int) -> str:
    return str(served.viewer.get(f"/v1/runs/{run}").json()["reason"])


def _state(served: Served, run: int) -> str:
    return str(served.viewer.get(f"/v1/runs/{run}").json()["state"])
