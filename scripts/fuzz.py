"""Fuzz the readers of what others write, guided by coverage: python -m scripts.fuzz [--seconds 60] [TARGET].

Targets: `definitions` (a file of job definitions) and `report` (what a program reports). Without one, each gets its
share of the time. It needs atheris, which `make fuzz` installs. The exit code is 0 if nothing was found; a finding is
printed with its input, and the exit code is that of the fuzzer.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SAMPLES = Path("tests/unit/definitions/samples")

LONGEST = 4096
"""Bytes of an input at most."""

SLOW = 10
"""Seconds for one input, after which it counts as a hang."""


def definitions(data: bytes) -> None:
    """Definitions are read, or refused with sentences; what was read can be written and read again."""
    from jobfac import definitions as d

    said: list[str] = []
    try:
        read: d.Definitions | None = d.loads(data.decode("utf-8", "replace"))
    except d.DefinitionError as error:
        said = [str(problem) for problem in error.problems]
        read = None
    if read is None:
        assert said
        assert all(said)
    else:
        assert d.loads(d.dump(read)).jobs == read.jobs


def report(data: bytes) -> None:
    """A report is read to its end, whatever is in it, and in pieces as it grows."""
    from jobfac.worker.executions.report import LONGEST_OUTPUTS, Report

    with TemporaryDirectory() as folder:
        found = Report(Path(folder, "report"))
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            with Path(found.path).open("ab") as file:
                file.write(part)
            found.read()
        while not found.read(final=True):
            pass
        assert found.progress is None or 0.0 <= found.progress <= 1.0
        for text in (found.message, found.exit_message, found.result):
            assert text is None or len(text) <= 1000
        assert found.outputs is None or len(found.outputs.encode()) <= LONGEST_OUTPUTS
        found.close()


TARGETS: dict[str, Callable[[bytes], None]] = {"definitions": definitions, "report": report}


def fuzz(target: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target for so long. Does not return: the fuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["jobfac.definitions", "jobfac.recurrence", "jobfac.worker.executions"]):
        TARGETS[target](b"")
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOW}", f"-artifact_prefix={corpus}/"]
    seeds = [str(SAMPLES)] if target == "definitions" else []
    atheris.Setup([sys.argv[0], *options, str(corpus), *seeds], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    """Fuzz one target, or each of them in a process of its own; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=[*TARGETS])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path(".build/fuzz"), help="where found inputs are kept")
    words = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; it exists for Linux, and make fuzz installs it")
    if words.target:
        corpus = words.corpus / words.target
        corpus.mkdir(parents=True, exist_ok=True)
        fuzz(words.target, words.seconds, corpus)
    share = max(1, words.seconds // len(TARGETS))
    common = [sys.executable, "-m", "scripts.fuzz", "--seconds", str(share), "--corpus", str(words.corpus)]
    codes = [subprocess.run([*common, target], env=os.environ, check=False).returncode for target in TARGETS]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
