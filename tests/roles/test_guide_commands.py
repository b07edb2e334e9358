"""The commands of README and of the guide, word for word, each page in a folder of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobfac.guide import TOPICS, page

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.compile(r"```(yaml|console)\n(.*?)```", re.DOTALL)

PAGES = [topic for topic in TOPICS if "```console" in page(topic)]

EXPECTED = {
    "definitions": ["2 to add", "2 added", "Export orders"],
    "programs": ["half way", "working", "exit_code  0"],
    "schedules": ["3 added", "IN ITS ZONE"],
    "sequences": ["7 added", "flowchart", "repair"],
    "output": ["one line"],
    "secrets": ["token is ***"],
    "history": ["Summary"],
    "http": ["shop"],
}
"""What each page's commands print, besides other things."""


def typed(text: str) -> str:
    """The page as a script: a YAML block becomes jobs.yaml, and the lines behind a ``$`` are typed."""
    script = ["jobfac db upgrade"]
    for kind, block in BLOCKS.findall(text):
        if kind == "yaml":
            script.append(f"cat > jobs.yaml <<'END'\n{block}END")
        else:
            script.append(re.sub(r"^\$ ", "", block, flags=re.MULTILINE))
    return "set -e\n" + "\n".join(script)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are typed into bash")
@pytest.mark.parametrize("topic", PAGES)
def test_the_commands_of_a_page_work_word_for_word(topic: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", typed(page(topic))],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for part in EXPECTED.get(topic, []):
        assert part in done.stdout + done.stderr, done.stdout + done.stderr


def test_every_page_with_commands_says_what_is_expected() -> None:
    assert set(EXPECTED) == set(PAGES)
