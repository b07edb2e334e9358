"""The commands of README, executed exactly, in an empty folder.

``test_first_steps`` executes such commands with the installed program.
"""

import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.roles.guide.shell import shell
from tests.support.terminal import typed

README = Path(__file__).parents[3] / "README.md"

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the tour is typed into bash")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the tour uses curl")


def console(chapter: str) -> str:
    """Return the typed lines of a chapter."""
    text = README.read_text(encoding="utf-8").partition(f"## {chapter}\n")[2].partition("\n## ")[0]
    return "".join(map(typed, re.findall(r"```console\n(.*?)```", text, re.DOTALL)))


@needs_bash
def test_the_commands_of_the_tour_work(tmp_path: Path) -> None:
    with shell(tmp_path) as bash:
        done = bash.type("exec 2>errors\n" + console("A tour of ten minutes"))
    errors = (tmp_path / "errors").read_text(encoding="utf-8")
    said = [line for line in errors.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(said)) == (0, 1), errors
    assert re.fullmatch(r"Run [34] of job 'report' was denied: .*", said[0])
    for part in ("2 added", "attempt 1 of run 2", "denied", "of 4", "IN ITS ZONE"):
        assert part in done.stdout, part


@needs_bash
@needs_curl
def test_the_curl_commands_of_the_tour_work_with_another_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    beginning = console("A tour of ten minutes").partition("jobfac worker")[0]
    four_runs = "jobfac start hello --count 4\n"
    curl = console("The same with curl").replace("8420", port)
    with shell(tmp_path, JOBFAC_API_PORT=port) as bash:
        done = bash.type("exec 2>errors\n" + beginning + four_runs + curl)
    assert done.returncode == 0, (tmp_path / "errors").read_text(encoding="utf-8")
    assert '"id":5' in done.stdout, done.stdout
    assert '"state":"succeeded"' in done.stdout, done.stdout
    assert done.stdout.endswith("hello\n"), done.stdout


def test_readme_is_short_and_its_links_are_valid() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    assert "## Guarantees\n" in text
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
