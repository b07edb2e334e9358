"""What holds a secret, a network drive or a keyring, may hang: nobody waits for it for long, and others not at all."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from jobfac import secret_references
from jobfac.secret_references import SecretError, resolve
from tests.support.api_stage import Served
from tests.support.factory import wait_for


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every file and keyring hang until the event is set."""
    event, real = threading.Event(), secret_references._read

    def read(path: Path) -> bytes:
        event.wait()
        return real(path)

    def from_keyring(reference: str, name: str) -> str:
        event.wait()
        return "from the keyring"

    monkeypatch.setattr(secret_references, "_read", read)
    monkeypatch.setattr(secret_references, "_from_keyring", from_keyring)
    yield event
    event.set()


def test_a_secret_that_hangs_is_an_error_and_later_callers_do_not_wait(
    answers: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_references, "ANSWERS", 0.3)
    file = tmp_path / "secret"
    file.write_text("x")
    says = rf"the secret file:{file} has not been read within 0.3 s; check the file system"
    with pytest.raises(SecretError, match=says):
        resolve(f"file:{file}")
    with pytest.raises(SecretError, match=r"keyring:a/b has not been read within 0\.3 s; check the keyring"):
        resolve("keyring:a/b")
    threads, begun = threading.active_count(), time.monotonic()
    monkeypatch.setattr(secret_references, "ANSWERS", 30.0)
    for _ in range(100):
        with pytest.raises(SecretError, match="has not been read"):
            resolve(f"file:{file}")
    assert time.monotonic() - begun < 20
    assert threading.active_count() == threads
    answers.set()
    wait_for(lambda: not secret_references._readings, "the reading has ended")
    assert resolve(f"file:{file}") == "x"


def test_a_reading_that_never_ends_keeps_a_secret_away_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt of a keyring's service that was restarted meanwhile answers nobody."""
    never, calls = threading.Event(), iter([True, True, False])
    monkeypatch.setattr(secret_references, "ANSWERS", 0.01)
    monkeypatch.setattr(secret_references, "AGAIN", 0.1)
    monkeypatch.setattr(
        secret_references, "_from_keyring", lambda reference, name: (next(calls) and never.wait(300)) or "mended"
    )
    with pytest.raises(SecretError, match="has not been read"):
        resolve("keyring:a/b")
    first = secret_references._readings["keyring:a/b"]
    wait_for(lambda: first.is_left_alone, "the first reading is left alone")
    with pytest.raises(SecretError, match="has not been read"):
        resolve("keyring:a/b")
    second = secret_references._readings["keyring:a/b"]
    assert second.again == 2 * first.again
    wait_for(lambda: second.is_left_alone, "the second one, too")
    monkeypatch.setattr(secret_references, "ANSWERS", 10.0)
    assert resolve("keyring:a/b") == "mended"
    never.set()
    wait_for(lambda: not secret_references._readings, "the late ones have taken nothing away")


def test_the_error_of_a_keyring_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that jobfac does not know, as of the session bus, ended the look before the start, again and again."""
    keyring = MagicMock()
    keyring.get_password.side_effect = RuntimeError("no session bus")
    keyring.errors.KeyringError = LookupError
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    with pytest.raises(SecretError, match="keyring:a/b cannot be read from the keyring: no session bus"):
        resolve("keyring:a/b")


def test_others_run_while_a_keyring_hangs(
    served: Served, answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_references, "ANSWERS", 30.0)
    served.define("stuck", environment={"X": {"secret": "keyring:a/b"}})
    served.define("other")
    with served.worker():
        stuck = served.start("stuck")
        other = served.start("other")
        wait_for(lambda: _state(served, other) == "succeeded", "the other job has run")
        assert _state(served, stuck) == "running"
        secret_references._readings["keyring:a/b"].end(SecretError("it was too late"))
        wait_for(lambda: _state(served, stuck) == "start_failed", "the start has failed")
        assert served.viewer.get(f"/v1/runs/{stuck}").json()["reason"] == "it was too late"
        answers.set()
        again = served.start("stuck")
        wait_for(lambda: _state(served, again) == "succeeded", "the keyring answers again")


def _state(served: Served, run: int) -> str:
    return str(served.viewer.get(f"/v1/runs/{run}").json()["state"])
