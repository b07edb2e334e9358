"""The README's tour, word for word, in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.skipif(shutil.which("bash") is None, reason="the tour is typed into bash")
def test_the_tour_works_word_for_word(tmp_path: Path) -> None:
    chapter = README.read_text(encoding="utf-8").partition("## A tour of ten minutes")[2]
    first, second = re.findall(r"```console\n(.*?)```", chapter, re.DOTALL)[:2]
    typed = re.sub(r"^\$ ", "", first + second, flags=re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(said)) == (0, 1), done.stderr
    assert re.fullmatch(r"Run [34] of job 'report' was denied: .*", said[0])
    for part in ("2 added", "attempt 1 of run 2", "denied", "of 4", "IN ITS ZONE"):
        assert part in done.stdout, part
