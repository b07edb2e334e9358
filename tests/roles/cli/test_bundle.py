"""`make bundle`: the file installs jobfac where there is no network, and says what is missing in a sentence."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.bundle.__main__ import archive, build, header

NO_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def run(
    command: Sequence[object], code: int = 0, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    words, environ = [str(word) for word in command], os.environ | environment
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environ, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.timeout(400)  # pip installs some forty packages
def test_it_installs_without_a_network_and_loads_no_module_of_the_current_folder(tmp_path: Path) -> None:
    """Root installs a bundle where it was copied to, and in /tmp anybody may have left modules."""
    bundle = build(tmp_path / "dist", [])
    for name in ("sysconfig", "ensurepip", "venv", "pip"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'hijacked')!r}, 'w')")
    install = [*NO_NETWORK, "sh", bundle, tmp_path / "jobfac"]
    # pip reads 0 as "do not compile", and 1 as "compile".
    made = run(install, folder=tmp_path, PYTHON=sys.executable, PIP_NO_COMPILE="0")
    assert made.stdout.endswith("/bin/jobfac --help\n")
    assert not (tmp_path / "hijacked").exists()
    database = tmp_path / "jobfac.db"
    program = [*NO_NETWORK, tmp_path / "jobfac/bin/jobfac"]
    run([*program, "db", "upgrade"], JOBFAC_DATABASE_URL=f"sqlite:///{database}")
    assert database.exists()


def test_it_replaces_another_build_of_the_same_version_and_everybody_may_read_it(tmp_path: Path) -> None:
    """pip does not reinstall the same version by itself, and root's umask may be strict."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "jobfac-0.1.0-py3-none-any.whl").touch()
    with zipfile.ZipFile(wheels / "pip-1-py3-none-any.whl", "w") as pip:
        pip.writestr("pip/__main__.py", "import sys; print(*sys.argv[1:])")
    bundle = tmp_path / "bundle.sh"
    bundle.write_bytes(header([]).encode() + archive(wheels))
    strict = ["sh", "-c", 'umask 077; exec sh "$@"', "sh"]
    first, second, _ = run([*strict, bundle, tmp_path / "there"], PYTHON=sys.executable).stdout.splitlines()
    assert first.endswith(" --upgrade jobfac pip")
    assert re.search(r" --force-reinstall --no-deps /\S+/jobfac-0.1.0-py3-none-any.whl$", second)
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755


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
