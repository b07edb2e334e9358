"""The shell completes jobs, runs, workers, pools and states, at home and over HTTP, and never shows an error."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from jobfac.cli import completion
from tests.support.factory import Factory
from tests.support.inprocess import InProcess

CASES = {
    "start ti": ["timed"],
    "jobs show b": ["bad"],
    "jobs rollback h": ["hello"],
    "export h": ["hello"],
    "schedule pause ": ["bad", "hello", "long", "timed", "tree"],
    "runs list --job lo": ["long"],
    "runs list --state st": ["stopping", "stopped", "start_failed"],
    "runs list --category sa": ["sales"],
    "logs ": ["2", "1"],
    "retry 1": ["1"],
    "workers drain m": ["mill"],
    "worker --pool ": ["default", "gpu"],
    "schedule back": ["backfill"],
}


def completed(factory: Factory, words: str) -> list[str]:
    typed = f"jobfac {words}"
    shell = {"_JOBFAC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    factory.environment |= shell
    done = factory.run(code=None)
    for name in shell:
        del factory.environment[name]
    assert done.stderr == ""
    return done.stdout.split()


def test_names_are_completed(remote: InProcess, sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"long": {"command": ["true"], "pool": "gpu", "category": "sales"}})
    sqlite_factory.start("hello", "--in", "1h")
    sqlite_factory.start("bad", "--in", "1h")
    sqlite_factory.worker("mill")
    for words, wanted in CASES.items():
        assert completed(sqlite_factory, words) == wanted, words
    for words in ("start ti", "logs ", "workers drain m"):
        assert completed(remote, words) == CASES[words], words


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nonsense"])
def test_without_a_database_nothing_is_completed(sqlite_factory: Factory, url: str) -> None:
    sqlite_factory.environment["JOBFAC_DATABASE_URL"] = url
    assert completed(sqlite_factory, "start ti") == []


def test_nobody_waits_long_for_completions(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "PATIENCE", 0.1)
    monkeypatch.setenv("JOBFAC_DATABASE_URL", sqlite_factory.environment["JOBFAC_DATABASE_URL"])
    answered = threading.Event()
    assert completion._read(lambda factory: answered.wait(60)) is None
    answered.set()


def test_no_name_of_a_job_is_run_by_zsh(sqlite_factory: Factory, tmp_path: Path) -> None:
    """zsh evaluates what typer prints: a backslash of the name undoes the one that typer adds."""
    name = r"""sum \$(touch ran) \`touch ran\` "x" 'y'"""
    sqlite_factory.apply({"sums": {"command": ["true"], "name": name}})
    sqlite_factory.environment |= {"_JOBFAC_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "jobfac start su"}
    printed = sqlite_factory.run(code=None).stdout.strip()
    assert printed.startswith("""_arguments '*: :(("sums":"sum """)
    # The function of zsh evaluates the words in the two brackets once more.
    shell = """_arguments() { words=${1#"*: :(("}; eval "set -- ${words%"))"}"; printf %s "$*"; }; eval "$PRINTED" """
    environment = {"PRINTED": printed, "PATH": os.defpath}
    done = subprocess.run(["bash", "-c", shell], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert not (tmp_path / "ran").exists()
    assert done.stdout.startswith("sums:sum "), done


def test_no_word_that_a_shell_would_run_is_offered() -> None:
    offers = completion.harmless(
        [("w$(id)", ""), ("a b", ""), ("`id`", ""), ("app1-w.2", "\x1b]0;x\x07 a"), ("größe", "")]
    )
    assert offers == [("app1-w.2", " ]0;x  a"), ("größe", "")]
