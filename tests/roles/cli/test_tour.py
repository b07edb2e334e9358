"""The commands of README, word for word, in an empty folder."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"


def console(chapter: str) -> str:
    """The typed lines of a chapter."""
    text = README.read_text(encoding="utf-8").partition(f"## {chapter}\n")[2].partition("\n## ")[0]
    return "".join(
        re.sub(r"^\$ ", "", block, flags=re.MULTILINE) for block in re.findall(r"```console\n(.*?)```", text, re.S)
    )


def environment(**more: str) -> dict[str, str]:
    """Without settings of jobfac, and with its commands on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | more


def type_into_bash(text: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=variables, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="the tour is typed into bash")
def test_the_tour_works_word_for_word(tmp_path: Path) -> None:
    done = type_into_bash(console("A tour of ten minutes"), tmp_path, environment())
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(said)) == (0, 1), done.stderr
    assert re.fullmatch(r"Run [34] of job 'report' was denied: .*", said[0])
    for part in ("2 added", "attempt 1 of run 2", "denied", "of 4", "IN ITS ZONE"):
        assert part in done.stdout, part


@pytest.mark.skipif(None in (shutil.which("bash"), shutil.which("curl")), reason="the tour needs bash and curl")
def test_the_tour_with_curl_works_word_for_word_but_for_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    beginning = console("A tour of ten minutes").partition("jobfac worker")[0]
    before = beginning + "for number in 1 2 3 4; do jobfac start hello; done\n"
    curl = console("The same with curl").replace("8420", port)
    done = type_into_bash(before + curl, tmp_path, environment(JOBFAC_API_PORT=port))
    assert done.returncode == 0, done.stderr
    assert '"id":5' in done.stdout, done.stdout
    assert '"state":"succeeded"' in done.stdout, done.stdout
    assert done.stdout.endswith("hello\n"), done.stdout


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    assert "## Guarantees\n" in text
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
