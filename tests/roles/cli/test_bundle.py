"""`make bundle`: the file installs jobfac where there is no network, and says what is missing in a sentence."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.bundle.__main__ import build, header

NO_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def run(command: Sequence[object], code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.timeout(400)  # pip installs some forty packages
def test_it_installs_without_a_network(tmp_path: Path) -> None:
    bundle = build(tmp_path / "dist", [])
    made = run([*NO_NETWORK, "sh", bundle, tmp_path / "jobfac"], PYTHON=sys.executable, PIP_NO_COMPILE="1")
    assert made.stdout.endswith("/bin/jobfac --help\n")
    database = tmp_path / "jobfac.db"
    program = [*NO_NETWORK, tmp_path / "jobfac/bin/jobfac"]
    run([*program, "db", "upgrade"], JOBFAC_DATABASE_URL=f"sqlite:///{database}")
    assert database.exists()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A bundle without its wheels."""
    path = tmp_path / "bundle.sh"
    path.write_text(header([]))
    return path


@pytest.mark.parametrize(
    ("arguments", "python", "said"),
    [
        ([], sys.executable, "Say where to install jobfac"),
        (["--help"], sys.executable, "Say where to install jobfac"),
        (["there"], "/nowhere/python", "There is no /nowhere/python here; install Python"),
        (["there"], "/bin/true", "and /bin/true is ; build one for it with make bundle"),
        (["there"], sys.executable, "is damaged or incomplete; copy it again"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(script: Path, arguments: list[str], python: str, said: str) -> None:
    assert said in run(["sh", script, *arguments], 1, PYTHON=python).stderr
    assert not (script.parent / "there").exists()


def test_it_loads_no_module_of_the_current_folder(script: Path, tmp_path: Path) -> None:
    """Root installs a bundle where it was copied to, and in /tmp anybody may have left modules."""
    for name in ("sysconfig", "ensurepip", "venv", "pip"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'hijacked')!r}, 'w')")
    with script.open("ab") as file, tarfile.open(fileobj=file, mode="w"):
        pass  # no wheels
    command = ["sh", str(script), "there"]
    environment = os.environ | {"PYTHON": sys.executable}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stderr
    assert "No matching distribution found for jobfac" in said  # so pip was asked
    assert not (tmp_path / "hijacked").exists()
